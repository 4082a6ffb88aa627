//! Stored names: the `as` templates, and the check that every stored element is claimed exactly once.

use std::collections::BTreeMap;

use gigac_ir::graph::{AxisId, NamePart, Param, Stored};

use super::Checker;
use super::value::{Eval, Failed, Value};
use crate::error::{Cause, Report};
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, Expr, ExprKind, Ident, ParamStatement, Text, UnaryOp};
use crate::syntax::parse_expr_at;

/// More stored tensors than this are refused.
const MAX_TENSORS: u64 = 1 << 20;

/// What the `as` of a statement and of its layer say, before it is applied to a parameter.
pub(crate) struct Names {
    prefix: Vec<Part>,
    /// `None` without `as`: the parameter's own name.
    own: Option<Vec<Part>>,
    from: Vec<(u64, Span)>,
    from_span: Option<Span>,
}

/// A piece of a template.
#[derive(Clone)]
enum Part {
    Text(String),
    /// `{L}`, `{2*P + 1}`
    Number(Expr),
    /// `{C: q, k, v}`
    Choice(Ident, Vec<String>, Span),
    /// `{q,k,v}`
    Deal(Vec<String>),
}

impl Checker {
    /// Reads the templates that hold for a statement.
    pub(crate) fn stored_names(
        &mut self,
        statement: &ParamStatement,
        layer: Option<usize>,
    ) -> Eval<Names> {
        let prefix = match layer {
            None => Vec::new(),
            Some(layer) => self.layer_prefix(layer)?,
        };
        let Some(stored) = &statement.stored else {
            return Ok(Names { prefix, own: None, from: Vec::new(), from_span: None });
        };
        let own = self.template(&stored.name)?;
        self.check_deal(&own, statement.params.len(), stored.name.span)?;
        let from = stored.from.as_ref().map_or(Ok(Vec::new()), |from| self.offsets(from))?;
        Ok(Names { prefix, own: Some(own), from, from_span: stored.from.as_ref().map(|f| f.span) })
    }

    /// The layer's `as`; without one, its name and the turn.
    fn layer_prefix(&mut self, layer: usize) -> Eval<Vec<Part>> {
        let ast = self.layers[layer].ast.clone();
        if let Some(text) = &ast.stored {
            let parts = self.template(text)?;
            if parts.iter().any(|part| matches!(part, Part::Deal(_))) {
                let what = "a layer's `as` deals no names".to_string();
                let help = "`{q,k,v}` belongs to a `param` statement".to_string();
                return self.fail(Report::new(
                    Cause::Template { what, help },
                    text.span,
                    "this template",
                ));
            }
            return Ok(parts);
        }
        let mut parts = vec![Part::Text(format!("{}.", ast.name.name))];
        if let Some(axis) = &ast.repeat {
            let kind = ExprKind::Axis(axis.name.clone());
            parts.push(Part::Number(Expr { kind, span: axis.span, height: 0 }));
            parts.push(Part::Text(".".into()));
        }
        Ok(parts)
    }

    fn check_deal(&mut self, parts: &[Part], params: usize, span: Span) -> Eval<()> {
        for part in parts {
            if let Part::Deal(names) = part
                && names.len() != params
            {
                let cause = Cause::Deal { names: names.len(), params };
                return self.fail(Report::new(cause, span, format!("{} names", names.len())));
            }
        }
        Ok(())
    }

    fn offsets(&mut self, from: &Expr) -> Eval<Vec<(u64, Span)>> {
        let items = match &from.kind {
            ExprKind::Tuple(items) => items.iter().collect(),
            _ => vec![from],
        };
        let mut offsets = Vec::new();
        for item in items {
            let offset = self.whole("an offset", item)?;
            let Ok(offset) = u64::try_from(offset) else {
                let help = "an offset counts from the beginning of the stored tensor";
                let cause =
                    Cause::Size { what: "an offset".into(), value: offset.to_string(), help };
                return self.fail(Report::new(cause, item.span, "negative"));
            };
            offsets.push((offset, item.span));
        }
        Ok(offsets)
    }

