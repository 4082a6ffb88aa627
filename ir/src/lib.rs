//! The intermediate representations of gigac as plain data, each with a text form.
//!
//! - [`graph`]: typed SSA over named axes, what passes rewrite; its operations stand in [`ops`].
//! - [`kernel`]: tile programs, what code generators read.
//! - [`plan`]: launches and addresses, what executors read.
//! - [`pointwise`]: the scalar functions that graph and kernels share.
//!
//! **Invariant:** no LLVM, no CUDA, no files, no sibling crate.

pub mod graph;
pub mod kernel;
pub mod ops;
pub mod plan;
pub mod pointwise;
pub mod train;
