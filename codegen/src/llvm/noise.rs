//! Counter-based noise: Philox4x32-10, see [`gigac_ir::philox`].

use gigac_ir::philox::{KEY_STEPS, MULTIPLIERS, ROUNDS};
use inkwell::values::InstructionOpcode as Op;

use super::emit::{Elem, Emitter, Value};

/// Uniform numbers in [0, 1) with 24 bits: the first word drawn for a key and a counter.
pub(crate) fn noise<'c>(
    emit: &Emitter<'c>,
    key: [Value<'c>; 2],
    counter: [Value<'c>; 4],
) -> Value<'c> {
    let lanes = emit.lanes(counter[0]);
    let constant = |word: u32| emit.int(word as i32, lanes);
    let xor = |a, b| emit.binary(Op::Xor, a, b);
    let ([mut k0, mut k1], [mut c0, mut c1, mut c2, mut c3]) = (key, counter);
    for _ in 0..ROUNDS {
        let (high0, low0) = wide_product(emit, c0, MULTIPLIERS[0]);
        let (high1, low1) = wide_product(emit, c2, MULTIPLIERS[1]);
        (c0, c1, c2, c3) = (xor(xor(high1, c1), k0), low1, xor(xor(high0, c3), k1), low0);
        k0 = emit.binary(Op::Add, k0, constant(KEY_STEPS[0]));
        k1 = emit.binary(Op::Add, k1, constant(KEY_STEPS[1]));
    }
    // At most 24 bits are left, so the signed conversion is exact.
    let real = emit.cast(Op::SIToFP, emit.binary(Op::LShr, c0, constant(8)), Elem::F32);
    emit.binary(Op::FMul, real, emit.real(1.0 / 16_777_216.0, lanes))
}

/// Upper and lower word of the product with a constant.
fn wide_product<'c>(emit: &Emitter<'c>, a: Value<'c>, by: u32) -> (Value<'c>, Value<'c>) {
    let lanes = emit.lanes(a);
    let wide = emit.cast(Op::ZExt, a, Elem::I64);
    let product = emit.binary(Op::Mul, wide, emit.bits(Elem::I64, u64::from(by), lanes));
    let high = emit.binary(Op::LShr, product, emit.bits(Elem::I64, 32, lanes));
    (emit.cast(Op::Trunc, high, Elem::I32), emit.cast(Op::Trunc, product, Elem::I32))
}
