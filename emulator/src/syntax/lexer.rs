//! Text → tokens (PTX ISA, "Syntax"). A dotted word such as `ld.global.v4.b32`, `%tid.x` or
//! `mbarrier::complete_tx::bytes` is one token, since no blank may stand inside it.

use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{tag, take_until, take_while, take_while_m_n, take_while1},
    character::complete::{anychar, char, multispace1, not_line_ending, one_of},
    combinator::{opt, recognize, value, verify},
    multi::many0_count,
    sequence::{delimited, pair, preceded},
};

use crate::error::{PtxError, Span};

/// One token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) span: Span,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind<'a> {
    /// Identifier, register, opcode or directive.
    Word(&'a str),
    /// Integer literal with its bits; `true` if written with a `U` suffix.
    Int(u64),
    /// Decimal literal with a point or exponent (also `8.8` of `.version`).
    Decimal(&'a str),
    /// `0f` and eight digits.
    F32(u32),
    /// `0d` and sixteen digits.
    F64(u64),
    /// Quoted text.
    Text(&'a str),
    /// One punctuation character; `<<`, `>>`, `==` and friends are read as pairs by the parser.
    Punct(char),
    /// End of the text.
    End,
}

/// All tokens of `text`, ending in [`Kind::End`].
pub(super) fn lex(text: &str) -> Result<Vec<Token<'_>>, PtxError> {
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    loop {
        rest = blank(rest).map_or(rest, |(after, ())| after);
        let start = text.len() - rest.len();
        if rest.is_empty() {
            tokens.push(Token { kind: Kind::End, span: Span::new(start, start) });
            return Ok(tokens);
        }
        let (after, kind) = token(rest).map_err(|_| {
            let width = rest.chars().next().map_or(0, char::len_utf8);
            PtxError::new(text, Span::new(start, start + width), unreadable(rest))
        })?;
        tokens.push(Token { kind, span: Span::new(start, text.len() - after.len()) });
        rest = after;
    }
}

fn unreadable(rest: &str) -> String {
    match rest.chars().next() {
        Some('"') => "this quoted text has no end".into(),
        Some('/') => "this comment has no end".into(),
        Some(c) if c.is_ascii_digit() => "this number is malformed or too large".into(),
        Some(c) => format!("unexpected character {c:?}"),
        None => "unexpected end".into(),
    }
}

/// Blanks, comments and preprocessor lines.
fn blank(input: &str) -> IResult<&str, ()> {
    let line = recognize(pair(alt((tag("//"), tag("#"))), not_line_ending));
    let block = recognize((tag("/*"), take_until("*/"), tag("*/")));
    value((), many0_count(alt((multispace1, tag("\0"), line, block)))).parse(input)
}

fn token(input: &str) -> IResult<&str, Kind<'_>> {
    alt((word, number, text, punct)).parse(input)
}

fn word(input: &str) -> IResult<&str, Kind<'_>> {
    let first = one_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_$%.");
    // Directives may stand without a blank between them, as in `.reg.b32`.
    let directive = input.starts_with('.');
    let plain = take_while1(move |c: char| {
        c.is_ascii_alphanumeric() || "_$%".contains(c) || c == '.' && !directive
    });
    let scope = recognize((
        tag("::"),
        verify(anychar::<&str, _>, |c| c.is_ascii_alphanumeric() || *c == '_'),
    ));
    let body = many0_count(alt((plain, scope)));
    let (rest, name) = recognize(pair(first, body)).parse(input)?;
    if name == "%" || name == "." {
        return Ok((rest, Kind::Punct(if name == "%" { '%' } else { '.' })));
    }
    Ok((rest, Kind::Word(name)))
}

fn number(input: &str) -> IResult<&str, Kind<'_>> {
    alt((float_bits, decimal, integer)).parse(input)
}

/// `0f3F800000` and `0d3FF0000000000000`.
fn float_bits(input: &str) -> IResult<&str, Kind<'_>> {
    let hex = |n| take_while_m_n(n, n, |c: char| c.is_ascii_hexdigit());
    let single = preceded(alt((tag("0f"), tag("0F"))), hex(8))
        .map_res(|d: &str| u32::from_str_radix(d, 16).map(Kind::F32));
    let double = preceded(alt((tag("0d"), tag("0D"))), hex(16))
        .map_res(|d: &str| u64::from_str_radix(d, 16).map(Kind::F64));
    alt((single, double)).parse(input)
}

/// `1.5`, `2.`, `3e-4`.
fn decimal(input: &str) -> IResult<&str, Kind<'_>> {
    let digits = || take_while1(|c: char| c.is_ascii_digit());
    let exponent = || recognize((one_of("eE"), opt(one_of("+-")), digits()));
    let fraction =
        recognize((digits(), char('.'), take_while(|c: char| c.is_ascii_digit()), opt(exponent())));
    alt((fraction, recognize((digits(), exponent())))).map(Kind::Decimal).parse(input)
}

fn integer(input: &str) -> IResult<&str, Kind<'_>> {
    let radix = |radix| move |d: &str| u64::from_str_radix(d, radix).map(Kind::Int);
    let hex = preceded(alt((tag("0x"), tag("0X"))), take_while1(|c: char| c.is_ascii_hexdigit()))
        .map_res(radix(16));
    let binary = preceded(alt((tag("0b"), tag("0B"))), take_while1(|c| c == '0' || c == '1'))
        .map_res(radix(2));
    let octal = preceded(char('0'), take_while1(|c| ('0'..='7').contains(&c))).map_res(radix(8));
    let plain = take_while1(|c: char| c.is_ascii_digit()).map_res(radix(10));
    let (rest, kind) = alt((hex, binary, octal, plain)).parse(input)?;
    Ok((rest.strip_prefix('U').unwrap_or(rest), kind))
}

fn text(input: &str) -> IResult<&str, Kind<'_>> {
    let quoted = recognize(many0_count(alt((
        recognize((char('\\'), anychar)),
        take_while1(|c| c != '"' && c != '\\'),
    ))));
    delimited(char('"'), quoted, char('"')).map(Kind::Text).parse(input)
}

fn punct(input: &str) -> IResult<&str, Kind<'_>> {
    one_of("{}[]()<>,;:=+-*/|&^~!?@").map(Kind::Punct).parse(input)
}
