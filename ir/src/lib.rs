//! The intermediate representations of gigac as plain data, each with a text form.
//!
//! - [`graph`]: typed SSA over named axes, what passes rewrite; its operations stand in [`ops`].
//! - [`kernel`]: tile programs, what code generators read.
//! - [`image`]: machine code, what executors call.
//! - [`plan`]: launches and addresses, what executors read; [`program`]: plans and code together.
//! - [`pointwise`]: the scalar functions that graph and kernels share; [`philox`]: their randomness.
//! - [`interpret`]: what a graph means, slowly and in f64.
//!
//! **Invariant:** no LLVM, no CUDA, no files, no sibling crate.

mod bindings;
pub mod graph;
pub mod image;
pub mod interpret;
pub mod kernel;
pub mod math;
pub mod nearest;
pub mod ops;
pub mod philox;
pub mod plan;
pub mod plan_verify;
pub mod pointwise;
pub mod program;
pub mod tensor;
pub mod text;
pub mod train;
