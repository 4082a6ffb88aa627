//! Pointwise functions and casts.

use super::{OpDef, OpError, one, union};
use crate::graph::{DType, Graph, Op, Type};
use crate::pointwise::{Pointwise, Typing};

/// A scalar function.
pub const POINTWISE: OpDef = OpDef {
    name: "pointwise",
    infer: |op, _, operands| {
        let Op::Pointwise(function) = op else { unreachable!("row of another op") };
        Ok(vec![Type { dtype: dtype(*function, operands)?, axes: union(operands) }])
    },
    flops: |op, graph, _, results| {
        let Op::Pointwise(function) = op else { unreachable!("row of another op") };
        u64::from(function.def().flops) * graph.elements(&results[0].axes)
    },
};

/// A change of precision.
pub const CAST: OpDef = OpDef {
    name: "cast",
    infer: |op, _, operands| {
        let Op::Cast(dtype) = op else { unreachable!("row of another op") };
        let x = one("cast", operands)?;
        if !x.dtype.is_real() || !dtype.is_real() {
            return Err(OpError::DType { op: "cast", expected: "a real", got: x.dtype });
        }
        Ok(vec![Type { dtype: *dtype, axes: x.axes.clone() }])
    },
    flops: |_, graph: &Graph, _, results| graph.elements(&results[0].axes),
};

/// Element type of the result; ranges of ints are carried along.
fn dtype(function: Pointwise, operands: &[&Type]) -> Result<DType, OpError> {
    let def = function.def();
    if operands.len() != def.arity {
        return Err(OpError::Arity { op: def.name, expected: def.arity, got: operands.len() });
    }
    let bad = |expected, got| Err(OpError::DType { op: def.name, expected, got });
    let types: Vec<DType> = operands.iter().map(|t| t.dtype).collect();
    let not_bool = types.iter().find(|t| **t == DType::Bool);
    let not_logic = types.iter().find(|t| **t != DType::Bool);
    let mixed = types.iter().any(|t| t.is_real()) && types.iter().any(|t| !t.is_real());
    match def.typing {
        Typing::Real => match types.iter().find(|t| !t.is_real()) {
            Some(got) => bad("reals", *got),
            None => Ok(DType::F32),
        },
        Typing::ToReal => Ok(DType::F32),
        Typing::Logic => not_logic.map_or(Ok(DType::Bool), |got| bad("bools", *got)),
        Typing::Compare => match not_bool {
            Some(got) => bad("numbers", *got),
            None if mixed => bad("numbers of one kind", types[1]),
            None => Ok(DType::Bool),
        },
        Typing::Integer | Typing::Arithmetic => match not_bool {
            Some(got) => bad("numbers", *got),
            None if mixed => bad("numbers of one kind", types[1]),
            None if types[0].is_real() && def.typing == Typing::Integer => bad("ints", types[0]),
            None if types[0].is_real() => Ok(DType::F32),
            None => Ok(int_range(function, &types)),
        },
        Typing::Select => match (types[0], types[1], types[2]) {
            (DType::Bool, a, b) if a.is_real() && b.is_real() => Ok(DType::F32),
            (DType::Bool, DType::Bool, DType::Bool) => Ok(DType::Bool),
            (DType::Bool, DType::Int { lo: a, hi: b }, DType::Int { lo: c, hi: d }) => {
                Ok(DType::Int { lo: a.min(c), hi: b.max(d) })
            }
            (DType::Bool, _, got) => bad("branches of one kind", got),
            (got, ..) => bad("a bool condition", got),
        },
    }
}

/// Interval arithmetic on half-open ranges; saturates at the ends of i64.
fn int_range(function: Pointwise, types: &[DType]) -> DType {
    let ends = |t: &DType| match *t {
        DType::Int { lo, hi } => (i128::from(lo), i128::from(hi) - 1),
        _ => unreachable!("int arithmetic on a non-int"),
    };
    let (a, b) = ends(&types[0]);
    let (c, d) = types.get(1).map_or((0, 0), ends);
    let hull = |xs: &[i128]| {
        (xs.iter().copied().min().unwrap_or(0), xs.iter().copied().max().unwrap_or(0))
    };
    let (lo, hi) = match function {
        Pointwise::Neg => (-b, -a),
        Pointwise::Add => (a + c, b + d),
        Pointwise::Sub => (a - d, b - c),
        Pointwise::Mul => hull(&[a * c, a * d, b * c, b * d]),
        Pointwise::FloorDiv if c > 0 => {
            hull(&[a.div_euclid(c), a.div_euclid(d), b.div_euclid(c), b.div_euclid(d)])
        }
        Pointwise::Mod if c > 0 && a >= 0 && b < c => (a, b),
        Pointwise::Mod if c > 0 => (0, d - 1),
        Pointwise::Min => (a.min(c), b.min(d)),
        Pointwise::Max => (a.max(c), b.max(d)),
        Pointwise::Stop => (a, b),
        _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
    };
    let clamp = |x: i128| x.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    DType::Int { lo: clamp(lo), hi: clamp(hi + 1) }
}
