//! Simplification: exact rewrites that make graphs smaller and never change a result's bits.

mod dead;

pub use dead::dead;
