//! What can go wrong between a kernel and its code.

use thiserror::Error;

/// Why kernels could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodegenError {
    /// This machine lacks instructions that every target uses.
    #[error("this CPU lacks {missing}, without which kernels are not compiled")]
    Host {
        /// Features that are missing.
        missing: String,
    },
    /// A kernel uses a combination that the lowering does not know.
    #[error("kernel `{kernel}`: {what}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// What is not supported.
        what: String,
    },
    /// The code of a kernel calls something outside the image.
    #[error("kernel `{kernel}` needs the symbol `{symbol}`, which an image does not have")]
    Symbol {
        /// The kernel whose code has the reference; the nearest one before it.
        kernel: String,
        /// What it refers to.
        symbol: String,
    },
    /// LLVM refused a module, or made an object that the linker does not understand.
    #[error("LLVM: {0}")]
    Llvm(String),
}
