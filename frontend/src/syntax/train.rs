//! The `train` block: settings, and phases that override them.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::opt;
use nom::multi::separated_list0;
use nom::sequence::{delimited, pair};

use super::ast::*;
use super::expr::{arguments, expr};
use super::stream::*;
use super::token::Kind;
use crate::source::Cover;

/// `{ settings }`, after the word `train`.
pub(crate) fn train(input: Tokens<'_>) -> Parsed<'_, Vec<Setting>> {
    settings(input)
}

/// Settings between braces, apart by line breaks or commas.
fn settings(input: Tokens<'_>) -> Parsed<'_, Vec<Setting>> {
    let (mut input, _) = symbol("{")(input)?;
    let mut list = Vec::new();
    loop {
        if input.first().kind == Kind::Break || input.at_symbol(",") {
            input = input.rest();
        } else if input.at_symbol("}") {
            return Ok((input.rest(), list));
        } else {
            let (rest, setting) = input.deeper(setting)?;
            let ended =
                rest.first().kind == Kind::Break || rest.at_symbol(",") || rest.at_symbol("}");
            if !ended {
                return rest.expected("the end of the line");
            }
            list.push(setting);
            input = rest;
        }
    }
}

fn setting(input: Tokens<'_>) -> Parsed<'_, Setting> {
    let (after, name) = alt((name, axis)).parse(input)?;
    if name.name == "phase" {
        return phase(after, name);
    }
    if after.at_symbol("=") {
        let (rest, value) = expr(after.rest())?;
        return Ok((rest, Setting::Override(Binding { name, value })));
    }
    if let Ok((open, function)) = super::stream::name(after) {
        if open.at_symbol("(") {
            let (rest, (call, _)) = arguments(open, function)?;
            return Ok((rest, Setting::Call { name, call }));
        }
        return word_setting(open, name, function);
    }
    let (rest, value) = expr(after)?;
    let (rest, unit) = opt(super::stream::name).parse(rest)?;
    Ok((rest, Setting::Amount { name, value, unit }))
}

/// `bf16 { master f32, reduce f32 }`
fn word_setting(input: Tokens<'_>, name: Ident, value: Ident) -> Parsed<'_, Setting> {
    let part = pair(super::stream::name, super::stream::name);
    let parts = delimited(symbol("{"), separated_list0(symbol(","), part), symbol("}"));
    let (input, parts) = opt(parts).parse(input)?;
    Ok((input, Setting::Word { name, value, parts: parts.unwrap_or_default() }))
}

fn phase(input: Tokens<'_>, name: Ident) -> Parsed<'_, Setting> {
    let (input, tokens) = expr(input)?;
    let (input, unit) = word("tokens")(input)?;
    let (input, settings) = opt(settings).parse(input)?;
    let settings = settings.unwrap_or_default();
    Ok((input, Setting::Phase { tokens, span: name.span.to(unit), settings }))
}
