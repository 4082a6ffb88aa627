//! Declarations, statements and blocks. A statement that does not parse is reported and skipped, so that the rest of
//! the file is still read.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{map, opt};
use nom::multi::{separated_list0, separated_list1};
use nom::sequence::{delimited, pair, preceded, terminated};

use super::ast::*;
use super::expr::{expr, group, plain_arguments};
use super::stream::*;
use super::token::Kind;
use super::train::train;
use crate::error::{Cause, Report};
use crate::source::{Cover, Span};

/// Words that begin an item. Except for those the layout knows, they are only special at the start of a line.
const ITEMS: [&str; 13] = [
    "model", "use", "axes", "const", "param", "fn", "layer", "input", "let", "loss", "metric",
    "output", "train",
];

/// Statements a block may hold before its result.
const STATEMENTS: [&str; 4] = ["let", "axes", "const", "param"];

/// A whole file, and the spans of the statements that could not be read.
pub(crate) fn file(mut input: Tokens<'_>) -> (Vec<Item>, Vec<Span>) {
    let (mut items, mut skipped) = (Vec::new(), Vec::new());
    loop {
        match input.first().kind {
            Kind::End => return (items, skipped),
            Kind::Break => input = input.rest(),
            _ => match recovering(terminated(item, statement_end)).parse(input) {
                Ok((rest, Ok(item))) => {
                    items.push(item);
                    input = progress(input, rest);
                }
                Ok((rest, Err(span))) => {
                    skipped.push(span);
                    input = progress(input, rest);
                }
                Err(_) => return (items, skipped),
            },
        }
    }
}

/// Steps over a stray closing brace, at which a statement ends without consuming it.
fn progress<'a>(before: Tokens<'a>, after: Tokens<'a>) -> Tokens<'a> {
    let stuck = after.at_symbol("}") || after.list.len() == before.list.len();
    if stuck { after.rest() } else { after }
}

/// Runs a parser; where it fails, reports, skips the statement and gives the skipped span instead.
fn recovering<'a, T>(
    mut parser: impl Parser<Tokens<'a>, Output = T, Error = Fail>,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, Result<T, Span>> {
    move |input| {
        input.reset_furthest();
        match parser.parse(input) {
            Ok((rest, value)) => Ok((rest, Ok(value))),
            Err(error) => {
                if matches!(error, nom::Err::Error(_)) {
                    input.syntax_error();
                }
                let rest = skip(input);
                let span = input.first().span.to(rest.first().span);
                Ok((rest, Err(Span { end: rest.first().span.start.max(span.start), ..span })))
            }
        }
    }
}

