//! The states of a model: initial values, names in files, import and export.

pub mod initial;
pub mod random;
pub mod stored;
pub mod tensors;
pub mod transfer;
