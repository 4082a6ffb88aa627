//! Tokens as a nom input, with the error type and the small parsers that match single tokens.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use nom::error::{ErrorKind, ParseError};
use nom::{IResult, Input, Needed};

use super::ast::{Ident, Text};
use super::token::{DECLARING, Kind, Token};
use crate::error::{Cause, Report};
use crate::source::Span;

/// How deep brackets and operators may nest.
pub(crate) const MAX_DEPTH: u32 = 64;

/// What all positions of one parse share.
pub(crate) struct State<'a> {
    text: &'a str,
    /// Where the text begins in its file.
    origin: u32,
    pub(crate) errors: RefCell<Vec<Report>>,
    furthest: RefCell<Furthest>,
    depth: Cell<u32>,
}

/// The rightmost token at which a parser failed, and everything that would have been accepted there.
#[derive(Default)]
struct Furthest {
    at: u32,
    expected: BTreeSet<String>,
}

impl<'a> State<'a> {
    pub(crate) fn new(text: &'a str, origin: Span, errors: Vec<Report>) -> State<'a> {
        State {
            text,
            origin: origin.start,
            errors: RefCell::new(errors),
            furthest: RefCell::default(),
            depth: Cell::new(0),
        }
    }

    /// The text under a span.
    pub(crate) fn slice(&self, span: Span) -> &'a str {
        &self.text[(span.start - self.origin) as usize..(span.end - self.origin) as usize]
    }

    /// Whether a line begins at a span.
    pub(crate) fn begins_line(&self, span: Span) -> bool {
        let before = (span.start - self.origin) as usize;
        before == 0 || self.text.as_bytes()[before - 1] == b'\n'
    }

    pub(crate) fn report(&self, report: Report) {
        self.errors.borrow_mut().push(report);
    }
}

/// The tokens that are left.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) list: &'a [Token],
    pub(crate) state: &'a State<'a>,
}

/// A failed parse. What was expected is kept in [`State`], because alternatives add to it.
#[derive(Debug)]
pub(crate) struct Fail;

impl<'a> ParseError<Tokens<'a>> for Fail {
    fn from_error_kind(_: Tokens<'a>, _: ErrorKind) -> Fail {
        Fail
    }
    fn append(_: Tokens<'a>, _: ErrorKind, other: Fail) -> Fail {
        other
    }
}

pub(crate) type Parsed<'a, T> = IResult<Tokens<'a>, T, Fail>;

impl<'a> Input for Tokens<'a> {
    type Item = &'a Token;
    type Iter = std::slice::Iter<'a, Token>;
    type IterIndices = std::iter::Enumerate<std::slice::Iter<'a, Token>>;

    fn input_len(&self) -> usize {
        self.list.len()
    }
    fn take(&self, index: usize) -> Self {
        Tokens { list: &self.list[..index], ..*self }
    }
    fn take_from(&self, index: usize) -> Self {
        Tokens { list: &self.list[index..], ..*self }
    }
    fn take_split(&self, index: usize) -> (Self, Self) {
        (self.take_from(index), self.take(index))
    }
    fn position<P: Fn(Self::Item) -> bool>(&self, predicate: P) -> Option<usize> {
        self.list.iter().position(predicate)
    }
    fn iter_elements(&self) -> Self::Iter {
        self.list.iter()
    }
    fn iter_indices(&self) -> Self::IterIndices {
        self.list.iter().enumerate()
    }
    fn slice_index(&self, count: usize) -> Result<usize, Needed> {
        if count <= self.list.len() { Ok(count) } else { Err(Needed::Unknown) }
    }
}

impl<'a> Tokens<'a> {
    /// The next token; the list always ends with [`Kind::End`], which is never consumed.
    pub(crate) fn first(&self) -> Token {
        self.list[0]
    }

