//! What the code generators share: operations over LLVM's builder, pointwise functions,
//! reductions, and the conversions between memory and registers.

pub(crate) mod convert;
pub(crate) mod emit;
pub(crate) mod lanes;
pub(crate) mod noise;
pub(crate) mod pointwise;
pub(crate) mod reduce;
