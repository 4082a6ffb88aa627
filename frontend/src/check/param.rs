//! Parameters and inputs.

use gigac_ir::graph::{AxisId, DType, Feed, Init as Initial, Op, Param, ParamId, Slot, Type};

use super::Checker;
use super::scope::Declared;
use super::stored::Names;
use super::value::{Eval, Failed, Value};
use crate::error::{Cause, Report};
use crate::source::{Cover, Span};
use crate::syntax::ast::{self, Expr, Init, InputKind, ParamStatement};
use gigac_ir::nearest::nearest;

const DISTRIBUTIONS: [&str; 3] = ["normal", "truncated", "uniform"];

/// What an initialiser and the words after it say; it also holds for the parameters before it that have none.
#[derive(Clone, Copy)]
struct Treatment {
    init: Initial,
    lr: f64,
    decay: Option<f64>,
    frozen: bool,
}

impl Checker {
    /// Declares the parameters of a statement, in the model or in a layer.
    pub(crate) fn declare_params(
        &mut self,
        statement: &ParamStatement,
        table: usize,
        layer: Option<usize>,
    ) {
        let frame = self.declaration_frame(table);
        let ids = self.with_frame(frame, |checker| {
            let treatments = checker.treatments(statement);
            let names = checker.stored_names(statement, layer);
            let all = statement.params.iter().zip(treatments).enumerate();
            all.map(|(at, (param, treatment))| {
                checker.declare_param(param, treatment, (&names, at), table, layer)
            })
            .collect::<Vec<Eval<ParamId>>>()
        });
        for (param, id) in statement.params.iter().zip(ids) {
            if let Some((declared, _)) = self.tables[table].names.get_mut(&param.name.name) {
                *declared = Declared::Param(id);
            }
        }
    }

    /// The treatment of each parameter of a statement.
    fn treatments(&mut self, statement: &ParamStatement) -> Vec<Eval<Treatment>> {
        let mut result: Vec<Eval<Treatment>> = Vec::new();
        let mut next = None;
        for param in statement.params.iter().rev() {
            if param.init.is_some() {
                next = Some(self.treatment(param));
            }
            result.push(match next {
                Some(treatment) => treatment,
                None => {
                    let cause = Cause::NoInitialiser { name: param.name.name.clone() };
                    self.fail(Report::new(cause, param.name.span, "how does it begin?"))
                }
            });
        }
        result.reverse();
        result
    }

    fn treatment(&mut self, param: &ast::Param) -> Eval<Treatment> {
        let init = match &param.init {
            Some(Init::Value(value)) => {
                self.real_constant("an initial value", value).map(Initial::Constant)
            }
            Some(Init::Random { distribution, args }) => self.distribution(distribution, args),
            None => Err(Failed),
        };
        let lr = self.factor(param.rate.as_ref(), "the factor of `lr`");
        let decay = self.factor(param.decay.as_ref(), "the factor of `decay`");
        let lr = lr?.unwrap_or(1.0);
        Ok(Treatment { init: init?, lr, decay: decay?, frozen: param.frozen })
    }

    fn factor(&mut self, expr: Option<&Expr>, what: &str) -> Eval<Option<f64>> {
        let Some(expr) = expr else { return Ok(None) };
        let value = self.real_constant(what, expr)?;
        if value.is_finite() && value >= 0.0 {
            return Ok(Some(value));
        }
        let cause = Cause::Size {
            what: what.into(),
            value: value.to_string(),
            help: "it is a finite number, not below 0",
        };
        self.fail(Report::new(cause, expr.span, "this factor"))
    }

    fn distribution(&mut self, name: &ast::Ident, args: &[Expr]) -> Eval<Initial> {
        if !DISTRIBUTIONS.contains(&name.name.as_str()) {
            let near = nearest(
                &name.name,
                DISTRIBUTIONS,
                "there are normal(std), truncated(std), uniform(lo, hi)",
            );
            let cause = Cause::Distribution { name: name.name.clone(), near };
            return self.fail(Report::new(cause, name.span, "not known"));
        }
        let values: Vec<Eval<f64>> = args
            .iter()
            .map(|arg| self.real_constant("a parameter of a distribution", arg))
            .collect();
        let values = values.into_iter().collect::<Eval<Vec<f64>>>()?;
        match (name.name.as_str(), &values[..]) {
            ("normal", [std]) if *std >= 0.0 => Ok(Initial::Normal { std: *std }),
            ("truncated", [std]) if *std >= 0.0 => Ok(Initial::Truncated { std: *std }),
            ("uniform", [lo, hi]) if lo <= hi => Ok(Initial::Uniform { lo: *lo, hi: *hi }),
            _ => {
                let cause = Cause::Arguments {
                    name: name.name.clone(),
                    wanted: "one standard deviation, or bounds in order".into(),
                    found: format!("{values:?}"),
                    signature: "there are normal(std), truncated(std), uniform(lo, hi)".into(),
                };
                self.fail(Report::new(cause, name.span, "does not fit"))
            }
        }
    }

