//! Both services on a desk: up, ask, check, schema.
