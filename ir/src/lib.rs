//! The intermediate representations of gigac as plain data, each with a text form.
//!
//! - [`graph`]: typed SSA over named axes, what passes rewrite; its operations stand in [`ops`].
//! - [`kernel`]: tile programs, what code generators read.
//! - [`plan`]: launches and addresses, what executors read.
//! - [`pointwise`]: the scalar functions that graph and kernels share; [`philox`]: their randomness.
//! - [`interpret`]: what a graph means, slowly and in f64.
//!
//! **Invariant:** no LLVM, no CUDA, no files, no sibling crate.

pub mod graph;
pub mod interpret;
pub mod kernel;
pub mod ops;
pub mod philox;
pub mod plan;
pub mod pointwise;
pub mod tensor;
pub mod text;
pub mod train;
