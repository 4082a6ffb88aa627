//! Losses, metrics and outputs.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{Builder, Graph, Op, ParamId, Region, Role, ValueId};
use gigac_ir::train::STEP_FIELDS;

use super::Checker;
use super::value::{Eval, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::source::Span;
use crate::syntax::ast::{Expr, Ident};

impl Checker {
    /// `loss value per divisor`
    pub(crate) fn loss(&mut self, value: &Expr, per: Option<&Expr>) {
        let number = self.losses;
        self.losses += 1;
        let value = self.scalar(value, "loss");
        let divisor = per.map(|per| self.scalar(per, "divisor of the loss"));
        if let Ok(value) = value {
            self.builder.result(Role::LossTerm(number), value);
        }
        if let (Some(Ok(divisor)), Some(per)) = (divisor, per) {
            self.builder.result(Role::LossPer(number), divisor);
            self.divisors.push((divisor, per.span));
        }
    }

    /// `metric name = value`
    pub(crate) fn metric(&mut self, name: &Ident, value: &Expr) {
        if STEP_FIELDS.contains(&name.name.as_str()) {
            let cause = Cause::Taken { name: name.name.clone() };
            self.report(Report::new(cause, name.span, "this name"));
        }
        if let Ok(value) = self.scalar(value, "metric") {
            self.name_result(name, Role::Metric(name.name.clone()), value);
        }
    }

    /// `output name = value`; the value may be used below by that name.
    pub(crate) fn output(&mut self, name: &Ident, value: &Expr) {
        let operand = self.operand(value);
        let id = operand.and_then(|operand| {
            let kind = self.kind(&operand.value);
            self.tensor(&operand.value, kind, operand.span)
        });
        if let Ok(id) = id {
            self.builder.name(id, &name.name);
            self.name_result(name, Role::Output(name.name.clone()), id);
        }
        self.bind_global(name, id.map(Value::Tensor));
    }

    fn name_result(&mut self, name: &Ident, role: Role, value: ValueId) {
        if self.builder.graph.roles.contains(&role) {
            let cause = Cause::Twice { name: name.name.clone() };
            return self.report(Report::new(cause, name.span, "again here"));
        }
        self.builder.result(role, value);
    }

    /// A real without axes.
    fn scalar(&mut self, expr: &Expr, what: &'static str) -> Eval<ValueId> {
        let operand: Operand = self.operand(expr)?;
        let axes = self.axes_of(&operand.value);
        if !axes.is_empty() {
            let axes = self.axes_text(&axes);
            let label = format!("has axes {axes}");
            return self.fail(Report::new(Cause::NotScalar { what, axes }, expr.span, label));
        }
        if self.kind(&operand.value) == Kind::Bool {
            return self.dtype_error(&format!("the {what}"), "a number", "a bool", expr.span);
        }
        self.tensor(&operand.value, Kind::Real, expr.span)
    }

    /// There is a loss to train, and what divides it does not depend on parameters.
    pub(crate) fn check_results(&mut self) {
        if self.losses == 0 && self.mode.training && self.reports.is_empty() {
            let span = Span { source: 0, start: 0, end: 0 };
            self.report(Report::new(Cause::NoLoss, span, "this model"));
        }
        let (sources, _) = self.sources_of_values();
        for (divisor, span) in std::mem::take(&mut self.divisors) {
            let params = sources.params(&[divisor]);
            let Some(param) = params.iter().min() else { continue };
            let param = self.builder.graph.params[param.index()].name.clone();
            self.report(Report::new(Cause::PerDepends { param }, span, "depends on it"));
        }
    }

    /// Parameters that some result depends on.
    pub(crate) fn reached_params(&mut self) -> HashSet<ParamId> {
        let (sources, results) = self.sources_of_values();
        sources.params(&results)
    }

    /// What values depend on, and the results of the model.
    fn sources_of_values(&mut self) -> (Sources, Vec<ValueId>) {
        let builder = std::mem::replace(&mut self.builder, Builder::new(Graph::new("")));
        let graph = builder.finish();
        let mut sources = Sources::default();
        sources.region(&graph.root);
        let results = graph.root.results.clone();
        self.builder = Builder::new(graph);
        (sources, results)
    }
}

/// What each value is computed from. A repeat counts as one operation: its results depend on all it reads.
#[derive(Default)]
struct Sources {
    from: HashMap<ValueId, Vec<ValueId>>,
    params: HashMap<ValueId, ParamId>,
}

impl Sources {
    fn region(&mut self, region: &Region) {
        for node in &region.nodes {
            let mut from = node.operands.clone();
            if let Some(inner) = &node.region {
                self.region(inner);
                // Arguments follow the turn number; the n-th stands for the n-th operand.
                for (arg, operand) in inner.args.iter().skip(1).zip(&node.operands) {
                    self.from.insert(*arg, vec![*operand]);
                }
                from = inner.results.clone();
                // What one turn hands on, the next one reads.
                for (arg, next) in inner.args.iter().skip(1).zip(&inner.results) {
                    self.from.entry(*arg).or_default().push(*next);
                }
            }
            for (at, result) in node.results.iter().enumerate() {
                let own = if node.region.is_some() { vec![from[at]] } else { from.clone() };
                self.from.insert(*result, own);
                if let Op::Param(param, _) = node.op {
                    self.params.insert(*result, param);
                }
            }
        }
    }

    fn params(&self, values: &[ValueId]) -> HashSet<ParamId> {
        let mut open = values.to_vec();
        let mut seen = HashSet::new();
        let mut params = HashSet::new();
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            params.extend(self.params.get(&value));
            open.extend(self.from.get(&value).into_iter().flatten());
        }
        params
    }
}
