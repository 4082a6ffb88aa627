//! Passes: graph to graph to plan.
//!
//! The order is [`pipeline`]'s, and reads as documentation. A pass neither prints nor reads the
//! clock; the driver verifies, times and prints between passes.
//!
//! **Invariant:** knows the IRs and nothing of code generation, files or devices.

pub mod chunk;
pub mod decompose;
pub mod differentiate;
pub mod form;
pub mod optimizer;
pub mod pipeline;
pub mod place;
pub mod price;
mod rebuild;
pub mod simplify;
