//! The optimizer: the joint graph to the training step.
//!
//! Adds, as graph, what other systems do on the host: the learning rate of the step, the number
//! of gradient elements that are not finite and what to do about them, the global norm and the
//! clip factor `min(1, clip / (norm + 1e-6))`, and AdamW (arXiv:1711.05101, Algorithm 2, with bias
//! correction). The results are [`Role::Update`]s of weights, moments, and of the copies in bf16 of those
//! weights that have one, whatever this step computes in: a copy is never older than its weight.

use gigac_ir::graph::{
    Builder, DType, Feed, Graph, Input, InputId, Op, ParamId, Role, Slot, Type, ValueId,
};
use gigac_ir::kernel::Reduction;
use gigac_ir::ops::OpError;
use gigac_ir::pointwise::Pointwise::{self, Add, Div, Max, Min, Mul, Sqrt, Sub, Where};
use gigac_ir::train::{OnNan, Optimizer, Schedule, Settings, Span};

use crate::pass::{Need, Pass, Report, Run, Scope};

/// The pass.
pub const OPTIMIZER: Pass = Pass {
    name: "optimizer",
    about: "gradients become updates: schedule, guard, norm, clip, AdamW",
    need: Need::Necessary("without it no weight changes"),
    scope: Scope::Step,
    run: Run::Graph(|graph, context| {
        let step = optimize(graph, context.settings);
        let updates = step.roles.iter().filter(|r| matches!(r, Role::Update(..))).count();
        (step, Report::new().count(updates, "states updated"))
    }),
};

/// Added to the norm before it divides.
const CLIP_EPS: f64 = 1e-6;

/// The training step of a joint graph.
pub fn optimize(joint: Graph, settings: &Settings) -> Graph {
    let mut step = Step { b: Builder::new(joint) };
    step.build(settings).unwrap_or_else(|e| panic!("the optimizer built {e}"));
    step.b.finish()
}

struct Step {
    b: Builder,
}

/// Scalars that all updates share.
struct Scalars {
    rate: ValueId,
    /// Factor on the gradients.
    clip: Option<ValueId>,
    /// Whether all gradients are finite.
    finite: ValueId,
    /// `1 − β^t` for both moments.
    bias: [ValueId; 2],
}

impl Step {
    fn build(&mut self, settings: &Settings) -> Result<(), OpError> {
        let gradients: Vec<(ParamId, ValueId)> = self
            .b
            .graph
            .roles
            .clone()
            .into_iter()
            .filter_map(|role| match role {
                Role::Gradient(p) => Some(p),
                _ => None,
            })
            .map(|p| (p, self.b.result_value(&Role::Gradient(p))))
            .collect();
        let step = self.input("step", Feed::Step)?;
        let now = self.f(Pointwise::ToReal, &[step])?;
        let rate = self.schedule(&settings.schedule, settings.span, now)?;
        let mut bad = self.b.int(0);
        for (param, g) in &gradients {
            self.comes_from(*param);
            let count = self.count_bad(*g)?;
            bad = self.f(Add, &[bad, count])?;
        }
        let zero = self.b.int(0);
        let finite = self.f(Pointwise::Eq, &[bad, zero])?;
        let gradients: Vec<(ParamId, ValueId)> = if settings.on_nan == OnNan::Zero {
            let clean = |(param, g)| {
                self.comes_from(param);
                Ok((param, self.zero_bad(g)?))
            };
            gradients.into_iter().map(clean).collect::<Result<_, OpError>>()?
        } else {
            gradients
        };
        let norm = self.norm(&gradients)?;
        let clip = match settings.clip {
            Some(limit) => Some(self.clip(limit, norm)?),
            None => None,
        };
        let Optimizer::AdamW { beta1, beta2, .. } = settings.optimizer;
        let one = self.b.real(1.0);
        let turn = self.f(Add, &[now, one])?;
        let bias = [self.bias(beta1, turn)?, self.bias(beta2, turn)?];
        let scalars = Scalars { rate, clip, finite, bias };
        for (param, gradient) in gradients {
            self.comes_from(param);
            self.update(param, gradient, &scalars, settings)?;
        }
        self.b.result(Role::GradNorm, norm);
        self.b.result(Role::LearningRate, rate);
        self.b.result(Role::NanGradients, bad);
        Ok(())
    }

    /// What is built from now on has its place at the declaration of a parameter.
    fn comes_from(&mut self, param: ParamId) {
        self.b.span = self.b.graph.params[param.index()].span;
    }

    fn f(&mut self, function: Pointwise, operands: &[ValueId]) -> Result<ValueId, OpError> {
        self.b.map(function, operands)
    }

    /// `function(x, constant)`.
    fn with(&mut self, function: Pointwise, x: ValueId, c: f64) -> Result<ValueId, OpError> {
        let c = self.b.real(c);
        self.f(function, &[x, c])
    }

