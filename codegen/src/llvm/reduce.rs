//! Reductions along a variable of a tile.
//!
//! The order is that of a tree over the lanes, the same for vectors of any width: with `p` the
//! power of two at or above the number of lanes, lane `i` takes in lane `i + p/2`, then the `p/2`
//! lanes left are reduced likewise.

use gigac_ir::kernel::Reduction;
use inkwell::values::{BasicValueEnum, InstructionOpcode};
use inkwell::{FloatPredicate, IntPredicate};

use super::emit::{Elem, Emitter, Value};

/// Whether a value's lanes are ints.
fn is_int(value: Value<'_>) -> bool {
    match value {
        BasicValueEnum::VectorValue(v) => v.get_type().get_element_type().is_int_type(),
        other => other.is_int_value(),
    }
}

/// What leaves values of the kind of `like` as they are.
pub(crate) fn neutral<'c>(emit: &Emitter<'c>, reduction: Reduction, like: Value<'c>) -> Value<'c> {
    let lanes = emit.lanes(like);
    match reduction {
        Reduction::Sum if is_int(like) => emit.int(0, lanes),
        Reduction::Max if is_int(like) => emit.int(i32::MIN, lanes),
        Reduction::Sum => emit.real(-0.0, lanes),
        Reduction::Max => emit.real(f32::NEG_INFINITY, lanes),
    }
}

/// Combines two values lane by lane.
pub(crate) fn combine<'c>(
    emit: &Emitter<'c>,
    reduction: Reduction,
    a: Value<'c>,
    b: Value<'c>,
) -> Value<'c> {
    match reduction {
        Reduction::Sum if is_int(a) => emit.binary(InstructionOpcode::Add, a, b),
        Reduction::Max if is_int(a) => emit.select(emit.icmp(IntPredicate::SGT, a, b), a, b),
        Reduction::Sum => emit.binary(InstructionOpcode::FAdd, a, b),
        Reduction::Max => {
            // `b` unless `a` is greater, so a NaN in `b` wins; where `a` is one, all bits set make
            // one. Processors have one instruction each for that; selecting takes three times as long.
            let larger = emit.select(emit.fcmp(FloatPredicate::OGT, a, b), a, b);
            let nan =
                emit.cast(InstructionOpcode::SExt, emit.fcmp(FloatPredicate::UNO, a, a), Elem::I32);
            let bits = emit.cast(InstructionOpcode::BitCast, larger, Elem::I32);
            let either = emit.binary(InstructionOpcode::Or, bits, nan);
            emit.cast(InstructionOpcode::BitCast, either, Elem::F32)
        }
    }
}

/// Reduces separate values.
pub(crate) fn reduce_values<'c>(
    emit: &Emitter<'c>,
    reduction: Reduction,
    values: &[Value<'c>],
) -> Value<'c> {
    let half = values.len().next_power_of_two() / 2;
    if values.len() == 1 {
        return values[0];
    }
    let (low, high) = values.split_at(half);
    let pair = |(i, a): (usize, &Value<'c>)| match high.get(i) {
        Some(b) => combine(emit, reduction, *a, *b),
        None => *a,
    };
    let left: Vec<Value> = low.iter().enumerate().map(pair).collect();
    reduce_values(emit, reduction, &left)
}

/// Reduces the lanes of a vector to a scalar.
pub(crate) fn reduce_lanes<'c>(
    emit: &Emitter<'c>,
    reduction: Reduction,
    value: Value<'c>,
) -> Value<'c> {
    let lanes = emit.lanes(value);
    if lanes == 1 {
        return value;
    }
    let half = lanes.next_power_of_two() / 2;
    // Lanes without a partner take the neutral element, which leaves them as they are.
    let neutral = neutral(emit, reduction, value);
    let low = emit.shuffle(value, value, &(0..half).collect::<Vec<_>>());
    let high = emit.shuffle(value, neutral, &(half..2 * half).collect::<Vec<_>>());
    reduce_lanes(emit, reduction, combine(emit, reduction, low, high))
}
