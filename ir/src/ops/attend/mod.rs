//! Attention with a score function, and its gradient.
//!
//! ```text
//! raw[…, S] = Σ q·k over `inner`        score = f(raw, captured values)
//! P = exp(score − lse)                  lse = log Σ exp(score) over S
//! out = Σ P·v over S
//! ```
//! What is multiplied by bf16 is rounded to bf16. Where `v` is, that is `exp(score − largest)`, and `out` is
//! divided by its sum afterwards; kernels that meet keys tile by tile round relative to the largest score so far.
//! On the way back it is `P` where `dout` is bf16, and the cotangent of `raw` where `q` is.
//!
//! The score function is a closed region of pointwise operations, so scale, soft-cap, bias, ALiBi
//! and every mask are one operation. `value` says what it means, `gradient` how it is
//! differentiated, `decompose` how it is said with other operations.

mod decompose;
mod gradient;
mod value;

pub use decompose::decompose;
pub(crate) use value::value;

use super::attributes::{axis, close, print_axes, print_axis};
use super::{Eval, EvalError, OpDef, OpError, absent, need, union};
use crate::graph::{AxisId, DType, Graph, Op, Region, Type, ValueId};
use crate::tensor::Tensor;
use crate::text::{Parsed, accept, symbol};

/// `softmax(f(q·k))·v` and the logarithm of the softmax's denominator.
pub const ATTEND: OpDef = OpDef {
    name: "attend",
    print,
    parse: |graph, text| {
        let (text, (keys, inner)) = contracted(graph, text)?;
        close(text, Op::Attend { keys, inner })
    },
    infer: |_, _, _| panic!("attention is typed with its region, by `attend::results`"),
    // Two products; a row of the softmax costs about 20 operations for each element.
    flops: |op, graph, operands, _| {
        let parts = Parts::new(op, operands);
        parts.product_flops(graph) + 20 * parts.pairs(graph)
    },
    vjp: gradient::vjp,
    eval: with_region,
};

/// The cotangents of `q`, `k`, `v`, and of the score where something else needs it.
pub const ATTEND_GRAD: OpDef = OpDef {
    name: "attend_grad",
    print,
    parse: |graph, text| {
        let (text, (keys, inner)) = contracted(graph, text)?;
        let (text, full) = accept(text, ",");
        let text = if full { symbol(text, "full")?.0 } else { text };
        close(text, Op::AttendGrad { keys, inner, full })
    },
    infer: |_, _, _| panic!("attention is typed with its region, by `attend::results`"),
    // Five products; the probabilities are computed again.
    flops: |op, graph, operands, _| {
        let parts = Parts::new(op, operands);
        parts.pairs(graph) * (6 * parts.depth(graph) + 4 * parts.width(graph) + 20)
    },
    vjp: |_, _| panic!("the gradient of attention is differentiated in its decomposed form"),
    eval: with_region,
};

fn print(op: &Op, graph: &Graph) -> String {
    let (keys, inner) = attributes(op);
    let full = if matches!(op, Op::AttendGrad { full: true, .. }) { ", full" } else { "" };
    format!("{}, {}{full}", print_axis(graph, keys), print_axes(graph, "*", inner))
}

/// `keys, inner*inner…`.
fn contracted<'a>(graph: &Graph, text: &'a str) -> Parsed<'a, (AxisId, Vec<AxisId>)> {
    let (text, keys) = axis(graph, text)?;
    let (text, ()) = symbol(text, ",")?;
    let (mut text, first) = axis(graph, text)?;
    let mut inner = vec![first];
    while let (rest, true) = accept(text, "*") {
        let (rest, next) = axis(graph, rest)?;
        inner.push(next);
        text = rest;
    }
    Ok((text, (keys, inner)))
}

fn with_region(_: &Eval, _: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    panic!("attention is evaluated with its region")
}

/// The axes that attention contracts: keys, inner.
pub fn attributes(op: &Op) -> (AxisId, &[AxisId]) {
    match op {
        Op::Attend { keys, inner } | Op::AttendGrad { keys, inner, .. } => (*keys, inner),
        _ => unreachable!("row of another op"),
    }
}

/// Number of operands in front of the captured values.
pub fn fixed(op: &Op) -> usize {
    if matches!(op, Op::Attend { .. }) { 3 } else { 6 }
}

/// The operand that a computed factor is multiplied by: the probabilities (0), and on the way back
/// the cotangent of the raw product (1). Where it is bf16, the factor is rounded to bf16.
pub fn factor(op: &Op, of: usize) -> usize {
    match (op, of) {
        (Op::Attend { .. }, _) => 2,
        (_, 0) => 3,
        _ => 0,
    }
}

/// Number of arguments of the region in front of the captured values.
pub fn leading(op: &Op) -> usize {
    if matches!(op, Op::Attend { .. }) { 1 } else { 2 }
}

/// The axes that follow from those of `q`, `k` and `v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Axis that the softmax runs over.
    pub keys: AxisId,
    /// Axes contracted by the raw product.
    pub inner: Vec<AxisId>,
    /// Axes of the score.
    pub score: Vec<AxisId>,
    /// Axes of the score without the keys: those of `lse`.
    pub rows: Vec<AxisId>,
    /// Axes that `v` alone brings to the output.
    pub columns: Vec<AxisId>,
    /// Axes of the output.
    pub out: Vec<AxisId>,
}

