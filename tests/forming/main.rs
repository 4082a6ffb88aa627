//! What becomes of the parts of a decoder: models in the language through all passes, and the
//! launches that are left of them.

mod gates;
mod losses;
mod norms;
mod optimizer;
mod projections;
mod rotations;
mod support;
