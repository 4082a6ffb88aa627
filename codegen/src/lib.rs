//! Kernel IR to machine code through LLVM.
//!
//! - [`x86`]: kernels for CPUs, linked here into one position-independent blob of bytes.
//! - [`nvptx`]: kernels for NVIDIA GPUs, as PTX text.
//!
//! Goals, in this order: the code computes what the kernel says, bit for bit the same on every
//! run of the compiler; it is fast; it compiles quickly.
//!
//! **Invariant:** the only crate that knows LLVM; it decides nothing about the step.

mod alias;
mod error;
mod llvm;
pub mod nvptx;
mod pattern;
pub mod x86;

pub use error::CodegenError;
