//! PTX text → [`ast`]. Lexing is nom over the text, parsing descends over the tokens.
//!
//! Invariant: any bytes give a tree or a [`crate::PtxError`], never a panic.

pub mod ast;
mod expression;
mod lexer;
mod parser;

pub use parser::parse;
