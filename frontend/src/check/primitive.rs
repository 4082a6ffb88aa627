//! The primitives: one table row each, and how they expand.

use gigac_ir::graph::{AxisId, DType, Op, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::pointwise::Pointwise;

use super::Checker;
use super::value::{Affine, Eval, Failed, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::number::Number;
use crate::source::Span;
use crate::syntax::ast::{AxisArg, Call, ExprKind, Ident};

/// A primitive.
pub(crate) struct Primitive {
    pub(crate) name: &'static str,
    /// Fewest and most values it takes.
    values: (usize, usize),
    /// For help lines.
    signature: &'static str,
    form: Form,
}

/// What a primitive does with its arguments.
#[derive(Clone, Copy)]
enum Form {
    Real(Pointwise),
    Floor,
    Pin,
    Stop,
    Where,
    /// One value and axes: a reduction; two values: pointwise.
    Max,
    Min,
    Sum,
    Dot,
    Pos,
    Cat,
    Top,
    Scatter,
    Noise,
}

const fn row(
    name: &'static str,
    values: (usize, usize),
    signature: &'static str,
    form: Form,
) -> Primitive {
    Primitive { name, values, signature, form }
}

/// All primitives that are called by name.
pub(crate) const PRIMITIVES: [Primitive; 20] = [
    row("exp", (1, 1), "exp(x)", Form::Real(Pointwise::Exp)),
    row("log", (1, 1), "log(x)", Form::Real(Pointwise::Log)),
    row("sqrt", (1, 1), "sqrt(x)", Form::Real(Pointwise::Sqrt)),
    row("sin", (1, 1), "sin(x)", Form::Real(Pointwise::Sin)),
    row("cos", (1, 1), "cos(x)", Form::Real(Pointwise::Cos)),
    row("tanh", (1, 1), "tanh(x)", Form::Real(Pointwise::Tanh)),
    row("erf", (1, 1), "erf(x)", Form::Real(Pointwise::Erf)),
    row("floor", (1, 1), "floor(x)", Form::Floor),
    row("f32", (1, 1), "f32(x)", Form::Pin),
    row("stop", (1, 1), "stop(x)", Form::Stop),
    row("where", (3, 3), "where(condition, a, b)", Form::Where),
    row("max", (1, 2), "max(a, b), or max(x; Axis, …)", Form::Max),
    row("min", (2, 2), "min(a, b)", Form::Min),
    row("sum", (1, 1), "sum(x; Axis, …)", Form::Sum),
    row("dot", (2, 2), "dot(a, b; Axis, …); `dot(a, b;)` is the outer product", Form::Dot),
    row("pos", (0, 1), "pos(Axis)", Form::Pos),
    row("cat", (1, usize::MAX), "cat(a, b; A + B -> C)", Form::Cat),
    row("top", (1, 1), "top(x; E -> N)", Form::Top),
    row("scatter", (2, 2), "scatter(x, e; N -> E)", Form::Scatter),
    row("noise", (1, 1), "noise(x)", Form::Noise),
];

pub(crate) fn find(name: &str) -> Option<&'static Primitive> {
    PRIMITIVES.iter().find(|primitive| primitive.name == name)
}

impl Checker {
    pub(crate) fn primitive(
        &mut self,
        primitive: &'static Primitive,
        call: &Call,
        span: Span,
    ) -> Eval {
        if let Form::Pos = primitive.form {
            return self.positions(primitive, call, span);
        }
        let values: Vec<Eval<Operand>> =
            call.args.iter().map(|arg| self.operand(&arg.value)).collect();
        if let Some(name) = call.args.iter().find_map(|arg| arg.name.as_ref()) {
            let found = format!("a value named `{}`", name.name);
            return self.misused(primitive, "values by position".into(), found, name.span);
        }
        let (least, most) = primitive.values;
        if values.len() < least || values.len() > most {
            let wanted =
                if least == most { format!("{least} values") } else { format!("at least {least}") };
            return self.misused(primitive, wanted, values.len().to_string(), call.name.span);
        }
        let values = values.into_iter().collect::<Eval<Vec<Operand>>>()?;
        self.dispatch(primitive, values, call, span)
    }

    fn dispatch(
        &mut self,
        primitive: &'static Primitive,
        values: Vec<Operand>,
        call: &Call,
        span: Span,
    ) -> Eval {
        let takes_axes = matches!(
            primitive.form,
            Form::Sum | Form::Max | Form::Dot | Form::Cat | Form::Top | Form::Scatter
        );
        let pair = values.len() == 2;
        if call.axes.is_some() && (!takes_axes || matches!(primitive.form, Form::Max) && pair) {
            return self.misused(primitive, "no axes".into(), "`;`".into(), call.name.span);
        }
        let list = call.axes.as_deref();
        match (primitive.form, values.as_slice()) {
            (Form::Real(function), [x]) => self.real_function(function, x.clone(), span),
            (Form::Floor, [x]) => self.floor(x.clone(), span),
            (Form::Pin, [x]) => self.pin(x.clone(), span),
            (Form::Stop, [x]) => self.stop(x.clone(), span),
            (Form::Where, [c, a, b]) => self.choice(c.clone(), a.clone(), b.clone(), span),
            (Form::Max, [a, b]) => self.arithmetic(Pointwise::Max, a.clone(), b.clone(), span),
            (Form::Min, [a, b]) => self.arithmetic(Pointwise::Min, a.clone(), b.clone(), span),
            (Form::Max, [x]) => self.reduce(Reduction::Max, x.clone(), list, span),
            (Form::Sum, [x]) => self.reduce(Reduction::Sum, x.clone(), list, span),
            (Form::Dot, [a, b]) => self.dot(primitive, a.clone(), b.clone(), call, span),
            (Form::Cat, pieces) => self.cat(primitive, pieces, call, span),
            (Form::Top, [x]) => self.top(primitive, x.clone(), call, span),
            (Form::Scatter, [x, e]) => self.scatter(primitive, x.clone(), e.clone(), call, span),
            (Form::Noise, [x]) => self.noise(x.clone(), span),
            _ => Err(Failed),
        }
    }

    fn misused<T>(
        &mut self,
        primitive: &'static Primitive,
        wanted: String,
        found: String,
        span: Span,
    ) -> Eval<T> {
        let cause = Cause::Arguments {
            name: primitive.name.into(),
            wanted,
            found,
            signature: format!("it is `{}`", primitive.signature),
        };
        self.fail(Report::new(cause, span, "does not fit"))
    }

    /// `pos(T)`; inside a repeated layer, of its own axis, the number of the turn.
    fn positions(&mut self, primitive: &'static Primitive, call: &Call, span: Span) -> Eval {
        let named = match (&call.args[..], &call.axes) {
            ([arg], None) => match &arg.value.kind {
                ExprKind::Axis(name) => Some(Ident { name: name.clone(), span: arg.value.span }),
                _ => None,
            },
            _ => None,
        };
        let Some(ident) = named else {
            return self.misused(primitive, "one axis".into(), "something else".into(), span);
        };
        let axis = self.axis_named(&ident)?;
        if let Some((_, turn)) = self.turns.iter().rev().find(|(own, _)| *own == axis) {
            return Ok(Value::Tensor(*turn));
        }
        if self.builder.graph.size(axis) == 0 {
            return Ok(Value::Empty { axes: vec![axis], kind: Kind::Int });
        }
        let value = self.emit(Op::Pos(axis), &[], span).map(Value::Tensor)?;
        self.note_affine(&value, Some(Affine { axis, start: 0, stride: 1 }));
        Ok(value)
    }

    fn pin(&mut self, x: Operand, span: Span) -> Eval {
        match (&x.value, self.kind(&x.value)) {
            (_, Kind::Bool) => self.dtype_error("`f32`", "a number", "a bool", x.span),
            (Value::Number(number), _) => Ok(Value::Number(Number::Float(number.to_f64()))),
            (Value::Empty { axes, .. }, _) => {
                Ok(Value::Empty { axes: axes.clone(), kind: Kind::Real })
            }
            _ => {
                let x = self.tensor(&x.value, Kind::Real, x.span)?;
                self.emit(Op::Pointwise(Pointwise::F32), &[x], span).map(Value::Tensor)
            }
        }
    }

    fn stop(&mut self, x: Operand, span: Span) -> Eval {
        match (&x.value, self.kind(&x.value)) {
            (Value::Tensor(id), Kind::Real) => {
                self.emit(Op::Pointwise(Pointwise::Stop), &[*id], span).map(Value::Tensor)
            }
            _ => Ok(x.value),
        }
    }

    /// `sum` and `max` over axes; over all when there is no `;`.
    fn reduce(
        &mut self,
        reduction: Reduction,
        x: Operand,
        list: Option<&[AxisArg]>,
        span: Span,
    ) -> Eval {
        let axes = match list {
            None => self.axes_of(&x.value),
            Some(list) => self.present_axes(&[&x], list)?,
        };
        let kind = self.kind(&x.value);
        if kind == Kind::Bool && reduction == Reduction::Max {
            return self.dtype_error("`max`", "a number", "a bool", x.span);
        }
        if let Value::Bool(counted) = x.value {
            return Ok(Value::Number(Number::whole(i64::from(counted))));
        }
        if axes.is_empty() && kind != Kind::Bool {
            return Ok(x.value);
        }
        if let Value::Empty { axes: own, .. } = &x.value {
            let start = if reduction == Reduction::Sum { 0.0 } else { f64::NEG_INFINITY };
            return self.reduce_empty(own, &axes, kind, start, span);
        }
        let mut id = self.tensor(&x.value, kind, x.span)?;
        if kind == Kind::Bool {
            let (one, zero) = (self.builder.int(1), self.builder.int(0));
            id = self.emit(Op::Pointwise(Pointwise::Where), &[id, one, zero], x.span)?;
        }
        if axes.is_empty() {
            return Ok(Value::Tensor(id));
        }
        self.emit(Op::Reduce { op: reduction, axes }, &[id], span).map(Value::Tensor)
    }

    /// What is left of an empty value: still empty, or the neutral element everywhere.
    fn reduce_empty(
        &mut self,
        own: &[AxisId],
        gone: &[AxisId],
        kind: Kind,
        neutral: f64,
        span: Span,
    ) -> Eval {
        let left: Vec<AxisId> = own.iter().copied().filter(|axis| !gone.contains(axis)).collect();
        if left.iter().any(|axis| self.builder.graph.size(*axis) == 0) {
            return Ok(Value::Empty { axes: left, kind });
        }
        let number = if neutral == 0.0 { Number::ZERO } else { Number::Float(neutral) };
        if left.is_empty() {
            return Ok(Value::Number(number));
        }
        let value = self.builder.real(neutral);
        self.emit(Op::Broadcast { axes: left }, &[value], span).map(Value::Tensor)
    }

    /// Listed axes that all operands must have.
    fn present_axes(&mut self, operands: &[&Operand], list: &[AxisArg]) -> Eval<Vec<AxisId>> {
        let listed = self.axis_list(list)?;
        for (axis, span) in &listed {
            for operand in operands {
                self.need_axis(operand, *axis, *span)?;
            }
        }
        Ok(listed.into_iter().map(|(axis, _)| axis).collect())
    }

    /// `dot(a, b; K)`; with no axes it is the outer product.
    fn dot(
        &mut self,
        primitive: &'static Primitive,
        a: Operand,
        b: Operand,
        call: &Call,
        span: Span,
    ) -> Eval {
        let Some(list) = &call.axes else {
            return self.misused(primitive, "axes after `;`".into(), "none".into(), call.name.span);
        };
        for side in [&a, &b] {
            if self.kind(&side.value) == Kind::Bool {
                return self.dtype_error("`dot`", "a number", "a bool", side.span);
            }
        }
        let axes = self.present_axes(&[&a, &b], list)?;
        if let (Value::Number(x), Value::Number(y)) = (&a.value, &b.value) {
            return self.defined(x.mul(*y), span);
        }
        let empty = [&a, &b].iter().any(|side| matches!(side.value, Value::Empty { .. }));
        if empty {
            let own = self.union(&[&a, &b]);
            return self.reduce_empty(&own, &axes, Kind::Real, 0.0, span);
        }
        if axes.is_empty() {
            return self.apply(Pointwise::Mul, &[a, b], Kind::Real, Kind::Real, span);
        }
        let a = self.tensor(&a.value, Kind::Real, a.span)?;
        let b = self.tensor(&b.value, Kind::Real, b.span)?;
        self.emit(Op::Dot { axes }, &[a, b], span).map(Value::Tensor)
    }

    /// `cat(a, b; A + B -> C)`
    fn cat(
        &mut self,
        primitive: &'static Primitive,
        pieces: &[Operand],
        call: &Call,
        span: Span,
    ) -> Eval {
        let (parts, to) = match call.axes.as_deref() {
            Some([AxisArg { parts, to: Some(to), .. }]) if parts.len() == pieces.len() => {
                (parts, to)
            }
            Some([AxisArg { parts, to: Some(_), .. }]) => {
                let wanted = format!("as many values as axes ({})", parts.len());
                return self.misused(primitive, wanted, pieces.len().to_string(), call.name.span);
            }
            _ => {
                return self.misused(
                    primitive,
                    "`; A + B -> C`".into(),
                    "none".into(),
                    call.name.span,
                );
            }
        };
        let target = self.axis_named(to)?;
        let mut axes = Vec::new();
        for (piece, part) in pieces.iter().zip(parts) {
            let axis = part.as_ref().map(|ident| self.axis_named(ident)).transpose()?;
            if let (Some(axis), Some(ident)) = (axis, part) {
                self.need_axis(piece, axis, ident.span)?;
            }
            if axis != Some(target) && self.axes_of(&piece.value).contains(&target) {
                let cause = Cause::PresentAxis { axis: to.name.clone() };
                return self
                    .fail(Report::new(cause, to.span, "the new axis").also(piece.span, "has it"));
            }
            axes.push(axis);
        }
        self.check_total(&axes, target, span)?;
        self.cat_pieces(pieces, axes, target, span)
    }

    fn check_total(&mut self, axes: &[Option<AxisId>], to: AxisId, span: Span) -> Eval<()> {
        let sizes = axes.iter().map(|axis| axis.map_or(1, |axis| self.builder.graph.size(axis)));
        let total = sizes.fold(0u64, u64::saturating_add);
        let wanted = self.builder.graph.size(to);
        if total == wanted {
            return Ok(());
        }
        let cause = Cause::SizesDiffer {
            left: format!("the pieces have {total}"),
            right: format!("`{}` is {wanted}", self.axis_text(to)),
            help: "the sizes of the pieces must add up to the new axis",
        };
        self.fail(Report::new(cause, span, "does not add up"))
    }

    /// Pieces of one kind, the others broadcast to the widest, empty ones left out.
    fn cat_pieces(
        &mut self,
        pieces: &[Operand],
        axes: Vec<Option<AxisId>>,
        to: AxisId,
        span: Span,
    ) -> Eval {
        let kind = self.common_kind(pieces)?;
        let full: Vec<(&Operand, Option<AxisId>)> = pieces
            .iter()
            .zip(axes)
            .filter(|(piece, _)| !matches!(piece.value, Value::Empty { .. }))
            .collect();
        self.check_cat_axes(&full)?;
        let mut ids = Vec::new();
        for (piece, _) in &full {
            ids.push(self.tensor(&piece.value, kind, piece.span)?);
        }
        let axes: Vec<Option<AxisId>> = full.iter().map(|(_, axis)| *axis).collect();
        match (&ids[..], &axes[..]) {
            ([], _) => {
                let own = self.union(&pieces.iter().collect::<Vec<_>>());
                Ok(Value::Empty { axes: own.into_iter().chain([to]).collect(), kind })
            }
            ([only], [Some(axis)]) if *axis == to => Ok(Value::Tensor(*only)),
            ([only], [Some(axis)]) => {
                self.emit(Op::Rename { from: *axis, to }, &[*only], span).map(Value::Tensor)
            }
            _ => self.emit(Op::Cat { pieces: axes, to }, &ids, span).map(Value::Tensor),
        }
    }

    fn common_kind(&mut self, pieces: &[Operand]) -> Eval<Kind> {
        let kinds: Vec<Kind> = pieces.iter().map(|piece| self.kind(&piece.value)).collect();
        let bools = kinds.iter().filter(|kind| **kind == Kind::Bool).count();
        if bools > 0 && bools < kinds.len() {
            let at = kinds.iter().position(|kind| *kind == Kind::Bool).unwrap_or(0);
            return self.dtype_error("`cat` with numbers", "a number", "a bool", pieces[at].span);
        }
        let real = kinds.contains(&Kind::Real);
        Ok(if bools > 0 {
            Kind::Bool
        } else if real {
            Kind::Real
        } else {
            Kind::Int
        })
    }

    /// Apart from the axis that is joined, one piece must have all axes of the others.
    fn check_cat_axes(&mut self, pieces: &[(&Operand, Option<AxisId>)]) -> Eval<()> {
        let rest = |checker: &Self, piece: &Operand, axis: Option<AxisId>| -> Vec<AxisId> {
            let own = checker.axes_of(&piece.value);
            own.into_iter().filter(|own| Some(*own) != axis).collect()
        };
        let all: Vec<Vec<AxisId>> = pieces.iter().map(|(p, axis)| rest(self, p, *axis)).collect();
        let Some(widest) = all.iter().max_by_key(|axes| axes.len()) else { return Ok(()) };
        let odd = all.iter().position(|axes| axes.iter().any(|axis| !widest.contains(axis)));
        let wide = all.iter().position(|axes| axes == widest);
        let (Some(odd), Some(wide)) = (odd, wide) else { return Ok(()) };
        let (left, right) = (self.axes_text(&all[wide]), self.axes_text(&all[odd]));
        let cause = Cause::SizesDiffer {
            left: format!("this piece has axes {left}"),
            right: format!("that one {right}"),
            help: "apart from the axis that is joined, one piece must have all axes of the others",
        };
        let report = Report::new(cause, pieces[wide].0.span, left);
        self.fail(report.also(pieces[odd].0.span, right))
    }

    /// The single `From -> To` of a call.
    fn arrow(&mut self, primitive: &'static Primitive, call: &Call) -> Eval<(Ident, Ident)> {
        if let Some([AxisArg { parts, to: Some(to), .. }]) = call.axes.as_deref()
            && let [Some(from)] = &parts[..]
        {
            return Ok((from.clone(), to.clone()));
        }
        self.misused(primitive, "`; From -> To`".into(), "something else".into(), call.name.span)
    }

    /// `top(x; E -> N)`: `(value, index)`.
    fn top(&mut self, primitive: &'static Primitive, x: Operand, call: &Call, span: Span) -> Eval {
        let (from, to) = self.arrow(primitive, call)?;
        let (axis, new) = (self.axis_named(&from)?, self.axis_named(&to)?);
        self.need_axis(&x, axis, from.span)?;
        self.absent_axis(&x, new, &to)?;
        if self.kind(&x.value) == Kind::Bool {
            return self.dtype_error("`top`", "a number", "a bool", x.span);
        }
        let (have, want) = (self.builder.graph.size(axis), self.builder.graph.size(new));
        if want > have {
            let cause = Cause::SizesDiffer {
                left: format!("`{}` has {have} positions", from.name),
                right: format!("`{}` asks for {want}", to.name),
                help: "`top` cannot choose more than there are",
            };
            return self.fail(Report::new(cause, to.span, "too many"));
        }
        let id = self.tensor(&x.value, Kind::Real, x.span)?;
        self.emit_all(Op::Top { axis, to: new }, &[id], span).map(Value::Tuple)
    }

    fn absent_axis(&mut self, x: &Operand, axis: AxisId, ident: &Ident) -> Eval<()> {
        let own = self.axes_of(&x.value);
        if !own.contains(&axis) {
            return Ok(());
        }
        let cause = Cause::PresentAxis { axis: ident.name.clone() };
        let has = format!("has axes {}", self.axes_text(&own));
        self.fail(Report::new(cause, ident.span, "present already").also(x.span, has))
    }

    /// `scatter(x, e; N -> E)`: the sum over `N` of `where(e == pos(E), x, 0)`.
    fn scatter(
        &mut self,
        primitive: &'static Primitive,
        x: Operand,
        e: Operand,
        call: &Call,
        span: Span,
    ) -> Eval {
        let (from, to) = self.arrow(primitive, call)?;
        let (axis, new) = (self.axis_named(&from)?, self.axis_named(&to)?);
        self.need_axis(&e, axis, from.span)?;
        for side in [&x, &e] {
            self.absent_axis(side, new, &to)?;
        }
        match self.kind(&e.value) {
            Kind::Int => {}
            kind => {
                return self.dtype_error("the index of `scatter`", "an int", kind.name(), e.span);
            }
        }
        if self.kind(&x.value) == Kind::Bool {
            return self.dtype_error("`scatter`", "a number", "a bool", x.span);
        }
        self.check_widest(&[x.clone(), e.clone()])?;
        let id = self.tensor(&x.value, Kind::Real, x.span)?;
        let index = self.tensor(&e.value, Kind::Int, e.span)?;
        if let DType::Int { lo, hi } = self.builder.ty(index).dtype {
            self.check_range(new, lo, hi - 1, e.span)?;
        }
        let op = Op::Scatter { axes: vec![axis], to: new };
        self.emit(op, &[id, index], span).map(Value::Tensor)
    }

    /// `noise(x)`: uniform numbers with the axes of `x`, keyed by seed, step, turn and place.
    fn noise(&mut self, x: Operand, span: Span) -> Eval {
        let axes = match &x.value {
            Value::Empty { axes, .. } => {
                return Ok(Value::Empty { axes: axes.clone(), kind: Kind::Real });
            }
            value => self.axes_of(value),
        };
        self.noises += 1;
        let key = self.noises;
        let Some(run) = self.run_inputs else { return self.op_noise(axes, &[], key, span) };
        let turns = self.turns.iter().map(|(_, turn)| *turn);
        let operands: Vec<ValueId> = run.into_iter().chain(turns).collect();
        self.op_noise(axes, &operands, key, span)
    }

    fn op_noise(&mut self, axes: Vec<AxisId>, keys: &[ValueId], key: u32, span: Span) -> Eval {
        self.emit(Op::Noise { axes, key }, keys, span).map(Value::Tensor)
    }
}
