//! Faults at any count: each scenario does to a running gateway what a bad day does, counts what really happened, and
//! counts what should not have.
//!
//! The `soak` program runs them at full count and the tests at a small one; it is the same code. Each scenario can be
//! spoiled on purpose, on the side of the harness, to show that it would see the fault.

pub mod attacks;
pub mod cancel;
pub mod cut;
pub mod drain;
pub mod frames;
pub mod kill;
pub mod overload;
pub mod relay;
pub mod reload;
pub mod report;
pub mod rolling;
pub mod row;
pub mod scale;
pub mod slow;
pub mod socket;
pub mod tokens;

mod answer;
mod balancer;
mod caller;
mod configured;
mod gauges;
mod kernel;
mod replica;
mod spoiler;
mod upstream;
mod vitals;
