//! Passes: graph to graph to plan.
//!
//! The order is [`pipeline`]'s, and reads as documentation. A pass neither prints nor reads the
//! clock; the [`driver`] verifies between passes, and whoever looks on measures and prints.
//!
//! **Invariant:** knows the IRs and nothing of code generation, files or devices.

pub mod cats;
pub mod checkpoint;
pub mod chunk;
pub mod decompose;
mod depth;
pub mod desync;
pub mod differentiate;
pub mod driver;
pub mod form;
pub mod fuse;
pub mod merge;
pub mod optimizer;
pub mod options;
pub mod outcome;
pub mod pass;
pub mod pipeline;
pub mod place;
pub mod precision;
pub mod price;
mod rebuild;
pub mod reuse;
pub mod scales;
pub mod simplify;
pub mod split_products;
pub mod split_sums;
pub mod together;
