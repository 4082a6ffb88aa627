//! Pointwise functions and casts.

use super::attributes::{self, close};
use super::vjp::Vjp;
use super::{OpDef, OpError, one, union};
use crate::graph::{DType, Graph, Op, Type, ValueId};
use crate::pointwise::{Pointwise, Typing};
use crate::tensor::walk;
use crate::text;

/// A scalar function.
pub const POINTWISE: OpDef = OpDef {
    name: "pointwise",
    print: |op, _| {
        let Op::Pointwise(function) = op else { unreachable!("row of another op") };
        function.name().to_owned()
    },
    parse: |_, text| {
        let (rest, word) = text::word(text)?;
        match Pointwise::parse(word) {
            Some(function) => Ok((rest, Op::Pointwise(function))),
            None => text::fault(text, format!("there is no function `{word}`")),
        }
    },
    infer: |op, _, operands| {
        let Op::Pointwise(function) = op else { unreachable!("row of another op") };
        Ok(vec![Type { dtype: dtype(*function, operands)?, axes: union(operands) }])
    },
    flops: |op, graph, _, results| {
        let Op::Pointwise(function) = op else { unreachable!("row of another op") };
        u64::from(function.def().flops) * graph.elements(&results[0].axes)
    },
    vjp: |v, g| {
        let (Op::Pointwise(function), Some(g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        let all = v.union();
        (0..v.node.operands.len())
            .map(|i| {
                let part = v.wanted[i].then(|| partial(v, *function, i, g)).flatten();
                let axes = v.operand_axes(i);
                part.map(|g| {
                    let g = v.fit(g, &all, &axes);
                    finish(v, *function, i, g)
                })
            })
            .collect()
    },
    eval: |e, operands| {
        let Op::Pointwise(function) = e.op else { unreachable!("row of another op") };
        let value = function.def().eval;
        let mut out = e.full(0, 0.0);
        let strides: Vec<_> = operands.iter().map(|x| x.strides(&out.axes)).collect();
        let mut x = [0.0; 3];
        let sizes = out.sizes.clone();
        walk(&sizes, &strides, |i, at| {
            for (x, (operand, at)) in x.iter_mut().zip(operands.iter().zip(at)) {
                *x = operand.data[*at as usize];
            }
            out.data[i] = value(&x[..operands.len()]);
        });
        Ok(vec![out])
    },
};

/// A change of precision.
pub const CAST: OpDef = OpDef {
    name: "cast",
    print: |op, _| {
        let Op::Cast(dtype) = op else { unreachable!("row of another op") };
        dtype.to_string()
    },
    parse: |_, text| {
        let (text, dtype) = attributes::dtype(text)?;
        close(text, Op::Cast(dtype))
    },
    infer: |op, _, operands| {
        let Op::Cast(dtype) = op else { unreachable!("row of another op") };
        let x = one("cast", operands)?;
        if !x.dtype.is_real() || !dtype.is_real() {
            return Err(OpError::DType { op: "cast", expected: "a real", got: x.dtype });
        }
        Ok(vec![Type { dtype: *dtype, axes: x.axes.clone() }])
    },
    flops: |_, graph: &Graph, _, results| graph.elements(&results[0].axes),
    // The gradient is rounded where the value was: to the type of the result, then to the
    // operand's.
    vjp: |v, g| {
        let (Op::Cast(to), Some(mut g)) = (&v.node.op, g[0]) else {
            unreachable!("row of another op")
        };
        let from = v.builder.ty(v.node.operands[0]).dtype;
        for dtype in [*to, from] {
            if v.builder.ty(g).dtype != dtype {
                g = v.emit(Op::Cast(dtype), &[g]);
            }
        }
        vec![Some(g)]
    },
    eval: |e, operands| {
        let axes = &e.results[0].axes;
        let mut out = operands[0].arranged(axes, &e.sizes(axes));
        // Like all reals, those of type f32 are exact here.
        if matches!(e.op, Op::Cast(DType::Bf16)) {
            let round = Pointwise::Bf16.def().eval;
            out.data.iter_mut().for_each(|x| *x = round(&[*x]));
        }
        Ok(vec![out])
    },
};

/// The cotangent `g` of a function times its derivative by operand `i`, over the union of the
/// operands' axes, up to what [`finish`] does after the sum to the operand's axes. None where the
/// function does not vary smoothly.
fn partial(v: &mut Vjp, function: Pointwise, i: usize, g: ValueId) -> Option<ValueId> {
    use Pointwise as P;
    Some(match (function, i) {
        (P::ToReal | P::F32 | P::Neg | P::Add | P::Sub, _) | (P::Mod, 0) => g,
        (P::Exp, _) => {
            let y = v.result(0);
            v.mul(g, y)
        }
        (P::Log, _) => {
            let x = v.operand(0);
            v.map(P::Div, &[g, x])
        }
        (P::Sqrt, _) => partial_sqrt(v, g),
        (P::Sin, _) => {
            let x = v.operand(0);
            let cos = v.map(P::Cos, &[x]);
            v.mul(g, cos)
        }
        (P::Cos, _) => {
            let x = v.operand(0);
            let sin = v.map(P::Sin, &[x]);
            let sin = v.map(P::Neg, &[sin]);
            v.mul(g, sin)
        }
        (P::Tanh, _) => {
            let y = v.result(0);
            let square = v.mul(y, y);
            let one = v.real(1.0);
            let slope = v.map(P::Sub, &[one, square]);
            v.mul(g, slope)
        }
        (P::Erf, _) => partial_erf(v, g),
        (P::Mul, _) => {
            let other = v.operand(1 - i);
            v.mul(g, other)
        }
        (P::Div, 0) => {
            let b = v.operand(1);
            v.map(P::Div, &[g, b])
        }
        (P::Div, _) => {
            let y = v.result(0);
            v.mul(g, y)
        }
        (P::Mod, _) => {
            let (a, b) = (v.operand(0), v.operand(1));
            let quotient = v.map(P::Div, &[a, b]);
            let quotient = v.map(P::Floor, &[quotient]);
            let slope = v.map(P::Neg, &[quotient]);
            v.mul(g, slope)
        }
        (P::Pow, 0) => partial_base(v, g),
        (P::Pow, _) => partial_exponent(v, g),
        (P::Min | P::Max, _) => {
            let (a, b) = (v.operand(0), v.operand(1));
            let second = v.map(if function == P::Min { P::Lt } else { P::Gt }, &[b, a]);
            branch(v, second, i == 1, g)
        }
        (P::Where, _) => {
            let condition = v.operand(0);
            branch(v, condition, i == 1, g)
        }
        _ => return None,
    })
}

/// Factors that vary along the operand's own axes alone, once the rest is summed: `−g` for what is
/// subtracted, `−g·y/b` for a divisor.
fn finish(v: &mut Vjp, function: Pointwise, i: usize, g: ValueId) -> ValueId {
    match (function, i) {
        (Pointwise::Neg, _) | (Pointwise::Sub, 1) => v.map(Pointwise::Neg, &[g]),
        (Pointwise::Div, 1) => {
            let b = v.operand(1);
            let quotient = v.map(Pointwise::Div, &[g, b]);
            v.map(Pointwise::Neg, &[quotient])
        }
        _ => g,
    }
}

/// The gradient where the condition is as said, zero elsewhere.
fn branch(v: &mut Vjp, condition: ValueId, holds: bool, g: ValueId) -> ValueId {
    let zero = v.real(0.0);
    let (a, b) = if holds { (g, zero) } else { (zero, g) };
    v.map(Pointwise::Where, &[condition, a, b])
}

/// `1/(2√x)`; at 0, where the slope is infinite, the gradient is 0.
fn partial_sqrt(v: &mut Vjp, g: ValueId) -> ValueId {
    let y = v.result(0);
    let (half, zero) = (v.real(0.5), v.real(0.0));
    let slope = v.map(Pointwise::Div, &[half, y]);
    let positive = v.map(Pointwise::Gt, &[y, zero]);
    let slope = v.map(Pointwise::Where, &[positive, slope, zero]);
    v.mul(g, slope)
}

/// `2/√π · e^(−x²)`.
fn partial_erf(v: &mut Vjp, g: ValueId) -> ValueId {
    let x = v.operand(0);
    let square = v.mul(x, x);
    let square = v.map(Pointwise::Neg, &[square]);
    let bell = v.map(Pointwise::Exp, &[square]);
    let slope = v.scale(bell, 2.0 / std::f64::consts::PI.sqrt());
    v.mul(g, slope)
}

/// `c·xᶜ⁻¹`, without the power where the exponent is a small constant.
fn partial_base(v: &mut Vjp, g: ValueId) -> ValueId {
    let x = v.operand(0);
    let slope = match v.constant(1) {
        Some(0.0) => v.real(0.0),
        Some(1.0) => v.real(1.0),
        Some(2.0) => v.scale(x, 2.0),
        _ => {
            let (c, one, zero) = (v.operand(1), v.real(1.0), v.real(0.0));
            let less = v.map(Pointwise::Sub, &[c, one]);
            let power = v.map(Pointwise::Pow, &[x, less]);
            let slope = v.mul(c, power);
            // x⁰ is flat even at 0, where x⁻¹ is not finite.
            let flat = v.map(Pointwise::Eq, &[c, zero]);
            v.map(Pointwise::Where, &[flat, zero, slope])
        }
    };
    v.mul(g, slope)
}

/// `xᶜ·ln x`; 0 where `x` is not positive.
fn partial_exponent(v: &mut Vjp, g: ValueId) -> ValueId {
    let (x, y, zero) = (v.operand(0), v.result(0), v.real(0.0));
    let log = v.map(Pointwise::Log, &[x]);
    let slope = v.mul(y, log);
    let positive = v.map(Pointwise::Gt, &[x, zero]);
    let slope = v.map(Pointwise::Where, &[positive, slope, zero]);
    v.mul(g, slope)
}

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
        Typing::Rounding => Err(OpError::Rounding { op: def.name }),
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
