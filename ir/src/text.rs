//! The lexical level of the text forms, in nom: white space and comments, names, numbers, strings,
//! lists, and errors with a place.

use std::fmt::Write;

use nom::character::complete::{char, digit1};
use nom::combinator::{opt, recognize};
use nom::sequence::pair;
use nom::{IResult, Parser};
use thiserror::Error;

/// Why a text cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ParseError {
    /// The error at the place where `rest` begins in `text`.
    pub(crate) fn locate(text: &str, rest: &str, message: String) -> Self {
        let before = &text[..text.len() - rest.len()];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

/// A failed parse: the text from the guilty place on, and what was expected.
#[derive(Debug)]
pub struct Fault<'a> {
    pub(crate) rest: &'a str,
    pub(crate) message: String,
}

impl<'a> nom::error::ParseError<&'a str> for Fault<'a> {
    fn from_error_kind(rest: &'a str, _: nom::error::ErrorKind) -> Self {
        Self { rest, message: "unexpected text".to_owned() }
    }

    fn append(_: &'a str, _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }

    /// Of two alternatives the one that got further is the better explanation.
    fn or(self, other: Self) -> Self {
        if self.rest.len() < other.rest.len() { self } else { other }
    }
}

/// What parsers give.
pub type Parsed<'a, T> = IResult<&'a str, T, Fault<'a>>;

/// An error at a place.
pub(crate) fn fault<T>(rest: &str, message: impl Into<String>) -> Parsed<'_, T> {
    Err(nom::Err::Error(Fault { rest, message: message.into() }))
}

/// An error that alternatives cannot hide.
pub(crate) fn fatal<T>(rest: &str, message: impl Into<String>) -> Parsed<'_, T> {
    Err(nom::Err::Failure(Fault { rest, message: message.into() }))
}

/// An error that says what should stand at a place.
pub(crate) fn expected<T>(rest: &str, what: impl std::fmt::Display) -> Parsed<'_, T> {
    fault(rest, format!("expected {what}"))
}

/// The text without leading white space and comments.
pub(crate) fn blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix(';') {
            Some(comment) => text = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return text,
        }
    }
}

/// A punctuation mark.
pub(crate) fn symbol<'a>(text: &'a str, mark: &str) -> Parsed<'a, ()> {
    let text = blank(text);
    match text.strip_prefix(mark) {
        Some(rest) => Ok((rest, ())),
        None => expected(text, format!("`{mark}`")),
    }
}

/// Whether a punctuation mark stands next; it is passed over.
pub(crate) fn accept<'a>(text: &'a str, mark: &str) -> (&'a str, bool) {
    symbol(text, mark).map_or((text, false), |(rest, ())| (rest, true))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.".contains(c)
}

/// A word of letters, digits, `_` and `.` that begins with none of the latter two kinds.
pub(crate) fn word(text: &str) -> Parsed<'_, &str> {
    let text = blank(text);
    let end = text.find(|c| !is_plain(c)).unwrap_or(text.len());
    if end == 0 || text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return expected(text, "a word");
    }
    Ok((&text[end..], &text[..end]))
}

/// Whether this word stands next; it is passed over.
pub(crate) fn accept_word<'a>(text: &'a str, wanted: &str) -> (&'a str, bool) {
    match word(text) {
        Ok((rest, found)) if found == wanted => (rest, true),
        _ => (text, false),
    }
}

/// A name: a word, or anything in quotes.
pub(crate) fn name(text: &str) -> Parsed<'_, String> {
    if blank(text).starts_with('"') {
        return string(text);
    }
    word(text).map(|(rest, word)| (rest, word.to_owned()))
}

/// The text of a name.
pub(crate) fn print_name(name: &str) -> String {
    match word(name) {
        Ok(("", whole)) if whole == name => name.to_owned(),
        _ => print_string(name),
    }
}

/// A whole number.
pub(crate) fn integer<T: std::str::FromStr>(text: &str) -> Parsed<'_, T> {
    let text = blank(text);
    match recognize(pair(opt(char::<&str, Fault<'_>>('-')), digit1)).parse(text) {
        Ok((rest, digits)) => match digits.parse() {
            Ok(number) => Ok((rest, number)),
            Err(_) => fatal(text, "this number is out of range"),
        },
        Err(_) => expected(text, "a whole number"),
    }
}

/// A number, `inf` or `NaN`.
pub(crate) fn real(text: &str) -> Parsed<'_, f64> {
    let text = blank(text);
    let inside = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let (token, rest) = text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()));
    match token.parse() {
        Ok(x) => Ok((rest, x)),
        Err(_) => expected(text, "a number"),
    }
}

/// A string in double quotes; `\` stands before `"`, `\` and, for a line break, `n`.
pub(crate) fn string(text: &str) -> Parsed<'_, String> {
    let text = blank(text);
    let Some(inside) = text.strip_prefix('"') else { return expected(text, "a string") };
    let mut out = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((&inside[at + 1..], out)),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                _ => return fault(&inside[at..], "unknown escape"),
            },
            c => out.push(c),
        }
    }
    fault(text, "this string does not end")
}

/// The text of a string.
pub(crate) fn print_string(s: &str) -> String {
    let escaped = s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Items up to a closing mark, with a separator between them.
pub(crate) fn list<'a, T>(
    text: &'a str,
    separator: &str,
    end: &str,
    mut item: impl FnMut(&'a str) -> Parsed<'a, T>,
) -> Parsed<'a, Vec<T>> {
    let mut items = Vec::new();
    let (mut rest, mut done) = accept(text, end);
    while !done {
        let (after, x) = item(rest)?;
        items.push(x);
        let (after, more) = accept(after, separator);
        if more {
            rest = after;
        } else {
            rest = symbol(after, end)?.0;
            done = true;
        }
    }
    Ok((rest, items))
}

/// Texts with a separator between them.
pub(crate) fn joined<T: std::fmt::Display>(
    separator: &str,
    items: impl IntoIterator<Item = T>,
) -> String {
    let mut out = String::new();
    for (i, item) in items.into_iter().enumerate() {
        let before = if i == 0 { "" } else { separator };
        write!(out, "{before}{item}").expect("writing to a string does not fail");
    }
    out
}
