//! A thin layer over LLVM's builder: the few instructions that contraction kernels are made of.
//!
//! Building an instruction fails only when operand types clash, which is a bug here, so these
//! functions panic instead of returning errors.

use inkwell::IntPredicate;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::basic_block::BasicBlock;
use inkwell::builder::{Builder, BuilderError};
use inkwell::context::Context;
use inkwell::module::Linkage;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, VectorType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, FunctionValue, IntValue, PointerValue,
    VectorValue,
};

use super::super::emit::Emitter;

/// Where a line is fetched to: what is used at once, or soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::x86) enum Cache {
    First,
    Second,
}

/// Emits into one function at a time.
pub(in crate::x86) struct Emit<'c, 'm> {
    /// What all kernels share.
    pub(in crate::x86) base: &'m Emitter<'c>,
    pub(in crate::x86) context: &'c Context,
    pub(in crate::x86) builder: &'m Builder<'c>,
    /// f32 lanes of a vector register.
    pub(in crate::x86) lanes: u32,
}

/// Unwraps what fails only for a bug in the emitter.
pub(in crate::x86) fn sound<T>(built: Result<T, BuilderError>) -> T {
    built.unwrap_or_else(|e| panic!("an emitted instruction is ill-typed: {e}"))
}

impl<'c, 'm> Emit<'c, 'm> {
    pub(in crate::x86) fn new(base: &'m Emitter<'c>) -> Self {
        let lanes = u32::try_from(base.target.lanes()).expect("registers hold a few lanes");
        Self { base, context: base.context, builder: &base.builder, lanes }
    }

    /// Starts a function of no result; its parameters are its values' `get_nth_param`.
    pub(in crate::x86) fn function(
        &self,
        name: &str,
        params: &[BasicMetadataTypeEnum<'c>],
        linkage: Linkage,
    ) -> FunctionValue<'c> {
        let ty = self.context.void_type().fn_type(params, false);
        let function = self.base.module.add_function(name, ty, Some(linkage));
        self.base.attribute(function);
        if linkage == Linkage::Internal {
            let noinline = Attribute::get_named_enum_kind_id("noinline");
            let noinline = self.context.create_enum_attribute(noinline, 0);
            function.add_attribute(AttributeLoc::Function, noinline);
        }
        self.builder.position_at_end(self.context.append_basic_block(function, "entry"));
        function
    }

    /// Ends the function.
    pub(in crate::x86) fn finish(&self) {
        sound(self.builder.build_return(None));
    }

