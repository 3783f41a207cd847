//! What is said of wrong tables.
