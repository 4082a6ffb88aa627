//! The gradient of attention: one [`Op::AttendGrad`] whose region differentiates the score
//! function with the op table.

use std::collections::HashMap;

use super::super::vjp::{Vjp, straight_line};
use super::{Parts, fixed, leading};
use crate::graph::{AxisId, Builder, Op, Region, Type, ValueId};
use crate::pointwise::Pointwise;

pub(super) fn vjp(v: &mut Vjp, g: &[Option<ValueId>]) -> Vec<Option<ValueId>> {
    let Op::Attend { keys, inner } = v.node.op.clone() else { unreachable!("row of another op") };
    let region = v.node.region.as_ref().expect("attention has a region");
    let types: Vec<Type> = v.node.operands.iter().map(|x| v.builder.ty(*x).clone()).collect();
    let parts = Parts::new(&v.node.op, &types.iter().collect::<Vec<_>>());
    let fixed = fixed(&v.node.op);
    let mut operands: Vec<ValueId> = (0..fixed).map(|i| v.operand(i)).collect();
    let captured: Vec<ValueId> = (fixed..types.len()).map(|i| v.operand(i)).collect();
    let (q, k) = (operands[0], operands[1]);
    let dout = g[0].unwrap_or_else(|| v.real(0.0));
    let dout = v.spread(dout, &parts.out);
    operands.extend([dout, v.result(1), delta(v, &parts, dout, g)]);
    operands.extend(&captured);

    let wanted: Vec<bool> = v.wanted[fixed..].to_vec();
    let full = wanted.contains(&true);
    let op = Op::AttendGrad { keys, inner: inner.clone(), full };
    let made = must(differentiated(v.builder, op, &operands, region));
    let mut cotangents: Vec<Option<ValueId>> = made[..3].iter().copied().map(Some).collect();
    if full {
        let raw = v.emit(Op::Dot { axes: inner }, &[q, k]);
        cotangents.extend(of_captured(v.builder, region, raw, made[3], &captured, &wanted));
    } else {
        cotangents.resize(types.len(), None);
    }
    cotangents
}

/// `Σ dout·out` over the columns, less the cotangent of `lse`.
fn delta(v: &mut Vjp, parts: &Parts, dout: ValueId, g: &[Option<ValueId>]) -> ValueId {
    let out = v.result(0);
    let product = match parts.columns.is_empty() {
        true => v.mul(dout, out),
        false => v.emit(Op::Dot { axes: parts.columns.clone() }, &[dout, out]),
    };
    match g[1] {
        Some(g) => {
            let g = v.spread(g, &parts.rows);
            v.map(Pointwise::Sub, &[product, g])
        }
        None => product,
    }
}

/// The gradient node, with the derivative of the score function as its region.
fn differentiated(
    b: &mut Builder,
    op: Op,
    operands: &[ValueId],
    region: &Region,
) -> Result<Vec<ValueId>, super::OpError> {
    let lead = leading(&op);
    let args = b.open_score(&op, operands)?;
    let (raw, dscore) = (args[0], args[1]);
    let inputs: Vec<ValueId> = [raw].into_iter().chain(args[lead..].iter().copied()).collect();
    let mut map: HashMap<ValueId, ValueId> = region.args.iter().copied().zip(inputs).collect();
    let tape = b.inline(region, &mut map)?;
    let score = map[&region.results[0]];
    let mut found = straight_line(b, &tape, &[raw], (score, dscore));
    let axes: Vec<AxisId> = b.ty(raw).axes.clone();
    let draw = match found.remove(&raw) {
        Some(g) => whole(b, g, &axes)?,
        None => {
            let zero = b.real(0.0);
            whole(b, zero, &axes)?
        }
    };
    let score = whole(b, score, &axes)?;
    b.close_score(op, operands, &[score, draw])
}

/// The value with all of the given axes.
fn whole(b: &mut Builder, x: ValueId, axes: &[AxisId]) -> Result<ValueId, super::OpError> {
    let missing: Vec<AxisId> = axes.iter().copied().filter(|a| !b.ty(x).has(*a)).collect();
    if missing.is_empty() { Ok(x) } else { b.op(Op::Broadcast { axes: missing }, &[x]) }
}

/// Cotangents of captured values, from those of the whole score.
fn of_captured(
    b: &mut Builder,
    region: &Region,
    raw: ValueId,
    dscore: ValueId,
    captured: &[ValueId],
    wanted: &[bool],
) -> Vec<Option<ValueId>> {
    let inputs = [raw].into_iter().chain(captured.iter().copied());
    let mut map: HashMap<ValueId, ValueId> = region.args.iter().copied().zip(inputs).collect();
    let tape = must(b.inline(region, &mut map));
    let sources: Vec<ValueId> =
        captured.iter().zip(wanted).filter(|(_, w)| **w).map(|(v, _)| *v).collect();
    let found = straight_line(b, &tape, &sources, (map[&region.results[0]], dscore));
    captured.iter().map(|v| found.get(v).copied()).collect()
}

fn must<T>(result: Result<T, super::OpError>) -> T {
    result.unwrap_or_else(|e| panic!("the gradient of `attend` is ill-typed: {e}"))
}