    /// Splits a template at its braces.
    fn template(&mut self, text: &Text) -> Eval<Vec<Part>> {
        let mut parts = Vec::new();
        let mut rest = text.value.as_str();
        let mut at = text.span.start;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|close| open + close) else {
                return self.bad_template("this `{` has no `}`", "close it", text.span);
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_string()));
            }
            let start = at + open as u32 + 1;
            let span = Span { start, end: at + close as u32, ..text.span };
            parts.push(self.brace(&rest[open + 1..close], span)?);
            at += close as u32 + 1;
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_string()));
        }
        Ok(parts)
    }

    /// The inside of braces: names of an axis's positions, a number, or names to deal.
    fn brace(&mut self, inside: &str, span: Span) -> Eval<Part> {
        let list =
            |text: &str| text.split(',').map(|name| name.trim().to_string()).collect::<Vec<_>>();
        if let Some((axis, names)) = inside.split_once(':') {
            let name = axis.trim().to_string();
            return Ok(Part::Choice(Ident { name, span }, list(names), span));
        }
        let first = inside.trim_start().chars().next();
        let number = first.is_some_and(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        if number && !inside.contains(',') {
            let (expr, errors) = parse_expr_at(inside, span);
            if errors.is_empty() {
                return Ok(Part::Number(expr));
            }
            errors.into_iter().for_each(|report| self.report(report));
            return Err(Failed);
        }
        Ok(Part::Deal(list(inside)))
    }

    fn bad_template<T>(&mut self, what: &str, help: &str, span: Span) -> Eval<T> {
        let cause = Cause::Template { what: what.into(), help: help.into() };
        self.fail(Report::new(cause, span, "here"))
    }

    /// Applies the templates to the parameter number `at` of the statement.
    pub(crate) fn stored(
        &mut self,
        names: &Names,
        at: usize,
        own_name: &str,
        dims: &[Vec<AxisId>],
        span: Span,
    ) -> Eval<Stored> {
        let own = match &names.own {
            Some(parts) => parts.clone(),
            None => vec![Part::Text(own_name.to_string())],
        };
        let axes: Vec<AxisId> = dims.iter().flatten().copied().collect();
        let (mut name, mut spread) = (Vec::new(), Vec::new());
        for part in names.prefix.iter().chain(&own) {
            match part {
                Part::Text(text) => push_text(&mut name, text),
                Part::Deal(list) => push_text(&mut name, list.get(at).map_or("", String::as_str)),
                Part::Number(expr) => {
                    let (constant, terms) = self.affine_name(expr, &axes)?;
                    spread.extend(terms.iter().map(|(axis, _)| *axis));
                    name.push(NamePart::Number { constant, terms });
                }
                Part::Choice(axis, list, place) => {
                    let axis = self.choice_axis(axis, list, &axes, *place)?;
                    spread.push(axis);
                    name.push(NamePart::Choice { axis, names: list.clone() });
                }
            }
        }
        spread.sort();
        spread.dedup();
        let rank = dims.iter().filter(|dim| dim.iter().any(|axis| !spread.contains(axis))).count();
        let from = self.pad_offsets(names, rank, span)?;
        Ok(Stored { name, spread, from })
    }

    /// One offset per stored dimension; those not written are 0.
    fn pad_offsets(&mut self, names: &Names, rank: usize, span: Span) -> Eval<Vec<u64>> {
        if names.from.len() > rank {
            let at = names.from_span.unwrap_or(span);
            let what = format!(
                "`from` has {} offsets, the stored tensor {rank} dimensions",
                names.from.len()
            );
            return self.bad_template(
                &what,
                "give one offset per stored dimension, the first ones first",
                at,
            );
        }
        let mut from: Vec<u64> = names.from.iter().map(|(offset, _)| *offset).collect();
        from.resize(rank, 0);
        Ok(from)
    }

    fn choice_axis(
        &mut self,
        ident: &Ident,
        names: &[String],
        axes: &[AxisId],
        span: Span,
    ) -> Eval<AxisId> {
        let axis = self.axis_named(ident)?;
        if !axes.contains(&axis) {
            return self.not_an_axis(&ident.name, span);
        }
        let size = self.builder.graph.size(axis);
        if size == names.len() as u64 {
            return Ok(axis);
        }
        let what = format!("{} names for the {size} positions of `{}`", names.len(), ident.name);
        self.bad_template(&what, "name each position once", span)
    }

    fn not_an_axis<T>(&mut self, name: &str, span: Span) -> Eval<T> {
        let what = format!("`{name}` is not an axis of this parameter");
        self.bad_template(
            &what,
            "braces hold the layer's repeat axis, an axis of the parameter, or names to deal",
            span,
        )
    }

    /// A number in a name: constant and coefficients of the axes in it.
    fn affine_name(&mut self, expr: &Expr, axes: &[AxisId]) -> Eval<(i64, Vec<(AxisId, i64)>)> {
        match &expr.kind {
            ExprKind::Axis(name) => {
                let axis = self.axis_named(&Ident { name: name.clone(), span: expr.span })?;
                if axes.contains(&axis) {
                    Ok((0, vec![(axis, 1)]))
                } else {
                    self.not_an_axis(name, expr.span)
                }
            }
            ExprKind::Number(_) | ExprKind::Name(_) => match self.eval(expr)? {
                Value::Number(number) if number.as_whole().is_some() => {
                    Ok((number.as_whole().unwrap_or(0), Vec::new()))
                }
                _ => self.not_affine(expr.span),
            },
            ExprKind::Unary(UnaryOp::Neg, value) => {
                let value = self.affine_name(value, axes)?;
                self.scale_name(value, -1, expr.span)
            }
            ExprKind::Binary(op, left, right) => {
                let (left, right) = (self.affine_name(left, axes)?, self.affine_name(right, axes)?);
                self.combine_names(*op, left, right, expr.span)
            }
            _ => self.not_affine(expr.span),
        }
    }

    fn combine_names(
        &mut self,
        op: BinaryOp,
        left: (i64, Vec<(AxisId, i64)>),
        right: (i64, Vec<(AxisId, i64)>),
        span: Span,
    ) -> Eval<(i64, Vec<(AxisId, i64)>)> {
        match op {
            BinaryOp::Add => self.add_names(left, right, span),
            BinaryOp::Sub => {
                let right = self.scale_name(right, -1, span)?;
                self.add_names(left, right, span)
            }
            BinaryOp::Mul if left.1.is_empty() => self.scale_name(right, left.0, span),
            BinaryOp::Mul if right.1.is_empty() => self.scale_name(left, right.0, span),
            _ => self.not_affine(span),
        }
    }

    fn add_names(
        &mut self,
        (a, mut terms): (i64, Vec<(AxisId, i64)>),
        (b, more): (i64, Vec<(AxisId, i64)>),
        span: Span,
    ) -> Eval<(i64, Vec<(AxisId, i64)>)> {
        let Some(constant) = a.checked_add(b) else { return self.not_affine(span) };
        for (axis, factor) in more {
            match terms.iter_mut().find(|(known, _)| *known == axis) {
                Some((_, known)) => match known.checked_add(factor) {
                    Some(sum) => *known = sum,
                    None => return self.not_affine(span),
                },
                None => terms.push((axis, factor)),
            }
        }
        Ok((constant, terms))
    }

    fn scale_name(
        &mut self,
        (constant, terms): (i64, Vec<(AxisId, i64)>),
        factor: i64,
        span: Span,
    ) -> Eval<(i64, Vec<(AxisId, i64)>)> {
        let scaled = || {
            let terms = terms.iter().map(|(axis, f)| Some((*axis, f.checked_mul(factor)?)));
            Some((constant.checked_mul(factor)?, terms.collect::<Option<Vec<_>>>()?))
        };
        match scaled() {
            Some(result) => Ok(result),
            None => self.not_affine(span),
        }
    }

    fn not_affine<T>(&mut self, span: Span) -> Eval<T> {
        self.bad_template(
            "a number in a name is whole: sums of axes and constants, each with a whole factor",
            "for example `{L}`, `{2*P + 1}`, `{N + 3}`",
            span,
        )
    }
}

