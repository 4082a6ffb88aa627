//! Attention in terms of other operations: the reference that kernels are judged by, and the way
//! out for shapes that no kernel takes.

use std::collections::HashMap;

use super::{OpError, Parts, factor};
use crate::graph::{AxisId, Builder, DType, Node, Op, Region, Type, ValueId};
use crate::kernel::Reduction;
use crate::pointwise::Pointwise;

/// The results of an attention node, built from products, reductions and pointwise operations.
/// `operands` are those of the node in the graph being built.
///
/// # Errors
/// When the node does not fit its operands.
///
/// # Panics
/// When the node is not attention.
pub fn decompose(
    b: &mut Builder,
    node: &Node,
    operands: &[ValueId],
) -> Result<Vec<ValueId>, OpError> {
    let types: Vec<Type> = operands.iter().map(|v| b.ty(*v).clone()).collect();
    let parts = Parts::new(&node.op, &types.iter().collect::<Vec<_>>());
    match node.op {
        Op::Attend { .. } => forward(b, node, &parts, operands),
        Op::AttendGrad { full, .. } => backward(b, node, &parts, operands, full),
        _ => panic!("`{}` is not attention", super::name(&node.op)),
    }
}

fn forward(
    b: &mut Builder,
    node: &Node,
    parts: &Parts,
    operands: &[ValueId],
) -> Result<Vec<ValueId>, OpError> {
    let region = score(node);
    let raw = dot(b, &parts.inner, operands[0], operands[1])?;
    let mut map = HashMap::from([(region.args[0], raw)]);
    map.extend(region.args[1..].iter().copied().zip(operands[3..].iter().copied()));
    b.inline(region, &mut map)?;
    let score = map[&region.results[0]];
    let keys = vec![parts.keys];
    let largest = b.op(Op::Reduce { op: Reduction::Max, axes: keys.clone() }, &[score])?;
    let (zero, none) = (b.real(0.0), b.real(f64::NEG_INFINITY));
    let masked = b.map(Pointwise::Eq, &[largest, none])?;
    let shift = b.map(Pointwise::Where, &[masked, zero, largest])?;
    let shifted = b.map(Pointwise::Sub, &[score, shift])?;
    let weight = b.map(Pointwise::Exp, &[shifted])?;
    let sum = b.op(Op::Reduce { op: Reduction::Sum, axes: keys.clone() }, &[weight])?;
    // The sum is at least 1, or 0 where all is masked.
    let half = b.real(0.5);
    let sum = b.map(Pointwise::Max, &[sum, half])?;
    let v = operands[factor(&node.op, 0)];
    let out = match b.ty(v).dtype {
        DType::Bf16 => {
            let weight = rounded(b, weight, v)?;
            let out = dot(b, &keys, weight, v)?;
            b.map(Pointwise::Div, &[out, sum])?
        }
        _ => {
            let p = b.map(Pointwise::Div, &[weight, sum])?;
            dot(b, &keys, p, v)?
        }
    };
    let log = b.map(Pointwise::Log, &[sum])?;
    let lse = b.map(Pointwise::Add, &[shift, log])?;
    Ok(vec![out, b.map(Pointwise::Where, &[masked, zero, lse])?])
}

fn backward(
    b: &mut Builder,
    node: &Node,
    parts: &Parts,
    operands: &[ValueId],
    full: bool,
) -> Result<Vec<ValueId>, OpError> {
    let region = score(node);
    let [q, k, v, dout, lse, delta] = operands[..6] else { unreachable!("verified") };
    let raw = dot(b, &parts.inner, q, k)?;
    let mut map = HashMap::from([(region.args[0], raw)]);
    map.extend(region.args[2..].iter().copied().zip(operands[6..].iter().copied()));
    // First what the score needs; the rest once its cotangent is there.
    b.inline(region, &mut map)?;
    let shifted = b.map(Pointwise::Sub, &[map[&region.results[0]], lse])?;
    let p = b.map(Pointwise::Exp, &[shifted])?;
    let dp = dot(b, &parts.columns, dout, v)?;
    let centred = b.map(Pointwise::Sub, &[dp, delta])?;
    let dscore = b.map(Pointwise::Mul, &[p, centred])?;
    map.insert(region.args[1], dscore);
    b.inline(region, &mut map)?;
    let draw = rounded(b, map[&region.results[1]], operands[factor(&node.op, 1)])?;
    let p = rounded(b, p, operands[factor(&node.op, 0)])?;
    let rest = |b: &Builder, x: ValueId, y: ValueId| -> Vec<AxisId> {
        b.ty(x).axes.iter().copied().filter(|a| !b.ty(y).has(*a)).collect()
    };
    let mut results = Vec::new();
    for (x, y, own) in [(draw, k, q), (draw, q, k), (p, dout, v)] {
        let axes = rest(b, y, own);
        results.push(dot(b, &axes, x, y)?);
    }
    results.extend(full.then_some(dscore));
    Ok(results)
}

fn score(node: &Node) -> &Region {
    node.region.as_ref().expect("attention has a region")
}

/// A value as it is multiplied by another one: rounded where that is bf16.
fn rounded(b: &mut Builder, x: ValueId, by: ValueId) -> Result<ValueId, OpError> {
    match b.ty(by).dtype {
        DType::Bf16 => b.op(Op::Cast(DType::Bf16), &[x]),
        _ => Ok(x),
    }
}

fn dot(b: &mut Builder, axes: &[AxisId], x: ValueId, y: ValueId) -> Result<ValueId, OpError> {
    b.op(Op::Dot { axes: axes.to_vec() }, &[x, y])
}
