//! Tokens, made by a nom lexer and a layout pass that decides which line breaks end a statement.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{map, opt, recognize, value};
use nom::multi::many0;
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

use crate::error::{Cause, Report};
use crate::source::Span;

/// What a token is. Its text is the source under its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name that begins with a capital.
    Axis,
    /// Any other name, keywords included.
    Name,
    /// Digits with fraction, exponent and factor.
    Number,
    /// `"…"` on one line.
    Text,
    /// Operators and brackets.
    Symbol(&'static str),
    /// A line break (or `;` outside brackets) that ends a statement.
    Break,
    /// The end of the file.
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// Longest first, so that a prefix does not shadow a longer operator.
const SYMBOLS: [&str; 28] = [
    "...", "->", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ",", ";", ":", "=", "<",
    ">", "+", "-", "*", "/", "%", "^", "&", "|", "!", "~",
];

/// Symbols after which a line always goes on.
const OPEN_ENDED: [&str; 24] = [
    "->", "==", "!=", "<=", ">=", "(", "[", "{", ",", ":", "=", "<", ">", "+", "-", "*", "/", "%",
    "^", "&", "|", "!", "~", ";",
];

/// Words that begin a declaration and can be nothing else: a line that starts with one closes forgotten brackets.
pub(crate) const DECLARING: [&str; 7] = ["axes", "const", "param", "fn", "layer", "let", "use"];

/// Splits a text, which begins at `origin` in its file, into tokens. Characters that mean nothing are reported and
/// skipped.
pub(crate) fn tokenize(text: &str, origin: Span, errors: &mut Vec<Report>) -> Vec<Token> {
    let mut raw = Vec::new();
    let mut rest = text;
    loop {
        let (after, broke) = blank(rest);
        let at = text.len() - after.len() + origin.start as usize;
        let span = |len: usize| Span { start: at as u32, end: (at + len) as u32, ..origin };
        if broke {
            raw.push(Token { kind: Kind::Break, span: span(0) });
        }
        if after.is_empty() {
            raw.push(Token { kind: Kind::End, span: span(0) });
            return layout(&raw, text, origin.start, errors);
        }
        rest = match token(after) {
            Ok((next, kind)) => {
                let len = after.len() - next.len();
                raw.push(Token { kind, span: span(len) });
                next
            }
            Err(_) => {
                let junk = junk_length(after);
                errors.push(unreadable(&after[..junk], span(junk)));
                &after[junk..]
            }
        };
    }
}

/// Skips spaces and comments; says whether a line break was among them.
fn blank(text: &str) -> (&str, bool) {
    let comment = preceded(tag("//"), take_till(|c| c == '\n'));
    let space = take_while1(char::is_whitespace);
    let skipped: IResult<&str, &str> = recognize(many0(alt((space, comment)))).parse(text);
    skipped.map_or((text, false), |(rest, skipped)| (rest, skipped.contains('\n')))
}

fn token(text: &str) -> IResult<&str, Kind> {
    alt((word, number, quoted, symbol)).parse(text)
}

fn word(text: &str) -> IResult<&str, Kind> {
    let first = take_while1(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = take_while(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let kind = |name: &str| {
        if name.starts_with(|c: char| c.is_ascii_uppercase()) { Kind::Axis } else { Kind::Name }
    };
    map(recognize(pair(first, rest)), kind).parse(text)
}

/// Letters stay attached, so that `3D` is reported as one malformed number.
fn number(text: &str) -> IResult<&str, Kind> {
    let fraction = pair(char('.'), digit1);
    let exponent = (one_of("eE"), opt(one_of("+-")), digit1);
    let tail = take_while(|c: char| c.is_ascii_alphanumeric() || c == '_');
    value(Kind::Number, (digit1, opt(fraction), opt(exponent), tail)).parse(text)
}

fn quoted(text: &str) -> IResult<&str, Kind> {
    let body = take_till(|c| c == '"' || c == '\n');
    value(Kind::Text, delimited(char('"'), body, char('"'))).parse(text)
}

fn symbol(text: &str) -> IResult<&str, Kind> {
    let found = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol));
    match found {
        Some(symbol) => Ok((&text[symbol.len()..], Kind::Symbol(symbol))),
        None => Err(nom::Err::Error(nom::error::make_error(text, nom::error::ErrorKind::Tag))),
    }
}

/// How much to skip after a character that begins no token: the rest of an open string, or the run of odd characters.
fn junk_length(text: &str) -> usize {
    if text.starts_with('"') {
        return text.find('\n').unwrap_or(text.len());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "\"_".contains(c);
    let odd = |(_, c): &(usize, char)| fits(*c) || SYMBOLS.iter().any(|s| s.starts_with(*c));
    let end = text.char_indices().skip(1).find(odd);
    end.map_or(text.len(), |(at, _)| at)
}

fn unreadable(text: &str, span: Span) -> Report {
    if text.starts_with('"') {
        return Report::new(Cause::OpenString, span, "begins here");
    }
    let shown: String = text.chars().take(12).collect();
    Report::new(Cause::Character { text: shown }, span, "not part of the language")
}

/// Drops the line breaks that do not end a statement.
struct Layout<'a> {
    text: &'a str,
    origin: u32,
    out: Vec<Token>,
    open: Vec<Token>,
}

fn layout(raw: &[Token], text: &str, origin: u32, errors: &mut Vec<Report>) -> Vec<Token> {
    let mut state = Layout { text, origin, out: Vec::with_capacity(raw.len()), open: Vec::new() };
    for (at, token) in raw.iter().enumerate() {
        match token.kind {
            Kind::Break => {
                if let Some(next) = raw.get(at + 1) {
                    state.line_break(*token, *next, errors);
                }
            }
            Kind::End => {
                state.close_round(errors);
                state.out.push(Token { kind: Kind::Break, ..*token });
                state.out.push(*token);
            }
            Kind::Symbol(symbol) => state.symbol(symbol, *token),
            _ => state.out.push(*token),
        }
    }
    state.out
}

impl Layout<'_> {
    fn word(&self, token: Token) -> &str {
        let (start, end) = (token.span.start - self.origin, token.span.end - self.origin);
        &self.text[start as usize..end as usize]
    }

    fn in_round(&self) -> bool {
        matches!(self.open.last(), Some(Token { kind: Kind::Symbol("(" | "["), .. }))
    }

    fn symbol(&mut self, symbol: &'static str, token: Token) {
        match symbol {
            "(" | "[" | "{" => self.open.push(token),
            ")" | "]" | "}" => {
                self.open.pop();
            }
            ";" if !self.in_round() => {
                self.out.push(Token { kind: Kind::Break, ..token });
                return;
            }
            _ => {}
        }
        self.out.push(token);
    }

    fn line_break(&mut self, token: Token, next: Token, errors: &mut Vec<Report>) {
        if self.in_round() {
            if !(next.kind == Kind::Name && DECLARING.contains(&self.word(next))) {
                return;
            }
            self.close_round(errors);
        }
        let goes_on = match self.out.last().map(|last| last.kind) {
            None | Some(Kind::Break) => true,
            Some(Kind::Symbol(symbol)) => OPEN_ENDED.contains(&symbol),
            Some(_) => false,
        };
        let continued = next.kind == Kind::Name && ["as", "else"].contains(&self.word(next));
        if !goes_on && !continued {
            self.out.push(token);
        }
    }

    /// Closes brackets that are still open where a statement must have ended, and reports the outermost.
    fn close_round(&mut self, errors: &mut Vec<Report>) {
        let mut outermost = None;
        while self.in_round()
            && let Some(Token { kind: Kind::Symbol(open), span }) = self.open.pop()
        {
            let close = if open == "(" { ")" } else { "]" };
            let at = self.out.last().map_or(span, |last| last.span);
            let here = Span { start: at.end, ..at };
            self.out.push(Token { kind: Kind::Symbol(close), span: here });
            outermost = Some(Report::new(Cause::Unclosed { open, close }, span, "opened here"));
        }
        errors.extend(outermost);
    }
}
