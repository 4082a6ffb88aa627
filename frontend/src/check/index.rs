//! Index by substitution, rename, split and merge.

use gigac_ir::graph::{AxisId, DType, Op};

use super::Checker;
use super::value::{Affine, Eval, Kind, Operand, Value};
use crate::error::{Cause, Report};
use crate::source::Span;
use crate::syntax::ast::Ident;

impl Checker {
    /// `value[axis = at]`
    pub(crate) fn index(&mut self, value: Operand, axis: &Ident, at: Operand, span: Span) -> Eval {
        let id = self.axis_named(axis)?;
        self.need_axis(&value, id, axis.span)?;
        match self.kind(&at.value) {
            Kind::Int => {}
            kind => return self.dtype_error("an index", "an int", kind.name(), at.span),
        }
        if let Some(empty) = self.empty_index(&value, id, &at) {
            return Ok(empty);
        }
        let Value::Tensor(x) = value.value else {
            return Err(super::value::Failed);
        };
        if let Value::Number(position) = at.value {
            let start = position.as_whole().unwrap_or(i64::MAX);
            self.check_range(id, start, start, at.span)?;
            let op = Op::Slice { axis: id, to: None, start, stride: 1 };
            return self.emit(op, &[x], span).map(Value::Tensor);
        }
        let e = self.tensor(&at.value, Kind::Int, at.span)?;
        if let DType::Int { lo, hi } = self.builder.ty(e).dtype {
            self.check_range(id, lo, hi - 1, at.span)?;
        }
        if let Some(Affine { axis: to, start, stride }) = self.affine_of(&at.value)
            && (to == id || !self.builder.ty(x).has(to))
        {
            let whole = start == 0 && stride == 1 && self.same_size(to, id);
            let op = match whole {
                true if to == id => return Ok(value.value),
                true => Op::Rename { from: id, to },
                false => Op::Slice { axis: id, to: Some(to), start, stride },
            };
            return self.emit(op, &[x], span).map(Value::Tensor);
        }
        self.emit(Op::Gather { axis: id }, &[x, e], span).map(Value::Tensor)
    }

    /// Indexing an empty value, or with an empty index.
    fn empty_index(&self, value: &Operand, axis: AxisId, at: &Operand) -> Option<Value> {
        let empty = |value: &Value| matches!(value, Value::Empty { .. });
        if !empty(&value.value) && !empty(&at.value) {
            return None;
        }
        let mut axes = self.axes_of(&value.value);
        axes.retain(|own| *own != axis);
        for new in self.axes_of(&at.value) {
            if !axes.contains(&new) {
                axes.push(new);
            }
        }
        Some(Value::Empty { axes, kind: self.kind(&value.value) })
    }

    /// Refuses an index that may leave its axis.
    pub(crate) fn check_range(
        &mut self,
        axis: AxisId,
        low: i64,
        high: i64,
        span: Span,
    ) -> Eval<()> {
        let last = self.builder.graph.size(axis) as i64 - 1;
        if low >= 0 && high <= last {
            return Ok(());
        }
        let axis = self.axis_text(axis).to_string();
        let index = match low == high {
            true => format!("is {low}"),
            false => format!("can be {low} to {high}"),
        };
        let label = index.clone();
        self.fail(Report::new(Cause::IndexRange { axis, index, last }, span, label))
    }

    pub(crate) fn same_size(&self, a: AxisId, b: AxisId) -> bool {
        self.builder.graph.size(a) == self.builder.graph.size(b)
    }

    /// Refuses a value that lacks an axis.
    pub(crate) fn need_axis(&mut self, value: &Operand, axis: AxisId, span: Span) -> Eval<()> {
        let axes = self.axes_of(&value.value);
        if axes.contains(&axis) {
            return Ok(());
        }
        let has = match &axes[..] {
            [] => "it is a scalar".to_string(),
            _ => format!("it has axes {}", self.axes_text(&axes)),
        };
        let help = match axes.iter().find(|own| self.same_size(**own, axis)) {
            Some(own) => format!(
                "{has}; axes match by name, never by size: rename with `[{} -> {}]` if they are the same thing",
                self.axis_text(*own),
                self.axis_text(axis)
            ),
            None => format!("{has}; name one of them"),
        };
        let cause = Cause::MissingAxis {
            what: "this value".into(),
            axis: self.axis_text(axis).into(),
            help,
        };
        let report = Report::new(cause, span, "this axis");
        self.fail(report.also(value.span, has))
    }

