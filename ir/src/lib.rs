//! The intermediate representations of gigac as plain data, each with a text form.
//!
//! - [`pointwise`]: the scalar functions that graph and kernels share.
//! - [`kernel`]: tile programs, what code generators read.
//!
//! **Invariant:** no LLVM, no CUDA, no files, no sibling crate.

pub mod kernel;
pub mod pointwise;