/// The tokens after the current statement. Braces inside it are skipped whole, but a declaration at the very start of a
/// line always counts as a new beginning.
fn skip(mut input: Tokens<'_>) -> Tokens<'_> {
    let mut depth = 0usize;
    loop {
        match input.first().kind {
            Kind::End => return input,
            Kind::Break if depth == 0 || flush_item(input.rest()) => return input.rest(),
            Kind::Symbol("{") => depth += 1,
            Kind::Symbol("}") if depth == 0 => return input,
            Kind::Symbol("}") => depth -= 1,
            _ => {}
        }
        input = input.rest();
    }
}

/// An item keyword in the first column.
fn flush_item(input: Tokens<'_>) -> bool {
    let flush = input.state.begins_line(input.first().span);
    flush && input.first().kind == Kind::Name && ITEMS.contains(&input.text(input.first()))
}

fn item(input: Tokens<'_>) -> Parsed<'_, Item> {
    let word = match input.first().kind {
        Kind::Name => input.text(input.first()),
        _ => "",
    };
    let after = input.rest();
    match word {
        "model" => map(name, Item::Model).parse(after),
        "use" => map(text, Item::Use).parse(after),
        "axes" => map(axes, Item::Axes).parse(after),
        "const" => map(constants, Item::Const).parse(after),
        "param" => map(params, Item::Param).parse(after),
        "fn" => map(function, Item::Function).parse(after),
        "layer" => map(layer, Item::Layer).parse(after),
        "input" => map(separated_list1(symbol(","), input_declaration), Item::Input).parse(after),
        "let" => map(binding_let, Item::Let).parse(after),
        "loss" => loss(after),
        "metric" => map(named, |b| Item::Metric { name: b.name, value: b.value }).parse(after),
        "output" => map(named, |b| Item::Output { name: b.name, value: b.value }).parse(after),
        "train" => {
            let span = input.first().span;
            map(train, |settings| Item::Train { settings, span }).parse(after)
        }
        _ => {
            let list = ITEMS.map(|item| format!("`{item}`")).join(", ");
            input.expected(&format!("a declaration ({list})"))
        }
    }
}

fn axes(input: Tokens<'_>) -> Parsed<'_, Vec<Binding>> {
    separated_list1(symbol(","), binding(axis)).parse(input)
}

fn constants(input: Tokens<'_>) -> Parsed<'_, Vec<Binding>> {
    separated_list1(symbol(","), named).parse(input)
}

fn named(input: Tokens<'_>) -> Parsed<'_, Binding> {
    binding(name).parse(input)
}

fn binding<'a>(
    left: impl Fn(Tokens<'a>) -> Parsed<'a, Ident>,
) -> impl FnMut(Tokens<'a>) -> Parsed<'a, Binding> {
    move |input| {
        let (input, name) = terminated(&left, symbol("=")).parse(input)?;
        let (input, value) = expr(input)?;
        Ok((input, Binding { name, value }))
    }
}

/// `let` keeps its names even when its value does not parse, so that their uses are not reported too.
fn binding_let(input: Tokens<'_>) -> Parsed<'_, Let> {
    let several = delimited(symbol("("), separated_list1(symbol(","), name), symbol(")"));
    let (input, names) = alt((several, map(name, |name| vec![name]))).parse(input)?;
    let (input, _) = symbol("=")(input)?;
    match expr(input) {
        Ok((input, value)) => Ok((input, Let { names, value })),
        Err(nom::Err::Error(_)) => {
            input.syntax_error();
            let span = input.first().span;
            let value = Expr { kind: ExprKind::Broken, span, height: 0 };
            Ok((back_to_break(skip(input), input), Let { names, value }))
        }
        Err(error) => Err(error),
    }
}

/// `skip` steps over the line break; the caller wants to see it.
fn back_to_break<'a>(after: Tokens<'a>, before: Tokens<'a>) -> Tokens<'a> {
    let consumed = before.list.len() - after.list.len();
    match consumed.checked_sub(1).map(|at| before.list[at].kind) {
        Some(Kind::Break) => Tokens { list: &before.list[consumed - 1..], ..before },
        _ => after,
    }
}

fn params(input: Tokens<'_>) -> Parsed<'_, ParamStatement> {
    let (input, params) = separated_list1(symbol(","), param).parse(input)?;
    let stored = pair(preceded(word("as"), text), opt(preceded(word("from"), expr)));
    let stored = map(stored, |(name, from)| Stored { name, from });
    let (input, stored) = opt(stored).parse(input)?;
    Ok((input, ParamStatement { params, stored }))
}

fn param(input: Tokens<'_>) -> Parsed<'_, Param> {
    let (input, name) = name(input)?;
    let (input, shape) = shape(input)?;
    let (mut input, init) = opt(init).parse(input)?;
    let mut param = Param { name, shape, init, rate: None, decay: None, frozen: false };
    loop {
        if input.at_word("lr") {
            let (after, rate) = expr(input.rest())?;
            (input, param.rate) = (after, Some(rate));
        } else if input.at_word("decay") {
            let (after, decay) = expr(input.rest())?;
            (input, param.decay) = (after, Some(decay));
        } else if input.at_word("frozen") {
            (input, param.frozen) = (input.rest(), true);
        } else {
            return Ok((input, param));
        }
    }
}

pub(crate) fn shape(input: Tokens<'_>) -> Parsed<'_, Shape> {
    let (input, open) = symbol("[")(input)?;
    let (input, groups) = separated_list0(symbol(","), group).parse(input)?;
    let (input, close) = symbol("]")(input)?;
    Ok((input, Shape { groups, span: open.to(close) }))
}

fn init(input: Tokens<'_>) -> Parsed<'_, Init> {
    let random = preceded(symbol("~"), pair(name, plain_arguments));
    let random = map(random, |(distribution, args)| Init::Random { distribution, args });
    alt((map(preceded(symbol("="), expr), Init::Value), random)).parse(input)
}

fn function(input: Tokens<'_>) -> Parsed<'_, Function> {
    let (input, name) = name(input)?;
    let (input, _) = symbol("(")(input)?;
    let (input, args) = separated_list0(symbol(","), formal_arg).parse(input)?;
    let (input, _) = opt(symbol(";")).parse(input)?;
    let (input, axes) = separated_list0(symbol(","), formal_axis).parse(input)?;
    let (input, _) = symbol(")")(input)?;
    let (input, body) = block(input)?;
    Ok((input, Function { name, args, axes, body }))
}

fn formal_arg(input: Tokens<'_>) -> Parsed<'_, FormalArg> {
    let (input, name) = name(input)?;
    let (input, default) = opt(preceded(symbol("="), expr)).parse(input)?;
    Ok((input, FormalArg { name, default }))
}

fn formal_axis(input: Tokens<'_>) -> Parsed<'_, FormalAxis> {
    let several = map(opt(symbol("...")), |dots| dots.is_some());
    map(pair(axis, several), |(name, several)| FormalAxis { name, several }).parse(input)
}

fn layer(input: Tokens<'_>) -> Parsed<'_, Layer> {
    let (input, name) = name(input)?;
    let args = separated_list1(symbol(","), pair(super::stream::name, shape));
    let (input, args) = delimited(symbol("("), args, symbol(")")).parse(input)?;
    let (input, repeat) = opt(preceded(word("repeat"), axis)).parse(input)?;
    let (input, stored) = opt(preceded(word("as"), text)).parse(input)?;
    let (input, body) = block(input)?;
    Ok((input, Layer { name, args, repeat, stored, body }))
}

fn input_declaration(input: Tokens<'_>) -> Parsed<'_, Input> {
    let (input, name) = name(input)?;
    let (input, shape) = shape(input)?;
    let (input, _) = symbol(":")(input)?;
    let (input, kind) = alt((ranged, plain_kind)).parse(input)?;
    let (input, default) = opt(preceded(symbol("="), expr)).parse(input)?;
    Ok((input, Input { name, shape, kind, default }))
}

fn plain_kind(input: Tokens<'_>) -> Parsed<'_, InputKind> {
    let real = map(word("real"), |_| InputKind::Real);
    alt((real, map(word("bool"), |_| InputKind::Bool))).parse(input)
}

fn ranged(input: Tokens<'_>) -> Parsed<'_, InputKind> {
    let token = preceded(word("token"), delimited(symbol("("), expr, symbol(")")));
    let bounds = pair(terminated(expr, symbol(",")), expr);
    let int = preceded(word("int"), delimited(symbol("("), bounds, symbol(")")));
    let int = map(int, |(low, high)| InputKind::Int(low, high));
    alt((map(token, InputKind::Token), int)).parse(input)
}

fn loss(input: Tokens<'_>) -> Parsed<'_, Item> {
    let start = input.first().span;
    let (input, value) = expr(input)?;
    let (input, per) = opt(preceded(word("per"), expr)).parse(input)?;
    let span = start.to(per.as_ref().map_or(value.span, |per| per.span));
    Ok((input, Item::Loss { value, per, span }))
}

/// `{ statements; result }`
pub(crate) fn block(input: Tokens<'_>) -> Parsed<'_, Block> {
    let (mut input, open) = symbol("{")(input)?;
    let mut statements = Vec::new();
    let mut broken = false;
    loop {
        let word = input.text(input.first());
        if input.first().kind == Kind::Break {
            input = input.rest();
        } else if flush_item(input) && !STATEMENTS.contains(&word)
            || input.first().kind == Kind::End
        {
            return unclosed(input, open, statements);
        } else if input.first().kind == Kind::Name && STATEMENTS.contains(&word) {
            let (rest, statement) =
                recovering(terminated(statement, statement_end)).parse(input)?;
            broken |= statement.is_err();
            statements.extend(statement);
            input = rest;
        } else {
            return result(input, open, statements, broken);
        }
    }
}

fn unclosed<'a>(input: Tokens<'a>, open: Span, statements: Vec<Statement>) -> Parsed<'a, Block> {
    input.state.report(Report::new(Cause::Unclosed { open: "{", close: "}" }, open, "opened here"));
    let result = Expr { kind: ExprKind::Broken, span: open, height: 0 };
    Ok((input, Block { statements, result }))
}

/// The last expression of a block and its closing brace. A block whose last statement was unreadable needs no result.
fn result<'a>(
    input: Tokens<'a>,
    open: Span,
    statements: Vec<Statement>,
    broken: bool,
) -> Parsed<'a, Block> {
    let start = input.first().span;
    let placeholder = Expr { kind: ExprKind::Broken, span: start, height: 0 };
    if input.at_symbol("}") {
        if !broken {
            input.state.report(Report::new(
                Cause::NoResult,
                start,
                "a result must stand before this",
            ));
        }
        return Ok((input.rest(), Block { statements, result: placeholder }));
    }
    let (mut rest, value) = recovering(terminated(expr, statement_end)).parse(input)?;
    let mut extra = None;
    while !rest.at_symbol("}") && rest.first().kind != Kind::End && !flush_item(rest) {
        if rest.first().kind == Kind::Break {
            rest = rest.rest();
            continue;
        }
        extra.get_or_insert(rest.first().span);
        rest = skip(rest);
    }
    if let (Some(span), Ok(value)) = (extra, &value) {
        let report = Report::new(Cause::AfterResult, span, "more follows here");
        rest.state.report(report.also(value.span, "taken for the block's result"));
    }
    let result = value.unwrap_or(placeholder);
    if rest.at_symbol("}") {
        return Ok((rest.rest(), Block { statements, result }));
    }
    unclosed(rest, open, statements)
}

fn statement(input: Tokens<'_>) -> Parsed<'_, Statement> {
    let after = input.rest();
    match input.text(input.first()) {
        "let" => map(binding_let, Statement::Let).parse(after),
        "axes" => map(axes, Statement::Axes).parse(after),
        "const" => map(constants, Statement::Const).parse(after),
        _ => map(params, Statement::Param).parse(after),
    }
}