    fn declare_param(
        &mut self,
        param: &ast::Param,
        treatment: Eval<Treatment>,
        (names, at): (&Eval<Names>, usize),
        table: usize,
        layer: Option<usize>,
    ) -> Eval<ParamId> {
        let repeat = layer.and_then(|layer| self.layers[layer].repeat);
        let own = self.shape_axes(&param.shape, repeat)?;
        let span = param.name.span.to(param.shape.span);
        let mut dims: Vec<Vec<AxisId>> = repeat.iter().map(|axis| vec![*axis]).collect();
        dims.extend(own);
        let axes: Vec<AxisId> = dims.iter().flatten().copied().collect();
        self.check_elements(&axes, &format!("parameter `{}`", param.name.name), span)?;
        let Ok(names) = names else { return Err(Failed) };
        let stored = self.stored(names, at, &param.name.name, &dims, span)?;
        let kept = self.stored_rank(&dims, &stored.spread, repeat);
        let treatment = treatment?;
        let id = ParamId(self.builder.graph.params.len() as u32);
        self.builder.graph.params.push(Param {
            name: format!("{}{}", self.tables[table].prefix, param.name.name),
            dims,
            init: treatment.init,
            lr: treatment.lr,
            decay: treatment.decay.unwrap_or(if kept >= 2 { 1.0 } else { 0.0 }),
            frozen: treatment.frozen,
            rounded: false,
            stored,
            span: Some(span),
        });
        let value = self.emit(Op::Param(id, Slot::Weight), &[], span)?;
        if let Some(layer) = layer {
            self.layers[layer].params.push(id);
        }
        if repeat.is_none() {
            self.param_values.insert(id, value);
        }
        Ok(id)
    }

    /// Stored dimensions that decide about weight decay: spread axes and the axis of a repeat do not count.
    fn stored_rank(
        &self,
        dims: &[Vec<AxisId>],
        spread: &[AxisId],
        repeat: Option<AxisId>,
    ) -> usize {
        let counts = |axis: &&AxisId| !spread.contains(axis) && Some(**axis) != repeat;
        dims.iter().filter(|dim| dim.iter().any(|axis| counts(&axis))).count()
    }

    /// Declares an input.
    pub(crate) fn declare_input(&mut self, input: &ast::Input) {
        let frame = self.declaration_frame(0);
        let value = self.with_frame(frame, |checker| {
            let dims = checker.shape_axes(&input.shape, None);
            let dtype = checker.input_dtype(input);
            let (dims, dtype) = (dims?, dtype?);
            let feed = checker.feed(input, dtype)?;
            let axes: Vec<AxisId> = dims.into_iter().flatten().collect();
            checker.check_elements(&axes, "this input", input.name.span)?;
            let span = Some(input.name.span);
            checker.add_input(&input.name.name, Type { dtype, axes }, feed, span)
        });
        if let Some((declared, _)) = self.tables[0].names.get_mut(&input.name.name) {
            *declared = Declared::Input(value);
        }
    }

    pub(crate) fn add_input(
        &mut self,
        name: &str,
        ty: Type,
        feed: Feed,
        span: Option<Span>,
    ) -> Eval<gigac_ir::graph::ValueId> {
        let id = gigac_ir::graph::InputId(self.builder.graph.inputs.len() as u32);
        self.builder.graph.inputs.push(gigac_ir::graph::Input {
            name: name.into(),
            ty,
            feed,
            span,
        });
        let span = span.unwrap_or(Span { source: 0, start: 0, end: 0 });
        let value = self.emit(Op::Input(id), &[], span)?;
        self.builder.name(value, name);
        Ok(value)
    }

    fn input_dtype(&mut self, input: &ast::Input) -> Eval<DType> {
        let (lo, hi, span) = match &input.kind {
            InputKind::Real => return Ok(DType::F32),
            InputKind::Bool => return Ok(DType::Bool),
            InputKind::Token(size) => (0, self.whole("the number of tokens", size)?, size.span),
            InputKind::Int(low, high) => {
                let (lo, hi) = (self.whole("a bound", low), self.whole("a bound", high));
                (lo?, hi?, low.span.to(high.span))
            }
        };
        if lo < hi && lo >= i64::from(i32::MIN) && hi <= i64::from(i32::MAX) + 1 {
            return Ok(DType::Int { lo, hi });
        }
        let cause = Cause::Size {
            what: "this range".into(),
            value: format!("{lo} to {}", hi.saturating_sub(1)),
            help: "`int(lo, hi)` holds lo, …, hi - 1, within 32 bits",
        };
        self.fail(Report::new(cause, span, "holds nothing that fits"))
    }

    /// `= value` makes an input optional.
    fn feed(&mut self, input: &ast::Input, dtype: DType) -> Eval<Feed> {
        let Some(default) = &input.default else { return Ok(Feed::Data) };
        let value = match self.eval(default)? {
            Value::Bool(value) if dtype == DType::Bool => {
                return Ok(Feed::Optional(f64::from(value)));
            }
            Value::Number(number) if dtype != DType::Bool => number,
            Value::Number(_) | Value::Bool(_) => {
                return self.dtype_error(
                    "this default",
                    "another kind",
                    "not of the input's kind",
                    default.span,
                );
            }
            _ => return self.not_constant("a default", default.span),
        };
        if let DType::Int { lo, hi } = dtype {
            let inside = value.as_whole().is_some_and(|value| lo <= value && value < hi);
            if !inside {
                let cause = Cause::Size {
                    what: "this default".into(),
                    value: value.to_string(),
                    help: "it must lie in the range of the input",
                };
                return self.fail(Report::new(
                    cause,
                    default.span,
                    format!("not in {lo} to {}", hi - 1),
                ));
            }
        }
        Ok(Feed::Optional(value.to_f64()))
    }
}
