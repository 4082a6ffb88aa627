//! passes

pub mod differentiate;
pub mod simplify;
