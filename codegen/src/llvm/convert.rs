//! Between memory and registers: bf16 is 16 bits there and f32 here, truth values bytes and i1.

use gigac_ir::kernel::Storage;
use gigac_ir::math;
use inkwell::IntPredicate;
use inkwell::values::InstructionOpcode::{BitCast, LShr, Shl, Trunc, ZExt};

use super::emit::{Elem, Emitter, Value};
use super::lanes::Wide;

/// What lies in memory.
pub(crate) fn elem_of(storage: Storage) -> Elem {
    match storage {
        Storage::F32 => Elem::F32,
        Storage::Bf16 => Elem::I16,
        Storage::I32 => Elem::I32,
        Storage::Bool => Elem::I8,
    }
}

/// Loaded bits as what is computed with.
pub(crate) fn from_memory<'c>(emit: &Emitter<'c>, storage: Storage, raw: Value<'c>) -> Value<'c> {
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
pub(crate) fn to_memory<'c>(emit: &Emitter<'c>, storage: Storage, value: Value<'c>) -> Value<'c> {
    match storage {
        Storage::F32 | Storage::I32 => value,
        Storage::Bf16 => to_bf16(emit, value),
        Storage::Bool => emit.cast(ZExt, value, Elem::I8),
    }
}

/// The upper half of the nearest bf16.
fn to_bf16<'c>(emit: &Emitter<'c>, value: Value<'c>) -> Value<'c> {
    let lanes = emit.lanes(value);
    let rounded = math::bf16(&Wide { emit, lanes }, value);
    let bits = emit.cast(BitCast, rounded, Elem::I32);
    emit.cast(Trunc, emit.binary(LShr, bits, emit.int(16, lanes)), Elem::I16)
}
