//! The functions of [`gigac_ir::math`] as vector code.

use gigac_ir::math::Lanes;
use inkwell::values::InstructionOpcode as Op;
use inkwell::{FloatPredicate, IntPredicate};

use super::emit::{Elem, Emitter, Value};

/// Emits operations on values of so many lanes.
pub(crate) struct Wide<'e, 'c> {
    pub(crate) emit: &'e Emitter<'c>,
    pub(crate) lanes: u64,
}

impl<'c> Lanes for Wide<'_, 'c> {
    type Real = Value<'c>;
    type Int = Value<'c>;
    type Mask = Value<'c>;

    fn real(&self, value: f32) -> Value<'c> {
        self.emit.real(value, self.lanes)
    }
    fn int(&self, value: i32) -> Value<'c> {
        self.emit.int(value, self.lanes)
    }
    fn add(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::FAdd, a, b)
    }
    fn sub(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::FSub, a, b)
    }
    fn mul(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::FMul, a, b)
    }
    fn div(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::FDiv, a, b)
    }
    fn fma(&self, a: Value<'c>, b: Value<'c>, c: Value<'c>) -> Value<'c> {
        self.emit.intrinsic("llvm.fma", &[a, b, c])
    }
    fn sqrt(&self, a: Value<'c>) -> Value<'c> {
        self.emit.intrinsic("llvm.sqrt", &[a])
    }
    fn floor(&self, a: Value<'c>) -> Value<'c> {
        self.emit.intrinsic("llvm.floor", &[a])
    }
    fn round(&self, a: Value<'c>) -> Value<'c> {
        self.emit.intrinsic("llvm.roundeven", &[a])
    }
    fn bits(&self, a: Value<'c>) -> Value<'c> {
        self.emit.cast(Op::BitCast, a, Elem::I32)
    }
    fn float(&self, a: Value<'c>) -> Value<'c> {
        self.emit.cast(Op::BitCast, a, Elem::F32)
    }
    fn to_real(&self, a: Value<'c>) -> Value<'c> {
        self.emit.cast(Op::SIToFP, a, Elem::F32)
    }
    fn int_add(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::Add, a, b)
    }
    fn int_sub(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::Sub, a, b)
    }
    fn int_and(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::And, a, b)
    }
    fn int_xor(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::Xor, a, b)
    }
    fn shl(&self, a: Value<'c>, by: u32) -> Value<'c> {
        self.emit.binary(Op::Shl, a, self.int(by as i32))
    }
    fn shr(&self, a: Value<'c>, by: u32) -> Value<'c> {
        self.emit.binary(Op::AShr, a, self.int(by as i32))
    }
    fn lt(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.fcmp(FloatPredicate::OLT, a, b)
    }
    fn eq(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.fcmp(FloatPredicate::OEQ, a, b)
    }
    fn int_eq(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.icmp(IntPredicate::EQ, a, b)
    }
    fn both(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::And, a, b)
    }
    fn either(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::Or, a, b)
    }
    fn not(&self, a: Value<'c>) -> Value<'c> {
        self.emit.binary(Op::Xor, a, self.emit.bool(true, self.lanes))
    }
    fn select(&self, mask: Value<'c>, then: Value<'c>, otherwise: Value<'c>) -> Value<'c> {
        self.emit.select(mask, then, otherwise)
    }
}