    pub(in crate::x86) fn pointer_type(&self) -> BasicTypeEnum<'c> {
        self.context.ptr_type(inkwell::AddressSpace::default()).into()
    }

    /// A register of f32.
    pub(in crate::x86) fn vector_type(&self) -> VectorType<'c> {
        self.context.f32_type().vec_type(self.lanes)
    }

    pub(in crate::x86) fn int(&self, value: i64) -> IntValue<'c> {
        self.context.i64_type().const_int(value.cast_unsigned(), true)
    }

    pub(in crate::x86) fn add(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        sound(self.builder.build_int_add(a, b, ""))
    }

    pub(in crate::x86) fn sub(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        sound(self.builder.build_int_sub(a, b, ""))
    }

    pub(in crate::x86) fn times(&self, a: IntValue<'c>, by: i64) -> IntValue<'c> {
        sound(self.builder.build_int_mul(a, a.get_type().const_int(by.cast_unsigned(), true), ""))
    }

    pub(in crate::x86) fn product(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        sound(self.builder.build_int_mul(a, b, ""))
    }

    pub(in crate::x86) fn over(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        sound(self.builder.build_int_unsigned_div(a, a.get_type().const_int(by, false), ""))
    }

    pub(in crate::x86) fn modulo(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        sound(self.builder.build_int_unsigned_rem(a, a.get_type().const_int(by, false), ""))
    }

    pub(in crate::x86) fn both(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        sound(self.builder.build_and(a, b, ""))
    }

    pub(in crate::x86) fn compare(
        &self,
        predicate: IntPredicate,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> IntValue<'c> {
        sound(self.builder.build_int_compare(predicate, a, b, ""))
    }

    pub(in crate::x86) fn smaller(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        let less = self.compare(IntPredicate::ULT, a, b);
        self.choose(less, a, b)
    }

    pub(in crate::x86) fn choose(
        &self,
        condition: IntValue<'c>,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> IntValue<'c> {
        sound(self.builder.build_select(condition, a, b, "")).into_int_value()
    }

    /// The address some bytes after another one.
    pub(in crate::x86) fn after(
        &self,
        base: PointerValue<'c>,
        bytes: IntValue<'c>,
    ) -> PointerValue<'c> {
        // SAFETY: the verifier has shown the offsets of a kernel to be in bounds, and scratch
        // offsets stay inside the areas of `Layout`.
        sound(unsafe { self.builder.build_gep(self.context.i8_type(), base, &[bytes], "") })
    }

    /// The address some bytes, known now, after another one.
    pub(in crate::x86) fn field(&self, base: PointerValue<'c>, bytes: u64) -> PointerValue<'c> {
        self.after(base, self.context.i64_type().const_int(bytes, false))
    }

    pub(in crate::x86) fn load(
        &self,
        ty: impl BasicType<'c>,
        from: PointerValue<'c>,
    ) -> BasicValueEnum<'c> {
        let value = sound(self.builder.build_load(ty, from, ""));
        // Buffers are aligned to their elements only.
        let instruction = value.as_instruction_value().expect("a load is an instruction");
        instruction.set_alignment(4.min(element_bytes(value))).expect("a power of two");
        value
    }

    pub(in crate::x86) fn store(&self, value: impl BasicValue<'c>, to: PointerValue<'c>) {
        let bytes = element_bytes(value.as_basic_value_enum());
        let instruction = sound(self.builder.build_store(to, value));
        instruction.set_alignment(4.min(bytes)).expect("a power of two");
    }

    pub(in crate::x86) fn load_int(&self, from: PointerValue<'c>) -> IntValue<'c> {
        self.load(self.context.i64_type(), from).into_int_value()
    }

    pub(in crate::x86) fn load_pointer(&self, from: PointerValue<'c>) -> PointerValue<'c> {
        sound(self.builder.build_load(self.pointer_type(), from, "")).into_pointer_value()
    }

    pub(in crate::x86) fn shuffle(
        &self,
        a: VectorValue<'c>,
        b: VectorValue<'c>,
        lanes: impl IntoIterator<Item = u32>,
    ) -> VectorValue<'c> {
        let int = self.context.i32_type();
        let lanes: Vec<_> = lanes.into_iter().map(|l| int.const_int(l.into(), false)).collect();
        sound(self.builder.build_shuffle_vector(a, b, VectorType::const_vector(&lanes), ""))
    }

    /// A vector with all lanes the same.
    pub(in crate::x86) fn splat(&self, value: BasicValueEnum<'c>, lanes: u32) -> VectorValue<'c> {
        let ty = match value {
            BasicValueEnum::FloatValue(v) => v.get_type().vec_type(lanes),
            BasicValueEnum::IntValue(v) => v.get_type().vec_type(lanes),
            BasicValueEnum::PointerValue(v) => v.get_type().vec_type(lanes),
            other => panic!("only scalars are splat, not {other}"),
        };
        let first = self.context.i32_type().const_zero();
        let one = sound(self.builder.build_insert_element(ty.get_undef(), value, first, ""));
        self.shuffle(one, ty.get_undef(), std::iter::repeat_n(0, lanes as usize))
    }

    /// `0, 1, 2, …` as ints of a type.
    pub(in crate::x86) fn count_up(
        &self,
        ty: inkwell::types::IntType<'c>,
        lanes: u32,
    ) -> VectorValue<'c> {
        let lanes: Vec<_> = (0..lanes).map(|l| ty.const_int(l.into(), false)).collect();
        VectorType::const_vector(&lanes)
    }

    /// A mask of the lanes below a count.
    pub(in crate::x86) fn lanes_below(&self, count: IntValue<'c>) -> VectorValue<'c> {
        let int = self.context.i32_type();
        let count = self.smaller(count, self.int(self.lanes.into()));
        let count = sound(self.builder.build_int_truncate(count, int, ""));
        let count = self.splat(count.into(), self.lanes);
        let lanes = self.count_up(int, self.lanes);
        sound(self.builder.build_int_compare(IntPredicate::SLT, lanes, count, ""))
    }

    /// Calls an intrinsic, overloaded on the given types.
    pub(in crate::x86) fn intrinsic(
        &self,
        name: &str,
        types: &[BasicTypeEnum<'c>],
        arguments: &[BasicValueEnum<'c>],
    ) -> Option<BasicValueEnum<'c>> {
        self.base.intrinsic_call(name, types, arguments)
    }

    pub(in crate::x86) fn call(
        &self,
        function: FunctionValue<'c>,
        arguments: &[BasicValueEnum<'c>],
    ) -> Option<BasicValueEnum<'c>> {
        let arguments: Vec<BasicMetadataValueEnum<'c>> =
            arguments.iter().map(|a| (*a).into()).collect();
        sound(self.builder.build_call(function, &arguments, "")).try_as_basic_value().basic()
    }

    /// Lanes of memory from an address on; lanes outside the mask are not read and give zero.
    pub(in crate::x86) fn masked_load(
        &self,
        ty: VectorType<'c>,
        from: PointerValue<'c>,
        mask: VectorValue<'c>,
    ) -> VectorValue<'c> {
        let (name, types) = ("llvm.masked.load", [ty.into(), self.pointer_type()]);
        let arguments = [from.into(), mask.into(), ty.const_zero().into()];
        self.intrinsic(name, &types, &arguments).expect("it has a result").into_vector_value()
    }

    /// Brings a line into a cache, if it exists.
    pub(in crate::x86) fn prefetch(&self, at: PointerValue<'c>, cache: Cache) {
        let int = |n: u64| self.context.i32_type().const_int(n, false).into();
        let locality = match cache {
            Cache::First => 3,
            Cache::Second => 2,
        };
        // Read, data.
        let arguments = [at.into(), int(0), int(locality), int(1)];
        self.intrinsic("llvm.prefetch", &[self.pointer_type()], &arguments);
    }

    pub(in crate::x86) fn masked_store(
        &self,
        value: VectorValue<'c>,
        to: PointerValue<'c>,
        mask: VectorValue<'c>,
    ) {
        let types = [value.get_type().into(), self.pointer_type()];
        self.intrinsic("llvm.masked.store", &types, &[value.into(), to.into(), mask.into()]);
    }

    fn current_function(&self) -> FunctionValue<'c> {
        let block = self.builder.get_insert_block().expect("a block is being emitted");
        block.get_parent().expect("blocks stand in functions")
    }

    pub(in crate::x86) fn block(&self, name: &str) -> BasicBlock<'c> {
        self.context.append_basic_block(self.current_function(), name)
    }

    pub(in crate::x86) fn jump(&self, to: BasicBlock<'c>) {
        sound(self.builder.build_unconditional_branch(to));
    }

    /// `for i in (from..to).step_by(step) { body(i) }`.
    pub(in crate::x86) fn each(
        &self,
        from: IntValue<'c>,
        to: IntValue<'c>,
        step: u64,
        body: impl FnOnce(IntValue<'c>),
    ) {
        let before = self.builder.get_insert_block().expect("a block is being emitted");
        let [head, inside, end] = ["head", "body", "end"].map(|name| self.block(name));
        self.jump(head);
        self.builder.position_at_end(head);
        let phi = sound(self.builder.build_phi(from.get_type(), ""));
        let i = phi.as_basic_value().into_int_value();
        let more = self.compare(IntPredicate::ULT, i, to);
        sound(self.builder.build_conditional_branch(more, inside, end));
        self.builder.position_at_end(inside);
        body(i);
        let next = self.add(i, self.context.i64_type().const_int(step, false));
        let last = self.builder.get_insert_block().expect("a block is being emitted");
        self.jump(head);
        phi.add_incoming(&[(&from, before), (&next, last)]);
        self.builder.position_at_end(end);
    }

    /// `for i in (from..to).step_by(step) { values = body(i, values) }`.
    pub(in crate::x86) fn fold(
        &self,
        (from, to): (IntValue<'c>, IntValue<'c>),
        step: u64,
        start: &[BasicValueEnum<'c>],
        body: impl FnOnce(IntValue<'c>, Vec<BasicValueEnum<'c>>) -> Vec<BasicValueEnum<'c>>,
    ) -> Vec<BasicValueEnum<'c>> {
        let before = self.builder.get_insert_block().expect("a block is being emitted");
        let [head, inside, end] = ["head", "body", "end"].map(|name| self.block(name));
        self.jump(head);
        self.builder.position_at_end(head);
        let index = sound(self.builder.build_phi(from.get_type(), ""));
        let phis: Vec<_> =
            start.iter().map(|v| sound(self.builder.build_phi(v.get_type(), ""))).collect();
        let i = index.as_basic_value().into_int_value();
        let more = self.compare(IntPredicate::ULT, i, to);
        sound(self.builder.build_conditional_branch(more, inside, end));
        self.builder.position_at_end(inside);
        let next = body(i, phis.iter().map(|phi| phi.as_basic_value()).collect());
        let following = self.add(i, self.context.i64_type().const_int(step, false));
        let last = self.builder.get_insert_block().expect("a block is being emitted");
        self.jump(head);
        index.add_incoming(&[(&from, before), (&following, last)]);
        for ((phi, start), next) in phis.iter().zip(start).zip(&next) {
            phi.add_incoming(&[(start, before), (next, last)]);
        }
        self.builder.position_at_end(end);
        phis.iter().map(|phi| phi.as_basic_value()).collect()
    }

    /// `if condition { then() } else { otherwise() }`.
    pub(in crate::x86) fn branch(
        &self,
        condition: IntValue<'c>,
        then: impl FnOnce(),
        otherwise: impl FnOnce(),
    ) {
        let [yes, no, end] = ["then", "else", "end"].map(|name| self.block(name));
        sound(self.builder.build_conditional_branch(condition, yes, no));
        self.builder.position_at_end(yes);
        then();
        self.jump(end);
        self.builder.position_at_end(no);
        otherwise();
        self.jump(end);
        self.builder.position_at_end(end);
    }
}

/// Bytes of an element, by which loads and stores are aligned.
fn element_bytes(value: BasicValueEnum<'_>) -> u32 {
    let bits = |ty: BasicTypeEnum<'_>| match ty {
        BasicTypeEnum::IntType(ty) => ty.get_bit_width(),
        _ => 32,
    };
    match value {
        BasicValueEnum::VectorValue(v) => bits(v.get_type().get_element_type()).div_ceil(8),
        value => bits(value.get_type()).div_ceil(8),
    }
}
