//! The way into the graph: every node is made here, with its span and a check of its size.

use gigac_ir::graph::{AxisId, DType, Op, ValueId};
use gigac_ir::ops::OpError;

use super::Checker;
use super::value::{Eval, Kind, Value};
use crate::error::{Cause, Report};
use crate::source::Span;

/// No value has more elements: counting them, even in bytes and times a few operations, stays within 64 bits.
const MAX_ELEMENTS: u64 = 1 << 56;

/// The kind of an element type.
pub(crate) fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F32 | DType::Bf16 => Kind::Real,
        DType::Int { .. } => Kind::Int,
        DType::Bool => Kind::Bool,
    }
}

impl Checker {
    /// Adds a node with one result.
    pub(crate) fn emit(&mut self, op: Op, operands: &[ValueId], span: Span) -> Eval<ValueId> {
        self.prepare(&op, operands, span)?;
        match self.builder.op(op, operands) {
            Ok(value) => self.checked(value, span),
            Err(error) => self.misfit(&error, span),
        }
    }

    /// Adds a node with several results.
    pub(crate) fn emit_all(
        &mut self,
        op: Op,
        operands: &[ValueId],
        span: Span,
    ) -> Eval<Vec<Value>> {
        self.prepare(&op, operands, span)?;
        match self.builder.ops(op, operands) {
            Ok(values) => Ok(values.into_iter().map(Value::Tensor).collect()),
            Err(error) => self.misfit(&error, span),
        }
    }

    /// Sets the span and refuses what would overflow a count of elements.
    fn prepare(&mut self, op: &Op, operands: &[ValueId], span: Span) -> Eval<()> {
        self.builder.span = Some(self.home(span));
        let mut axes: Vec<AxisId> = Vec::new();
        let own = operands.iter().flat_map(|value| &self.builder.ty(*value).axes);
        for axis in own.chain(&new_axes(op)) {
            if !axes.contains(axis) {
                axes.push(*axis);
            }
        }
        self.check_elements(&axes, "this value", span)
    }

    /// Refuses more elements than can be counted.
    pub(crate) fn check_elements(&mut self, axes: &[AxisId], what: &str, span: Span) -> Eval<()> {
        let sizes = axes.iter().map(|axis| self.builder.graph.size(*axis));
        let count = sizes.filter(|size| *size > 0).try_fold(1u64, u64::checked_mul);
        if count.is_some_and(|count| count <= MAX_ELEMENTS) {
            return Ok(());
        }
        let label = format!("axes {}", self.axes_text(axes));
        self.fail(Report::new(Cause::Absurd { what: what.into() }, span, label))
    }

    /// Ints are kept in 32 bits.
    fn checked(&mut self, value: ValueId, span: Span) -> Eval<ValueId> {
        let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
        match self.builder.ty(value).dtype {
            DType::Int { lo, hi }
                if !range.contains(&lo) || !range.contains(&hi.saturating_sub(1)) =>
            {
                let cause = Cause::IntRange { what: "this int".into() };
                self.fail(Report::new(cause, span, format!("can be {lo} to {}", hi - 1)))
            }
            _ => Ok(value),
        }
    }

    /// A misfit that no rule above foresaw, in the words of the graph.
    fn misfit<T>(&mut self, error: &OpError, span: Span) -> Eval<T> {
        let cause = Cause::Operation { reason: error.to_string() };
        self.fail(Report::new(cause, span, "this operation"))
    }

    /// The place in the user's own text: a library's line is replaced by the innermost call of it.
    pub(crate) fn home(&self, span: Span) -> Span {
        if span.source == 0 {
            return span;
        }
        let call = self.calls.iter().rev().find(|(at, _)| at.source == 0);
        call.map_or(span, |(at, _)| *at)
    }

    /// Axis names for a message.
    pub(crate) fn axes_text(&self, axes: &[AxisId]) -> String {
        let names: Vec<&str> = axes.iter().map(|axis| self.axis_text(*axis)).collect();
        format!("[{}]", names.join(", "))
    }

    pub(crate) fn axis_text(&self, axis: AxisId) -> &str {
        &self.builder.graph.axes[axis.index()].name
    }
}

/// Axes that an operation adds to those of its operands.
fn new_axes(op: &Op) -> Vec<AxisId> {
    match op {
        Op::Pos(axis) => vec![*axis],
        Op::Broadcast { axes } | Op::Noise { axes, .. } => axes.clone(),
        Op::Slice { to, .. } => to.iter().copied().collect(),
        Op::Scatter { to, .. } | Op::Cat { to, .. } | Op::Top { to, .. } => vec![*to],
        _ => Vec::new(),
    }
}
