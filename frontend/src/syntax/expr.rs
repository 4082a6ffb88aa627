//! Expressions: precedence climbing over a postfix atom.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{map, opt};
use nom::multi::{many0, separated_list0, separated_list1};
use nom::sequence::{delimited, preceded, terminated};

use super::ast::*;
use super::item::block;
use super::stream::*;
use super::token::Kind;
use crate::error::{Cause, Report};
use crate::number;
use crate::source::{Cover, Span};

/// Operators by binding strength, weakest first. Comparisons do not chain.
const LEVELS: [&[BinaryOp]; 5] = {
    use BinaryOp::*;
    [&[Or], &[And], &[Eq, Ne, Le, Ge, Lt, Gt], &[Add, Sub], &[Mul, Div, Rem]]
};
const COMPARE: usize = 2;

/// Trees may be higher than brackets nest, because `a + b + c + …` leans to the left.
const MAX_HEIGHT: u32 = 256;

pub(crate) fn expr(input: Tokens<'_>) -> Parsed<'_, Expr> {
    input.deeper(|input| binary(input, 0))
}

/// Builds a node, unless the tree grows too high.
fn node(input: Tokens<'_>, kind: ExprKind, span: Span, below: u32) -> Result<Expr, nom::Err<Fail>> {
    if below >= MAX_HEIGHT {
        let report = Report::new(Cause::TooDeep { limit: MAX_HEIGHT }, span, "this expression");
        input.state.report(report);
        return Err(nom::Err::Failure(Fail));
    }
    Ok(Expr { kind, span, height: below + 1 })
}

fn binary(input: Tokens<'_>, level: usize) -> Parsed<'_, Expr> {
    let (mut input, mut left) = sign(input)?;
    loop {
        let Some((found, op)) = operator(input, level) else {
            return Ok((input, left));
        };
        let (after, right) = binary(input.rest(), found + 1)?;
        if found == COMPARE && operator(after, COMPARE).is_some_and(|(next, _)| next == COMPARE) {
            let report =
                Report::new(Cause::ChainedComparison, after.first().span, "second comparison");
            return after.give_up(report);
        }
        let (span, height) = (left.span.to(right.span), left.height.max(right.height));
        let kind = ExprKind::Binary(op, Box::new(left), Box::new(right));
        left = node(input, kind, span, height)?;
        input = after;
    }
}

/// The binary operator here, if it binds at least as strongly as `level`.
fn operator(input: Tokens<'_>, level: usize) -> Option<(usize, BinaryOp)> {
    let Kind::Symbol(symbol) = input.first().kind else {
        return None;
    };
    let levels = LEVELS.iter().enumerate().skip(level);
    let mut all = levels.flat_map(|(at, ops)| ops.iter().map(move |op| (at, *op)));
    all.find(|(_, op)| op.symbol() == symbol)
}

fn sign(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let op = match input.first().kind {
        Kind::Symbol("-") => UnaryOp::Neg,
        Kind::Symbol("!") => UnaryOp::Not,
        _ => return power(input),
    };
    let start = input.first().span;
    let (after, value) = input.rest().deeper(sign)?;
    let (span, height) = (start.to(value.span), value.height);
    Ok((after, node(input, ExprKind::Unary(op, Box::new(value)), span, height)?))
}

/// `a ^ b`, to the right: the exponent may carry a sign and another power.
fn power(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (after, base) = postfix(input)?;
    if !after.at_symbol("^") {
        return Ok((after, base));
    }
    let (after, exponent) = after.rest().deeper(sign)?;
    let (span, height) = (base.span.to(exponent.span), base.height.max(exponent.height));
    let kind = ExprKind::Binary(BinaryOp::Pow, Box::new(base), Box::new(exponent));
    Ok((after, node(input, kind, span, height)?))
}

fn postfix(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (mut input, mut value) = atom(input)?;
    while input.at_symbol("[") {
        let (after, step) = input.rest().deeper(|input| alt((index, reshape)).parse(input))?;
        let (after, close) = symbol("]")(after)?;
        let span = value.span.to(close);
        let (kind, height) = match step {
            Step::Index(axis, at) => {
                let height = value.height.max(at.height);
                (ExprKind::Index { value: Box::new(value), axis, at: Box::new(at) }, height)
            }
            Step::Reshape(from, to) => {
                let height = value.height;
                (ExprKind::Reshape { value: Box::new(value), from, to }, height)
            }
        };
        value = node(input, kind, span, height)?;
        input = after;
    }
    Ok((input, value))
}

enum Step {
    Index(Ident, Expr),
    Reshape(Vec<Ident>, Vec<Ident>),
}

fn index(input: Tokens<'_>) -> Parsed<'_, Step> {
    let (input, axis) = terminated(axis, symbol("=")).parse(input)?;
    let (input, at) = expr(input)?;
    Ok((input, Step::Index(axis, at)))
}

fn reshape(input: Tokens<'_>) -> Parsed<'_, Step> {
    let (input, from) = terminated(group, symbol("->")).parse(input)?;
    let (input, to) = group(input)?;
    Ok((input, Step::Reshape(from, to)))
}

/// `A * B * C`
pub(crate) fn group(input: Tokens<'_>) -> Parsed<'_, Vec<Ident>> {
    separated_list1(symbol("*"), axis).parse(input)
}

fn atom(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let token = input.first();
    match token.kind {
        Kind::Number => literal(input),
        Kind::Axis => {
            let kind = ExprKind::Axis(input.text(token).to_string());
            Ok((input.rest(), node(input, kind, token.span, 0)?))
        }
        Kind::Symbol("(") => parenthesised(input),
        Kind::Name if input.at_word("if") => condition(input),
        Kind::Name => {
            let (after, name) = name(input)?;
            if after.at_symbol("(") {
                return call_node(after, name);
            }
            let kind = ExprKind::Name(name.name);
            Ok((after, node(input, kind, name.span, 0)?))
        }
        _ => input.expected("a value"),
    }
}

fn literal(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let token = input.first();
    let text = input.text(token);
    let kind = match number::parse(text) {
        Some(value) => ExprKind::Number(value),
        None => {
            let cause = Cause::Number { text: text.to_string() };
            input.state.report(Report::new(cause, token.span, "not a number"));
            ExprKind::Broken
        }
    };
    Ok((input.rest(), node(input, kind, token.span, 0)?))
}

/// `(e)` is `e`; `(a, b)` is a tuple.
fn parenthesised(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (after, open) = symbol("(")(input)?;
    let (after, mut items) = separated_list1(symbol(","), expr).parse(after)?;
    let (after, close) = symbol(")")(after)?;
    let span = open.to(close);
    if items.len() == 1
        && let Some(only) = items.pop()
    {
        return Ok((after, Expr { span, ..only }));
    }
    let height = items.iter().map(|item| item.height).max().unwrap_or(0);
    Ok((after, node(input, ExprKind::Tuple(items), span, height)?))
}

fn condition(input: Tokens<'_>) -> Parsed<'_, Expr> {
    let (after, start) = word("if")(input)?;
    let (after, condition) = expr(after)?;
    let (after, then) = input_block(after)?;
    let (after, _) = word("else")(after)?;
    let (after, otherwise) =
        if after.at_word("if") { else_if(after)? } else { input_block(after)? };
    let span = start.to(otherwise.result.span);
    let heights = [&condition, &then.result, &otherwise.result].map(|part| part.height);
    let height = heights.into_iter().max().unwrap_or(0);
    let kind = ExprKind::If(Box::new(If { condition, then, otherwise }));
    Ok((after, node(input, kind, span, height)?))
}

fn input_block(input: Tokens<'_>) -> Parsed<'_, Block> {
    input.deeper(block)
}

/// `else if …` is an `else` block with one expression.
fn else_if(input: Tokens<'_>) -> Parsed<'_, Block> {
    let (after, result) = input.deeper(condition)?;
    Ok((after, Block { statements: Vec::new(), result }))
}

fn call_node(input: Tokens<'_>, name: Ident) -> Parsed<'_, Expr> {
    let start = name.span;
    let (after, (call, end)) = input.deeper(|input| arguments(input, name))?;
    let height = call.args.iter().map(|arg| arg.value.height).max().unwrap_or(0);
    let kind = ExprKind::Call(Box::new(call));
    Ok((after, node(input, kind, start.to(end), height)?))
}

/// `(values; axes)` after a name.
pub(crate) fn arguments(input: Tokens<'_>, name: Ident) -> Parsed<'_, (Call, Span)> {
    let (input, _) = symbol("(")(input)?;
    let (input, args) = separated_list0(symbol(","), arg).parse(input)?;
    let axes = preceded(symbol(";"), separated_list0(symbol(","), axis_arg));
    let (input, axes) = opt(axes).parse(input)?;
    let (input, end) = symbol(")")(input)?;
    Ok((input, (Call { name, args, axes }, end)))
}

fn arg(input: Tokens<'_>) -> Parsed<'_, Arg> {
    let (input, name) = opt(terminated(name, symbol("="))).parse(input)?;
    let (input, value) = expr(input)?;
    Ok((input, Arg { name, value }))
}

fn axis_arg(input: Tokens<'_>) -> Parsed<'_, AxisArg> {
    let start = input.first().span;
    let (input, first) = axis_part(input)?;
    let (input, more) = many0(preceded(symbol("+"), axis_part)).parse(input)?;
    let (input, _) = opt(symbol("...")).parse(input)?;
    let (input, to) = opt(preceded(symbol("->"), axis)).parse(input)?;
    let parts: Vec<_> = std::iter::once(first).chain(more).collect();
    let last = parts.iter().flatten().chain(&to).last();
    let span = last.map_or(start, |last| start.to(last.span));
    Ok((input, AxisArg { parts, to, span }))
}

fn axis_part(input: Tokens<'_>) -> Parsed<'_, Option<Ident>> {
    let token = input.first();
    if token.kind == Kind::Number && input.text(token) == "1" {
        return Ok((input.rest(), None));
    }
    map(axis, Some).parse(input)
}

/// `(a, b)` of constants, as initialisers take them.
pub(crate) fn plain_arguments(input: Tokens<'_>) -> Parsed<'_, Vec<Expr>> {
    delimited(symbol("("), separated_list0(symbol(","), expr), symbol(")")).parse(input)
}
