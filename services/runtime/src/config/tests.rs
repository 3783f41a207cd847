//! Golden texts of configuration errors.