/// One claim on a stored tensor: which elements a parameter is.
struct Claim {
    param: usize,
    from: Vec<u64>,
    size: Vec<u64>,
}

impl Checker {
    /// Each stored element is claimed exactly once.
    pub(crate) fn check_claims(&mut self) {
        let mut claims: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
        let mut count = 0u64;
        let params = std::mem::take(&mut self.builder.graph.params);
        for (at, param) in params.iter().enumerate() {
            count = count.saturating_add(self.builder.graph.elements(&param.stored.spread));
            if count > MAX_TENSORS {
                let cause = Cause::Absurd {
                    what: format!("the list of stored tensors of `{}`", param.name),
                };
                self.report_param(cause, param, "spread over too many tensors");
                break;
            }
            self.claim(at, param, &mut claims);
        }
        for (name, list) in &claims {
            if !self.clash(name, list, &params) {
                self.gap(name, list, &params);
            }
        }
        self.builder.graph.params = params;
    }

    fn report_param(&mut self, cause: Cause, param: &Param, label: &str) {
        if let Some(span) = param.span {
            self.report(Report::new(cause, span, label));
        }
    }

    /// Adds the claims of a parameter: one for each position of its spread axes.
    fn claim(&self, at: usize, param: &Param, claims: &mut BTreeMap<String, Vec<Claim>>) {
        let graph = &self.builder.graph;
        let spread = &param.stored.spread;
        let kept = |dim: &Vec<AxisId>| -> Option<u64> {
            let left: Vec<AxisId> = dim.iter().copied().filter(|a| !spread.contains(a)).collect();
            (!left.is_empty()).then(|| graph.elements(&left))
        };
        let size: Vec<u64> = param.dims.iter().filter_map(kept).collect();
        let mut position = vec![0u64; spread.len()];
        loop {
            let name = stored_name(&param.stored.name, spread, &position);
            let claim = Claim { param: at, from: param.stored.from.clone(), size: size.clone() };
            let list = claims.entry(name).or_default();
            // Two of one parameter are a clash already; more of them say nothing new.
            if list.iter().filter(|other| other.param == at).count() < 2 {
                list.push(claim);
            }
            let step = (0..spread.len()).rev().find(|i| position[*i] + 1 < graph.size(spread[*i]));
            let Some(step) = step else { return };
            position[step] += 1;
            position[step + 1..].fill(0);
        }
    }