    /// A scalar int input, shared with the model when it reads it too.
    fn input(&mut self, name: &str, feed: Feed) -> Result<ValueId, OpError> {
        let known = self.b.graph.inputs.iter().position(|i| i.feed == feed);
        let id = known.unwrap_or_else(|| {
            let ty = Type { dtype: DType::Int { lo: 0, hi: i64::from(i32::MAX) }, axes: vec![] };
            let input = Input { name: name.to_owned(), ty, feed, span: None };
            self.b.graph.inputs.push(input);
            self.b.graph.inputs.len() - 1
        });
        self.b.op(Op::Input(InputId(id as u32)), &[])
    }

    /// The learning rate of a step; steps count from the start of the span.
    fn schedule(
        &mut self,
        schedule: &Schedule,
        span: Span,
        step: ValueId,
    ) -> Result<ValueId, OpError> {
        let now = match span.first {
            0 => step,
            first => self.with(Sub, step, first as f64)?,
        };
        match *schedule {
            Schedule::Constant { rate } => Ok(self.b.real(rate)),
            Schedule::Cosine { peak, warmup, floor } => {
                let last = self.last_step(span)?;
                let past = self.with(Sub, now, warmup as f64)?;
                let span = self.with(Sub, last, warmup as f64)?;
                let span = self.with(Max, span, 1.0)?;
                let part = self.f(Div, &[past, span])?;
                let part = self.unit(part)?;
                let angle = self.with(Mul, part, std::f64::consts::PI)?;
                let cos = self.f(Pointwise::Cos, &[angle])?;
                let half = peak * (1.0 - floor) / 2.0;
                let wave = self.with(Mul, cos, half)?;
                let rate = self.with(Add, wave, peak * floor + half)?;
                self.warm_up(rate, peak, warmup, now)
            }
            Schedule::Wsd { peak, warmup, decay, floor } => {
                let last = self.last_step(span)?;
                let left = self.f(Sub, &[last, now])?;
                let part = self.with(Div, left, (decay as f64).max(1.0))?;
                let part = self.unit(part)?;
                let slope = self.with(Mul, part, peak * (1.0 - floor))?;
                let rate = self.with(Add, slope, peak * floor)?;
                self.warm_up(rate, peak, warmup, now)
            }
        }
    }

    /// The last step of a span, counted from its start.
    fn last_step(&mut self, span: Span) -> Result<ValueId, OpError> {
        if let Some(end) = span.end {
            return Ok(self.b.real(end as f64 - span.first as f64 - 1.0));
        }
        let steps = self.input("steps", Feed::Steps)?;
        let steps = self.f(Pointwise::ToReal, &[steps])?;
        self.with(Sub, steps, (span.first + 1) as f64)
    }

    /// Clamps to [0, 1].
    fn unit(&mut self, x: ValueId) -> Result<ValueId, OpError> {
        let x = self.with(Max, x, 0.0)?;
        self.with(Min, x, 1.0)
    }

    /// `peak · (s + 1) / warmup` in the first steps.
    fn warm_up(
        &mut self,
        rate: ValueId,
        peak: f64,
        warmup: u64,
        now: ValueId,
    ) -> Result<ValueId, OpError> {
        if warmup == 0 {
            return Ok(rate);
        }
        let next = self.with(Add, now, 1.0)?;
        let rising = self.with(Mul, next, peak / warmup as f64)?;
        let early = self.with(Pointwise::Lt, now, warmup as f64)?;
        self.f(Where, &[early, rising, rate])
    }

    /// Whether elements are finite.
    fn finite(&mut self, g: ValueId) -> Result<ValueId, OpError> {
        let below = self.with(Pointwise::Lt, g, f64::INFINITY)?;
        let above = self.with(Pointwise::Gt, g, f64::NEG_INFINITY)?;
        self.f(Pointwise::And, &[below, above])
    }

    fn count_bad(&mut self, g: ValueId) -> Result<ValueId, OpError> {
        let finite = self.finite(g)?;
        let (zero, one) = (self.b.int(0), self.b.int(1));
        let count = self.f(Where, &[finite, zero, one])?;
        self.total(count)
    }

    fn zero_bad(&mut self, g: ValueId) -> Result<ValueId, OpError> {
        let finite = self.finite(g)?;
        let zero = self.b.real(0.0);
        self.f(Where, &[finite, g, zero])
    }

    /// Sum over all axes.
    fn total(&mut self, x: ValueId) -> Result<ValueId, OpError> {
        let axes = self.b.ty(x).axes.clone();
        if axes.is_empty() {
            return Ok(x);
        }
        self.b.op(Op::Reduce { op: Reduction::Sum, axes }, &[x])
    }

