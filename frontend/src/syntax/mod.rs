//! From text to tree. Parsing returns the tree *and* all errors; it never gives up on a file.

pub(crate) mod ast;
mod expr;
mod item;
mod stream;
mod token;
mod train;

use crate::error::{Cause, Report};
use crate::source::Span;
use ast::{Expr, ExprKind, Item};
use stream::{State, Tokens};

/// Larger texts are refused: no model needs them, and spans count bytes in 32 bits.
const MAX_TEXT: usize = 4 << 20;

/// What parsing a file gives.
pub(crate) struct File {
    pub(crate) items: Vec<Item>,
    /// Statements that could not be read; the names in them may be declared there.
    pub(crate) skipped: Vec<Span>,
    pub(crate) errors: Vec<Report>,
}

/// Parses a file.
pub(crate) fn parse_file(text: &str, file: u32) -> File {
    if text.len() > MAX_TEXT {
        let span = Span { source: file, start: 0, end: 0 };
        let errors = vec![Report::new(Cause::TooLong { limit: MAX_TEXT }, span, "this file")];
        return File { items: Vec::new(), skipped: Vec::new(), errors };
    }
    let mut errors = Vec::new();
    let origin = Span { source: file, start: 0, end: 0 };
    let list = token::tokenize(text, origin, &mut errors);
    let state = State::new(text, origin, errors);
    let (items, skipped) = item::file(Tokens { list: &list, state: &state });
    File { items, skipped, errors: state.errors.into_inner() }
}

/// Parses a single expression that is a text of its own, such as the value of a `--set`.
pub(crate) fn parse_expr(text: &str, file: u32) -> (Expr, Vec<Report>) {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    parse_expr_at(&text[..end], Span { source: file, start: 0, end: end as u32 })
}

/// Parses an expression that stands at `place` inside a larger text.
pub(crate) fn parse_expr_at(text: &str, place: Span) -> (Expr, Vec<Report>) {
    let mut errors = Vec::new();
    let origin = Span { end: place.start, ..place };
    let list = token::tokenize(text, origin, &mut errors);
    let state = State::new(text, origin, errors);
    let input = Tokens { list: &list, state: &state };
    let parsed = expr::expr(input).and_then(|(rest, value)| {
        stream::statement_end(rest).and_then(|(rest, ())| stream::end(rest).map(|_| value))
    });
    let value = parsed.unwrap_or_else(|_| {
        if state.errors.borrow().is_empty() {
            input.syntax_error();
        }
        Expr { kind: ExprKind::Broken, span: place, height: 0 }
    });
    (value, state.errors.into_inner())
}