    /// Reports two claims that overlap.
    fn clash(&mut self, name: &str, list: &[Claim], params: &[Param]) -> bool {
        for (i, a) in list.iter().enumerate() {
            let Some(b) = list[..i].iter().find(|b| overlap(a, b)) else { continue };
            let (first, second) = (&params[b.param], &params[a.param]);
            if let (Some(first), Some(second)) = (first.span, second.span) {
                let cause = Cause::Clash { name: name.into() };
                let report = Report::new(cause, second, "claims it");
                self.report(report.also(first, "claimed already"));
            }
            return true;
        }
        false
    }

    /// Reports elements that nobody claims; the claims do not overlap.
    fn gap(&mut self, name: &str, list: &[Claim], params: &[Param]) {
        let Some(first) = list.first() else { return };
        let end = |claim: &Claim, dim: usize| claim.from[dim].saturating_add(claim.size[dim]);
        let whole =
            (0..first.size.len()).map(|dim| list.iter().map(|c| end(c, dim)).max().unwrap_or(0));
        let total = whole.fold(1u64, u64::saturating_mul);
        let volume = |claim: &Claim| claim.size.iter().fold(1u64, |a, b| a.saturating_mul(*b));
        let claimed = list.iter().fold(0u64, |sum, claim| sum.saturating_add(volume(claim)));
        if claimed < total {
            let cause = Cause::Gap { name: name.into(), claimed, total };
            self.report_param(
                cause,
                &params[list[list.len() - 1].param],
                "the last to claim a part of it",
            );
        }
    }
}

/// Whether two claims share an element; tensors of different ranks cannot be one.
fn overlap(a: &Claim, b: &Claim) -> bool {
    if a.size.len() != b.size.len() {
        return true;
    }
    let apart = |dim: usize| {
        a.from[dim] >= b.from[dim].saturating_add(b.size[dim])
            || b.from[dim] >= a.from[dim].saturating_add(a.size[dim])
    };
    !(0..a.size.len()).any(apart)
}

/// Adds text to a name; neighbouring texts are one part.
fn push_text(name: &mut Vec<NamePart>, text: &str) {
    match name.last_mut() {
        Some(NamePart::Text(last)) => last.push_str(text),
        _ => name.push(NamePart::Text(text.to_string())),
    }
}

/// The name of the tensor at a position along the spread axes.
fn stored_name(parts: &[NamePart], spread: &[AxisId], position: &[u64]) -> String {
    let at = |axis: &AxisId| spread.iter().position(|own| own == axis).map_or(0, |i| position[i]);
    let mut name = String::new();
    for part in parts {
        match part {
            NamePart::Text(text) => name.push_str(text),
            NamePart::Choice { axis, names } => {
                name.push_str(names.get(at(axis) as usize).map_or("", String::as_str));
            }
            NamePart::Number { constant, terms } => {
                let term =
                    |(axis, factor): &(AxisId, i64)| i128::from(*factor) * i128::from(at(axis));
                let number = i128::from(*constant) + terms.iter().map(term).sum::<i128>();
                name.push_str(&number.to_string());
            }
        }
    }
    name
}