    pub(crate) fn rest(self) -> Tokens<'a> {
        let skip = usize::from(self.list.len() > 1);
        Tokens { list: &self.list[skip..], ..self }
    }

    pub(crate) fn text(&self, token: Token) -> &'a str {
        self.state.slice(token.span)
    }

    pub(crate) fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.first().kind, Kind::Symbol(found) if found == symbol)
    }

    pub(crate) fn at_word(&self, word: &str) -> bool {
        self.first().kind == Kind::Name && self.text(self.first()) == word
    }

    /// Notes what would have been accepted here, and fails.
    pub(crate) fn expected<T>(self, what: &str) -> Parsed<'a, T> {
        let mut furthest = self.state.furthest.borrow_mut();
        let at = self.first().span.start;
        if at > furthest.at {
            *furthest = Furthest { at, ..Furthest::default() };
        }
        if at == furthest.at {
            furthest.expected.insert(what.to_string());
        }
        Err(nom::Err::Error(Fail))
    }

    /// Reports an error and gives up on the statement.
    pub(crate) fn give_up<T>(self, report: Report) -> Parsed<'a, T> {
        self.state.report(report);
        Err(nom::Err::Failure(Fail))
    }

    /// Runs a parser one level deeper; past the limit it gives up.
    pub(crate) fn deeper<T>(
        self,
        parser: impl FnOnce(Tokens<'a>) -> Parsed<'a, T>,
    ) -> Parsed<'a, T> {
        let depth = self.state.depth.get();
        if depth >= MAX_DEPTH {
            let cause = Cause::TooDeep { limit: MAX_DEPTH };
            return self.give_up(Report::new(cause, self.first().span, "nested too deep here"));
        }
        self.state.depth.set(depth + 1);
        let result = parser(self);
        self.state.depth.set(depth);
        result
    }

    /// Reports that the statement here does not parse: the rightmost failure and what would have fitted. Says nothing
    /// when an error in front of it explains the failure.
    pub(crate) fn syntax_error(self) {
        let furthest = self.state.furthest.take();
        let from = self.first().span.start.max(furthest.at);
        let place = self.list.iter().find(|token| token.span.start >= from);
        let token = place.copied().unwrap_or(self.first());
        let found = match token.kind {
            Kind::End => "the end of the file".to_string(),
            Kind::Break => "the end of the line".to_string(),
            _ => format!("`{}`", self.text(token)),
        };
        let expected = Vec::from_iter(furthest.expected).join(", ");
        let statement = self.first().span.start..=token.span.start;
        let known = self
            .state
            .errors
            .borrow()
            .iter()
            .any(|error| error.labels.iter().any(|(span, _)| statement.contains(&span.start)));
        if !known {
            let cause = Cause::Syntax { expected, found };
            self.state.report(Report::new(cause, token.span, "not expected here"));
        }
    }

    pub(crate) fn reset_furthest(self) {
        self.state.furthest.take();
    }
}

/// A parser for one operator or bracket.
pub(crate) fn symbol<'a>(symbol: &'static str) -> impl Fn(Tokens<'a>) -> Parsed<'a, Span> {
    move |input| {
        if input.at_symbol(symbol) {
            return Ok((input.rest(), input.first().span));
        }
        input.expected(&format!("`{symbol}`"))
    }
}

/// A parser for one word with a meaning of its own.
pub(crate) fn word<'a>(word: &'static str) -> impl Fn(Tokens<'a>) -> Parsed<'a, Span> {
    move |input| {
        if input.at_word(word) {
            return Ok((input.rest(), input.first().span));
        }
        input.expected(&format!("`{word}`"))
    }
}

/// Words that cannot name a value.
fn reserved(name: &str) -> bool {
    DECLARING.contains(&name) || ["if", "else", "as"].contains(&name)
}

/// A name that begins with a small letter.
pub(crate) fn name(input: Tokens<'_>) -> Parsed<'_, Ident> {
    let token = input.first();
    let text = input.text(token);
    if token.kind == Kind::Name && !reserved(text) {
        return Ok((input.rest(), Ident { name: text.to_string(), span: token.span }));
    }
    input.expected("a name")
}

/// A name that begins with a capital.
pub(crate) fn axis(input: Tokens<'_>) -> Parsed<'_, Ident> {
    let token = input.first();
    if token.kind == Kind::Axis {
        let name = input.text(token).to_string();
        return Ok((input.rest(), Ident { name, span: token.span }));
    }
    input.expected("an axis")
}

/// A quoted string; its span excludes the quotes.
pub(crate) fn text(input: Tokens<'_>) -> Parsed<'_, Text> {
    let token = input.first();
    if token.kind != Kind::Text {
        return input.expected("a string in quotes");
    }
    let span = Span { start: token.span.start + 1, end: token.span.end - 1, ..token.span };
    let value = input.state.slice(span).to_string();
    Ok((input.rest(), Text { value, span }))
}

/// The end of a statement: a line break, or a closing brace that is left in place.
pub(crate) fn statement_end(input: Tokens<'_>) -> Parsed<'_, ()> {
    match input.first().kind {
        Kind::Break => Ok((input.rest(), ())),
        Kind::Symbol("}") | Kind::End => Ok((input, ())),
        _ => input.expected("the end of the line"),
    }
}

/// The end of the text.
pub(crate) fn end(input: Tokens<'_>) -> Parsed<'_, ()> {
    match input.first().kind {
        Kind::End => Ok((input, ())),
        _ => input.expected("the end"),
    }
}
