//! Between memory and registers: bf16 is 16 bits there and f32 here, truth values bytes and i1.

use gigac_ir::kernel::Storage;
use inkwell::FloatPredicate;
use inkwell::IntPredicate;
use inkwell::values::InstructionOpcode::{Add, And, BitCast, LShr, Or, Shl, Trunc, ZExt};

use super::emit::{Elem, Emitter, Value};

/// What lies in memory.
pub(super) fn elem_of(storage: Storage) -> Elem {
    match storage {
        Storage::F32 => Elem::F32,
        Storage::Bf16 => Elem::I16,
        Storage::I32 => Elem::I32,
        Storage::Bool => Elem::I8,
    }
}

/// Loaded bits as what is computed with.
pub(super) fn from_memory<'c>(emit: &Emitter<'c>, storage: Storage, raw: Value<'c>) -> Value<'c> {
    let lanes = emit.lanes(raw);
    match storage {
        Storage::F32 | Storage::I32 => raw,
        Storage::Bf16 => {
            let wide = emit.cast(ZExt, raw, Elem::I32);
            let high = emit.binary(Shl, wide, emit.int(16, lanes));
            emit.cast(BitCast, high, Elem::F32)
        }
        Storage::Bool => emit.icmp(IntPredicate::NE, raw, emit.bits(Elem::I8, 0, lanes)),
    }
}

/// A computed value as the bits to store.
pub(super) fn to_memory<'c>(emit: &Emitter<'c>, storage: Storage, value: Value<'c>) -> Value<'c> {
    match storage {
        Storage::F32 | Storage::I32 => value,
        Storage::Bf16 => to_bf16(emit, value),
        Storage::Bool => emit.cast(ZExt, value, Elem::I8),
    }
}

/// Rounds to nearest even by adding just under half of the last place kept, and its lowest bit.
/// A NaN keeps its upper bits and becomes quiet.
fn to_bf16<'c>(emit: &Emitter<'c>, value: Value<'c>) -> Value<'c> {
    let constant = |bits| emit.int(bits, emit.lanes(value));
    let bits = emit.cast(BitCast, value, Elem::I32);
    let high = emit.binary(LShr, bits, constant(16));
    let odd = emit.binary(And, high, constant(1));
    let up = emit.binary(Add, emit.binary(Add, bits, constant(0x7fff)), odd);
    let rounded = emit.binary(LShr, up, constant(16));
    let quiet = emit.binary(Or, high, constant(0x40));
    let nan = emit.fcmp(FloatPredicate::UNO, value, value);
    emit.cast(Trunc, emit.select(nan, quiet, rounded), Elem::I16)
}
