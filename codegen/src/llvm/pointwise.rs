//! Pointwise functions on values of one number of lanes.

use gigac_ir::kernel::Scalar;
use gigac_ir::math::{self, Lanes};
use gigac_ir::pointwise::Pointwise;
use inkwell::values::InstructionOpcode as Op;
use inkwell::{FloatPredicate, IntPredicate};

use super::emit::{Elem, Emitter, Value};
use super::lanes::Wide;

/// Applies a function; `of` is the element type of its last operand (all numbers of a function
/// have one type).
pub(crate) fn pointwise<'c>(
    emit: &Emitter<'c>,
    function: Pointwise,
    of: Scalar,
    x: &[Value<'c>],
) -> Value<'c> {
    let wide = Wide { emit, lanes: x.iter().map(|v| emit.lanes(*v)).max().unwrap_or(1) };
    match function {
        Pointwise::Stop => x[0],
        Pointwise::Not => wide.not(x[0]),
        Pointwise::And => wide.both(x[0], x[1]),
        Pointwise::Or => wide.either(x[0], x[1]),
        Pointwise::Where => emit.select(x[0], x[1], x[2]),
        Pointwise::ToReal | Pointwise::F32 => to_real(emit, of, x[0]),
        Pointwise::Eq
        | Pointwise::Ne
        | Pointwise::Lt
        | Pointwise::Le
        | Pointwise::Gt
        | Pointwise::Ge => compare(emit, function, of, x[0], x[1]),
        Pointwise::Min => emit.select(compare(emit, Pointwise::Lt, of, x[1], x[0]), x[1], x[0]),
        Pointwise::Max => emit.select(compare(emit, Pointwise::Gt, of, x[1], x[0]), x[1], x[0]),
        _ if of == Scalar::I32 => integer(&wide, function, x),
        _ => real(&wide, function, x),
    }
}

fn to_real<'c>(emit: &Emitter<'c>, of: Scalar, x: Value<'c>) -> Value<'c> {
    match of {
        Scalar::F32 => x,
        Scalar::I32 => emit.cast(Op::SIToFP, x, Elem::F32),
        Scalar::Bool => emit.cast(Op::UIToFP, x, Elem::F32),
    }
}

/// Comparisons; with NaN all are false but `ne`. False is less than true.
fn compare<'c>(
    emit: &Emitter<'c>,
    function: Pointwise,
    of: Scalar,
    a: Value<'c>,
    b: Value<'c>,
) -> Value<'c> {
    use {FloatPredicate as F, IntPredicate as I};
    let (real, signed, unsigned) = match function {
        Pointwise::Eq => (F::OEQ, I::EQ, I::EQ),
        Pointwise::Ne => (F::UNE, I::NE, I::NE),
        Pointwise::Lt => (F::OLT, I::SLT, I::ULT),
        Pointwise::Le => (F::OLE, I::SLE, I::ULE),
        Pointwise::Gt => (F::OGT, I::SGT, I::UGT),
        Pointwise::Ge => (F::OGE, I::SGE, I::UGE),
        other => panic!("`{}` is no comparison", other.name()),
    };
    match of {
        Scalar::F32 => emit.fcmp(real, a, b),
        Scalar::I32 => emit.icmp(signed, a, b),
        Scalar::Bool => emit.icmp(unsigned, a, b),
    }
}

fn real<'c>(wide: &Wide<'_, 'c>, function: Pointwise, x: &[Value<'c>]) -> Value<'c> {
    match function {
        Pointwise::Neg => wide.emit.fneg(x[0]),
        Pointwise::Add => wide.add(x[0], x[1]),
        Pointwise::Sub => wide.sub(x[0], x[1]),
        Pointwise::Mul => wide.mul(x[0], x[1]),
        Pointwise::Div => wide.div(x[0], x[1]),
        Pointwise::Sqrt => wide.sqrt(x[0]),
        Pointwise::Floor => wide.floor(x[0]),
        Pointwise::Mod => math::modulo(wide, x[0], x[1]),
        Pointwise::Bf16 => math::bf16(wide, x[0]),
        Pointwise::Exp => math::exp(wide, x[0]),
        Pointwise::Log => math::log(wide, x[0]),
        Pointwise::Sin => math::sin(wide, x[0]),
        Pointwise::Cos => math::cos(wide, x[0]),
        Pointwise::Tanh => math::tanh(wide, x[0]),
        Pointwise::Erf => math::erf(wide, x[0]),
        Pointwise::Pow => math::pow(wide, x[0], x[1]),
        other => panic!("`{}` does not take reals", other.name()),
    }
}

/// Ints wrap. Division rounds down; by 0 it gives 0, with remainder 0, rather than a trap.
fn integer<'c>(wide: &Wide<'_, 'c>, function: Pointwise, x: &[Value<'c>]) -> Value<'c> {
    let emit = wide.emit;
    match function {
        Pointwise::Neg => emit.binary(Op::Sub, wide.int(0), x[0]),
        Pointwise::Add => emit.binary(Op::Add, x[0], x[1]),
        Pointwise::Sub => emit.binary(Op::Sub, x[0], x[1]),
        Pointwise::Mul => emit.binary(Op::Mul, x[0], x[1]),
        Pointwise::FloorDiv => floor_division(wide, x[0], x[1]).0,
        Pointwise::Mod => floor_division(wide, x[0], x[1]).1,
        other => panic!("`{}` does not take ints", other.name()),
    }
}

/// Quotient rounded down, and the remainder that goes with it.
fn floor_division<'c>(wide: &Wide<'_, 'c>, a: Value<'c>, b: Value<'c>) -> (Value<'c>, Value<'c>) {
    let emit = wide.emit;
    let (zero, one) = (wide.int(0), wide.int(1));
    let by_zero = emit.icmp(IntPredicate::EQ, b, zero);
    // i32::MIN / −1 would trap; as a wrapping quotient it is i32::MIN, which dividing by 1 gives.
    let least = emit.icmp(IntPredicate::EQ, a, wide.int(i32::MIN));
    let negation = emit.icmp(IntPredicate::EQ, b, wide.int(-1));
    let trap = wide.either(by_zero, wide.both(least, negation));
    let divisor = emit.select(trap, one, b);
    let quotient = emit.binary(Op::SDiv, a, divisor);
    let rest = emit.binary(Op::Sub, a, emit.binary(Op::Mul, quotient, divisor));
    let signs_differ = emit.icmp(IntPredicate::SLT, emit.binary(Op::Xor, rest, divisor), zero);
    let inexact = emit.icmp(IntPredicate::NE, rest, zero);
    let below = wide.both(signs_differ, inexact);
    let quotient = emit.select(below, emit.binary(Op::Sub, quotient, one), quotient);
    let rest = emit.select(below, emit.binary(Op::Add, rest, divisor), rest);
    (emit.select(by_zero, zero, quotient), rest)
}
