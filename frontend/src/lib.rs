//! The `.giga` language: model text in, checked graph and diagnostics out.
//!
//! [`compile`] is the only door: it parses, expands the functions, checks axes and kinds, and builds the forward graph.
//!
//! **Invariant:** no optimisation and no IO; parsing gives a tree *and* all errors, it never gives up.

mod check;
mod compile;
mod diagnostic;
mod error;
mod number;
mod source;
mod syntax;

pub use compile::{Mode, Model, PRELUDE, compile};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use source::{Source, SourceMap, Span};