impl Parts {
    /// The axes of attention over the first three of its operands.
    pub fn new(op: &Op, operands: &[&Type]) -> Self {
        let (keys, inner) = attributes(op);
        let [q, k, v] = [operands[0], operands[1], operands[2]];
        let score: Vec<AxisId> =
            union(&[q, k]).into_iter().filter(|a| !inner.contains(a)).collect();
        let without = |axes: &[AxisId]| axes.iter().copied().filter(|a| *a != keys).collect();
        let rows: Vec<AxisId> = without(&score);
        let columns: Vec<AxisId> = v.axes.iter().copied().filter(|a| !score.contains(a)).collect();
        let out = rows.iter().chain(&columns).copied().collect();
        Self { keys, inner: inner.to_vec(), score, rows, columns, out }
    }

    /// Floating-point operations of the two products, masked or not.
    pub fn product_flops(&self, graph: &Graph) -> u64 {
        2 * self.pairs(graph) * (self.depth(graph) + self.width(graph))
    }

    /// Elements of the score.
    fn pairs(&self, graph: &Graph) -> u64 {
        graph.elements(&self.score)
    }

    fn depth(&self, graph: &Graph) -> u64 {
        graph.elements(&self.inner)
    }

    fn width(&self, graph: &Graph) -> u64 {
        graph.elements(&self.columns)
    }
}

fn real(axes: &[AxisId]) -> Type {
    Type { dtype: DType::F32, axes: axes.to_vec() }
}

fn name(op: &Op) -> &'static str {
    super::def(op).name
}

/// Types of the arguments of the score function.
///
/// # Errors
/// When the operands do not fit the operation.
pub fn arguments(op: &Op, graph: &Graph, operands: &[&Type]) -> Result<Vec<Type>, OpError> {
    let (name, expected) = (name(op), fixed(op));
    let Some((given, captured)) = operands.split_at_checked(expected) else {
        return Err(OpError::Arity { op: name, expected, got: operands.len() });
    };
    if let Some(x) = given.iter().find(|x| !x.dtype.is_real()) {
        return Err(OpError::DType { op: name, expected: "reals", got: x.dtype });
    }
    let (keys, inner) = attributes(op);
    let [q, k, v] = [given[0], given[1], given[2]];
    for axis in inner {
        need(name, graph, q, *axis)?;
        need(name, graph, k, *axis)?;
    }
    absent(name, graph, q, keys)?;
    need(name, graph, k, keys)?;
    need(name, graph, v, keys)?;
    if inner.contains(&keys) {
        let axis = graph.axes[keys.index()].name.clone();
        return Err(OpError::PresentAxis { op: name, axis });
    }
    if inner.is_empty() {
        return Err(OpError::Score { op: name, what: "gets a product that contracts nothing" });
    }
    let parts = Parts::new(op, operands);
    for (x, axes) in given[3..].iter().zip([&parts.out, &parts.rows, &parts.rows]) {
        for axis in axes {
            need(name, graph, x, *axis)?;
        }
        if let Some(axis) = x.axes.iter().find(|a| !axes.contains(a)) {
            absent(name, graph, x, *axis)?;
        }
    }
    let raw = real(&parts.score);
    let leading = vec![raw; leading(op)];
    Ok(leading.into_iter().chain(captured.iter().map(|x| (*x).clone())).collect())
}

/// Types of the results of attention with its region.
///
/// # Errors
/// When the operands do not fit the operation, or the region is not a score function.
pub fn results(
    op: &Op,
    graph: &Graph,
    operands: &[&Type],
    region: &Region,
) -> Result<Vec<Type>, OpError> {
    arguments(op, graph, operands)?;
    let parts = Parts::new(op, operands);
    if let Some(what) = fault(op, graph, &parts, region) {
        return Err(OpError::Score { op: name(op), what });
    }
    Ok(match op {
        Op::Attend { .. } => vec![real(&parts.out), real(&parts.rows)],
        Op::AttendGrad { full, .. } => {
            let own = operands[..3].iter().map(|x| real(&x.axes));
            own.chain(full.then(|| real(&parts.score))).collect()
        }
        _ => unreachable!("row of another op"),
    })
}

/// Why a region is not a score function.
fn fault(op: &Op, graph: &Graph, parts: &Parts, region: &Region) -> Option<&'static str> {
    let pointwise = region.nodes.iter().all(|node| {
        matches!(
            node.op,
            Op::Real(_)
                | Op::Int(_)
                | Op::Bool(_)
                | Op::Pos(_)
                | Op::Pointwise(_)
                | Op::Cast(_)
                | Op::Broadcast { .. }
        )
    });
    if !pointwise {
        return Some("has operations that are not pointwise");
    }
    let made = region.nodes.iter().flat_map(|n| &n.results);
    let foreign = |v: &ValueId| graph.ty(*v).axes.iter().any(|a| !parts.score.contains(a));
    if region.args.iter().chain(made).any(foreign) {
        return Some("has axes that the raw product lacks");
    }
    let whole = |v: &ValueId| {
        let ty = graph.ty(*v);
        ty.dtype.is_real() && parts.score.iter().all(|a| ty.has(*a))
    };
    if region.results.len() != leading(op) || !region.results.iter().all(whole) {
        return Some("must give reals with the axes of the raw product");
    }
    if matches!(op, Op::AttendGrad { .. }) && depends(region, 0, region.args[1]) {
        return Some("gives a score that depends on its cotangent");
    }
    None
}

/// Whether a result of straight-line code depends on a value.
fn depends(region: &Region, result: usize, source: ValueId) -> bool {
    let mut found = std::collections::HashSet::from([source]);
    for node in &region.nodes {
        if node.operands.iter().any(|v| found.contains(v)) {
            found.extend(&node.results);
        }
    }
    found.contains(&region.results[result])
}
