//! Lookups that only reorder an axis, as views.

use gigac_ir::graph::{AxisId, Builder, Node, Op, ValueId};
use gigac_ir::ops::OpError;

use super::Uses;

/// Most positions of an axis whose index is evaluated.
const LONGEST: u64 = 1 << 16;
/// Most slices that a lookup may become.
const MOST_SLICES: usize = 4;

/// Neighbouring positions that read positions at equal distances.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    start: i64,
    stride: i64,
    length: u64,
}

/// What stands for a lookup whose index takes each position of an axis once.
pub(super) fn view(
    uses: &Uses<'_>,
    b: &mut Builder,
    node: &Node,
    operands: &[ValueId],
) -> Result<Option<ValueId>, OpError> {
    let Op::Gather { axis } = node.op else { return Ok(None) };
    let size = b.graph.size(axis);
    let real = b.ty(operands[0]).dtype.is_real();
    if !real || size > LONGEST || uses.graph.ty(node.operands[1]).axes != [axis] {
        return Ok(None);
    }
    let Some(index) = table(uses, node.operands[1], axis) else { return Ok(None) };
    let mut sorted = index.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..size as i64) {
        return Ok(None);
    }
    let stretches = stretches(&index);
    match (&stretches[..], paired(&stretches)) {
        ([one], _) => slice(b, operands[0], axis, axis, *one).map(Some),
        (_, Some(pair)) => turned(b, operands[0], axis, stretches.len() as u64, pair).map(Some),
        (all, None) if all.len() <= MOST_SLICES => joined(b, operands[0], axis, all).map(Some),
        _ => Ok(None),
    }
}

/// The values of an int along the only axis that it has, when they are known.
fn table(uses: &Uses<'_>, value: ValueId, axis: AxisId) -> Option<Vec<i64>> {
    let numbers = numbers(uses, value, axis)?;
    Some(numbers.into_iter().map(|x| x as i64).collect())
}

fn numbers(uses: &Uses<'_>, value: ValueId, axis: AxisId) -> Option<Vec<f64>> {
    let size = uses.graph.size(axis) as usize;
    let node = uses.makers.get(&value)?;
    match &node.op {
        Op::Pos(of) if *of == axis => Some((0..size).map(|i| i as f64).collect()),
        Op::Int(i) => Some(vec![*i as f64; size]),
        Op::Real(x) => Some(vec![x.get(); size]),
        Op::Bool(x) => Some(vec![f64::from(*x); size]),
        Op::Pointwise(function) => {
            let operands = node.operands.iter().map(|v| numbers(uses, *v, axis));
            let operands = operands.collect::<Option<Vec<_>>>()?;
            let at = |i: usize| operands.iter().map(|x| x[i]).collect::<Vec<f64>>();
            Some((0..size).map(|i| (function.def().eval)(&at(i))).collect())
        }
        _ => None,
    }
}

/// An index taken apart, the longest stretches first.
fn stretches(index: &[i64]) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut rest = index;
    while let [start, tail @ ..] = rest {
        let stride = tail.first().map_or(1, |next| next - start);
        let next = |(i, at): (usize, &i64)| *at == start + stride * (i as i64 + 1);
        let length = 1 + tail.iter().enumerate().take_while(|at| next(*at)).count();
        found.push(Stretch { start: *start, stride, length: length as u64 });
        rest = &rest[length..];
    }
    found
}

/// The first of several stretches that all do the same to neighbouring parts of an axis.
fn paired(stretches: &[Stretch]) -> Option<Stretch> {
    let first = *stretches.first()?;
    let inside = |at: i64| (0..first.length as i64).contains(&at);
    let last = first.start + first.stride * (first.length as i64 - 1);
    let alike = stretches.iter().zip(0..).all(|(s, i)| {
        let start = first.start + i * first.length as i64;
        (s.start, s.stride, s.length) == (start, first.stride, first.length)
    });
    (alike && inside(first.start) && inside(last)).then_some(first)
}

fn slice(
    b: &mut Builder,
    x: ValueId,
    axis: AxisId,
    to: AxisId,
    Stretch { start, stride, .. }: Stretch,
) -> Result<ValueId, OpError> {
    b.op(Op::Slice { axis, to: Some(to), start, stride }, &[x])
}

/// `x` with each of `count` parts of an axis reordered in the same way.
fn turned(
    b: &mut Builder,
    x: ValueId,
    axis: AxisId,
    count: u64,
    part: Stretch,
) -> Result<ValueId, OpError> {
    let name = b.graph.axes[axis.index()].name.clone();
    let parts = b.graph.add_axis(&format!("{name}.parts"), count);
    let inside = b.graph.add_axis(&format!("{name}.part"), part.length);
    let split = b.op(Op::Split { from: axis, to: vec![parts, inside] }, &[x])?;
    let turned = slice(b, split, inside, inside, part)?;
    b.op(Op::Merge { from: vec![parts, inside], to: axis }, &[turned])
}

/// Slices of `x`, end to end.
fn joined(
    b: &mut Builder,
    x: ValueId,
    axis: AxisId,
    stretches: &[Stretch],
) -> Result<ValueId, OpError> {
    let name = b.graph.axes[axis.index()].name.clone();
    let mut axes: Vec<(u64, AxisId)> = Vec::new();
    let (mut pieces, mut operands) = (Vec::new(), Vec::new());
    for stretch in stretches {
        let known = axes.iter().find(|(length, _)| *length == stretch.length);
        let piece = known.map(|(_, axis)| *axis);
        let piece = piece.unwrap_or_else(|| {
            let made = b.graph.add_axis(&format!("{name}.slice"), stretch.length);
            axes.push((stretch.length, made));
            made
        });
        pieces.push(Some(piece));
        operands.push(slice(b, x, axis, piece, *stretch)?);
    }
    b.op(Op::Cat { pieces, to: axis }, &operands)
}
