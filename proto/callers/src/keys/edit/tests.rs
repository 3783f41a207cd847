//! Editing the keys file.