    /// `value[from -> to]`: rename, split or merge.
    pub(crate) fn reshape(
        &mut self,
        value: Operand,
        from: &[Ident],
        to: &[Ident],
        span: Span,
    ) -> Eval {
        let sources = self.axis_group(from);
        let targets = self.axis_group(to);
        let (sources, targets) = (sources?, targets?);
        for (axis, place) in &sources {
            self.need_axis(&value, *axis, *place)?;
        }
        let from: Vec<AxisId> = sources.iter().map(|(axis, _)| *axis).collect();
        let to: Vec<AxisId> = targets.iter().map(|(axis, _)| *axis).collect();
        let own = self.axes_of(&value.value);
        for (axis, place) in &targets {
            if own.contains(axis) && !from.contains(axis) {
                let axis = self.axis_text(*axis).to_string();
                let report = Report::new(Cause::PresentAxis { axis }, *place, "present already");
                let has = format!("has axes {}", self.axes_text(&own));
                return self.fail(report.also(value.span, has));
            }
        }
        self.check_products(&from, &to, span)?;
        self.relabel(value, &from, &to, span)
    }

    fn relabel(&mut self, value: Operand, from: &[AxisId], to: &[AxisId], span: Span) -> Eval {
        if from == to {
            return Ok(value.value);
        }
        let x = match value.value {
            Value::Tensor(x) => x,
            Value::Empty { axes, kind } => {
                let kept = axes.into_iter().filter(|axis| !from.contains(axis));
                let axes = kept.chain(to.iter().copied()).collect();
                return Ok(Value::Empty { axes, kind });
            }
            other => return Ok(other),
        };
        let op = match (from, to) {
            ([from], [to]) => Op::Rename { from: *from, to: *to },
            ([from], _) => Op::Split { from: *from, to: to.to_vec() },
            (_, [to]) => Op::Merge { from: from.to_vec(), to: *to },
            _ => {
                let size = self.builder.graph.elements(from);
                let between = self.local_axis_id("Merged", size);
                let op = Op::Merge { from: from.to_vec(), to: between };
                let merged = self.emit(op, &[x], span)?;
                let op = Op::Split { from: between, to: to.to_vec() };
                return self.emit(op, &[merged], span).map(Value::Tensor);
            }
        };
        self.emit(op, &[x], span).map(Value::Tensor)
    }

    /// The axes of a group with their places; each at most once.
    fn axis_group(&mut self, group: &[Ident]) -> Eval<Vec<(AxisId, Span)>> {
        let mut all: Vec<(AxisId, Span)> = Vec::new();
        for ident in group {
            for axis in self.axes_named(ident)? {
                if let Some((_, first)) = all.iter().find(|(known, _)| *known == axis) {
                    let cause = Cause::AxisTwice { axis: ident.name.clone() };
                    let report =
                        Report::new(cause, ident.span, "again here").also(*first, "first here");
                    return self.fail(report);
                }
                all.push((axis, ident.span));
            }
        }
        Ok(all)
    }

    fn check_products(&mut self, from: &[AxisId], to: &[AxisId], span: Span) -> Eval<()> {
        self.check_elements(from, "this product", span)?;
        self.check_elements(to, "this product", span)?;
        let (left, right) = (self.builder.graph.elements(from), self.builder.graph.elements(to));
        if left == right {
            return Ok(());
        }
        let side = |checker: &Self, axes: &[AxisId], size: u64| {
            let names: Vec<&str> = axes.iter().map(|axis| checker.axis_text(*axis)).collect();
            format!("`{}` is {size}", names.join(" * "))
        };
        let cause = Cause::SizesDiffer {
            left: side(self, from, left),
            right: side(self, to, right),
            help: "a rename, split or merge keeps the number of elements",
        };
        self.fail(Report::new(cause, span, "both sides must have the same size"))
    }
}
