//! A paused clock for tests of sockets: it waits for the kernel before it leaps.

mod paused;

pub use paused::paused;