    fn norm(&mut self, gradients: &[(ParamId, ValueId)]) -> Result<ValueId, OpError> {
        let mut sum = self.b.real(0.0);
        for (param, g) in gradients {
            self.comes_from(*param);
            let square = self.f(Mul, &[*g, *g])?;
            let part = self.total(square)?;
            sum = self.f(Add, &[sum, part])?;
        }
        self.b.span = None;
        self.f(Sqrt, &[sum])
    }

    fn clip(&mut self, limit: f64, norm: ValueId) -> Result<ValueId, OpError> {
        let below = self.with(Add, norm, CLIP_EPS)?;
        let limit = self.b.real(limit);
        let factor = self.f(Div, &[limit, below])?;
        self.with(Min, factor, 1.0)
    }

    /// `1 − β^t`, as `2h / (1 + h)` with `h = tanh(−t·ln β / 2)`: the difference itself would lose
    /// half of its digits in the first steps, when `β^t` is near 1.
    fn bias(&mut self, beta: f64, turn: ValueId) -> Result<ValueId, OpError> {
        if beta == 0.0 {
            return Ok(self.b.real(1.0));
        }
        let half = self.with(Mul, turn, -beta.ln() / 2.0)?;
        let h = self.f(Pointwise::Tanh, &[half])?;
        let twice = self.with(Mul, h, 2.0)?;
        let sum = self.with(Add, h, 1.0)?;
        self.f(Div, &[twice, sum])
    }

    /// AdamW for one parameter.
    fn update(
        &mut self,
        param: ParamId,
        gradient: ValueId,
        scalars: &Scalars,
        settings: &Settings,
    ) -> Result<(), OpError> {
        let Optimizer::AdamW { beta1, beta2, eps, weight_decay, decay_by_rate } =
            settings.optimizer;
        let state = |b: &mut Builder, slot| b.op(Op::Param(param, slot), &[]);
        let weight = state(&mut self.b, Slot::Weight)?;
        let old = [state(&mut self.b, Slot::Moment1)?, state(&mut self.b, Slot::Moment2)?];
        let gradient = match scalars.clip {
            Some(factor) => self.f(Mul, &[gradient, factor])?,
            None => gradient,
        };
        let square = self.f(Mul, &[gradient, gradient])?;
        let mean = self.running(old[0], gradient, beta1)?;
        let power = self.running(old[1], square, beta2)?;
        let (factor, decay) = {
            let info = &self.b.graph.params[param.index()];
            (info.lr, info.decay * weight_decay)
        };
        let rate = self.with(Mul, scalars.rate, factor)?;
        let shrink = self.shrink(rate, decay, decay_by_rate, factor, &settings.schedule)?;
        let kept = self.f(Mul, &[weight, shrink])?;
        let direction = self.f(Div, &[mean, scalars.bias[0]])?;
        let spread = self.f(Div, &[power, scalars.bias[1]])?;
        let spread = self.f(Sqrt, &[spread])?;
        let spread = self.with(Add, spread, eps)?;
        let direction = self.f(Div, &[direction, spread])?;
        let change = self.f(Mul, &[direction, rate])?;
        let new = self.f(Sub, &[kept, change])?;
        let guarded = matches!(settings.on_nan, OnNan::Skip | OnNan::Halt);
        let rounded = self.b.graph.params[param.index()].rounded;
        for (slot, new, old) in [
            (Slot::Moment1, mean, old[0]),
            (Slot::Moment2, power, old[1]),
            (Slot::Weight, new, weight),
        ] {
            let value = match guarded {
                true => self.f(Where, &[scalars.finite, new, old])?,
                false => new,
            };
            self.b.result(Role::Update(param, slot), value);
            if slot == Slot::Weight && rounded {
                let copy = self.b.op(Op::Cast(DType::Bf16), &[value])?;
                self.b.result(Role::Update(param, Slot::Rounded), copy);
            }
        }
        Ok(())
    }

    /// `β·old + (1 − β)·new`.
    fn running(&mut self, old: ValueId, new: ValueId, beta: f64) -> Result<ValueId, OpError> {
        let kept = self.with(Mul, old, beta)?;
        let added = self.with(Mul, new, 1.0 - beta)?;
        self.f(Add, &[kept, added])
    }

    /// The factor that decay leaves of a weight.
    fn shrink(
        &mut self,
        rate: ValueId,
        decay: f64,
        by_rate: bool,
        factor: f64,
        schedule: &Schedule,
    ) -> Result<ValueId, OpError> {
        let peak = match *schedule {
            Schedule::Constant { rate } => rate,
            Schedule::Cosine { peak, .. } | Schedule::Wsd { peak, .. } => peak,
        };
        let per_rate = if by_rate || peak == 0.0 { decay } else { decay / (peak * factor) };
        let lost = self.with(Mul, rate, per_rate)?;
        let one = self.b.real(1.0);
        self.f(Sub, &[one, lost])
    }
}
