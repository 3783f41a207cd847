//! The turn: a synchronous state machine and the driver that performs its effects.
