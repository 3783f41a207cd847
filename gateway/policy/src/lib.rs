//! Who may call what: rules and a request in, a verdict out.
//!
//! Pure: no clock, no network, no file. What is not denied by a rule is allowed within the limits that the verdict names.
