//! Thin operations over LLVM's builder: numbers, or vectors of them, in; the same out.
//!
//! A value of one lane is a scalar, a value of several a vector; every operation takes either.
//! Floats are f32, ints i32, truth values i1, addresses i64.

use inkwell::basic_block::BasicBlock;
use inkwell::builder::{Builder, BuilderError};
use inkwell::context::Context;
use inkwell::intrinsics::Intrinsic;
use inkwell::module::Module;
use inkwell::types::{BasicTypeEnum, VectorType};
use inkwell::values::{
    BasicMetadataValueEnum, BasicValue, BasicValueEnum, FunctionValue, InstructionOpcode, IntValue,
    PhiValue, PointerValue, VectorValue,
};
use inkwell::{FloatPredicate, IntPredicate};

/// A scalar or a vector.
pub(crate) type Value<'c> = BasicValueEnum<'c>;

/// Element types of values and of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elem {
    F32,
    I64,
    I32,
    I16,
    I8,
}

/// A module under construction.
pub(crate) struct Emitter<'c> {
    pub(crate) context: &'c Context,
    pub(crate) module: Module<'c>,
    pub(crate) builder: Builder<'c>,
}

/// Builder calls fail only when the builder has no position or the types do not fit.
pub(crate) fn built<T>(result: Result<T, BuilderError>) -> T {
    result.expect("the builder stands in a block and operand types agree")
}

impl<'c> Emitter<'c> {
    pub(crate) fn new(context: &'c Context) -> Self {
        let module = context.create_module("kernels");
        Self { context, module, builder: context.create_builder() }
    }

    // Types.

    pub(crate) fn elem_type(&self, elem: Elem) -> BasicTypeEnum<'c> {
        match elem {
            Elem::F32 => self.context.f32_type().into(),
            Elem::I64 => self.context.i64_type().into(),
            Elem::I32 => self.context.i32_type().into(),
            Elem::I16 => self.context.i16_type().into(),
            Elem::I8 => self.context.i8_type().into(),
        }
    }

    /// The type of so many elements.
    pub(crate) fn ty(&self, elem: Elem, lanes: u64) -> BasicTypeEnum<'c> {
        match (self.elem_type(elem), lanes) {
            (scalar, 1) => scalar,
            (BasicTypeEnum::FloatType(t), n) => t.vec_type(narrow(n)).into(),
            (BasicTypeEnum::IntType(t), n) => t.vec_type(narrow(n)).into(),
            (other, _) => panic!("{other} is no element type"),
        }
    }

    /// Number of lanes of a value.
    pub(crate) fn lanes(&self, value: Value<'c>) -> u64 {
        match value {
            BasicValueEnum::VectorValue(v) => u64::from(v.get_type().get_size()),
            _ => 1,
        }
    }

    // Constants.

    pub(crate) fn i64(&self, value: i64) -> IntValue<'c> {
        self.context.i64_type().const_int(value as u64, true)
    }

    pub(crate) fn real(&self, value: f32, lanes: u64) -> Value<'c> {
        self.uniform(self.context.f32_type().const_float(f64::from(value)).into(), lanes)
    }

    pub(crate) fn int(&self, value: i32, lanes: u64) -> Value<'c> {
        let value = self.context.i32_type().const_int(i64::from(value) as u64, true);
        self.uniform(value.into(), lanes)
    }

    pub(crate) fn bool(&self, value: bool, lanes: u64) -> Value<'c> {
        self.uniform(self.context.bool_type().const_int(u64::from(value), false).into(), lanes)
    }

    /// A constant of the element type with the given integer in every lane.
    pub(crate) fn bits(&self, elem: Elem, value: u64, lanes: u64) -> Value<'c> {
        let scalar = self.elem_type(elem).into_int_type().const_int(value, false);
        self.uniform(scalar.into(), lanes)
    }

    /// A vector constant of i64.
    pub(crate) fn i64s(&self, values: &[i64]) -> Value<'c> {
        let values: Vec<IntValue> = values.iter().map(|v| self.i64(*v)).collect();
        if values.len() == 1 { values[0].into() } else { VectorType::const_vector(&values).into() }
    }

    /// A scalar constant in every lane.
    fn uniform(&self, value: Value<'c>, lanes: u64) -> Value<'c> {
        let lanes = lanes as usize;
        match value {
            scalar if lanes == 1 => scalar,
            BasicValueEnum::FloatValue(v) => VectorType::const_vector(&vec![v; lanes]).into(),
            BasicValueEnum::IntValue(v) => VectorType::const_vector(&vec![v; lanes]).into(),
            other => panic!("{other} is no scalar constant"),
        }
    }

    // Arithmetic.

    pub(crate) fn binary(&self, op: InstructionOpcode, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        built(self.builder.build_binop(op, a, b, ""))
    }

    pub(crate) fn cast(&self, op: InstructionOpcode, value: Value<'c>, to: Elem) -> Value<'c> {
        built(self.builder.build_cast(op, value, self.ty(to, self.lanes(value)), ""))
    }

    /// Compares floats.
    pub(crate) fn fcmp(&self, op: FloatPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let builder = &self.builder;
        match (a, b) {
            (BasicValueEnum::VectorValue(a), BasicValueEnum::VectorValue(b)) => {
                built(builder.build_float_compare(op, a, b, "")).into()
            }
            _ => {
                let (a, b) = (a.into_float_value(), b.into_float_value());
                built(builder.build_float_compare(op, a, b, "")).into()
            }
        }
    }

    /// Compares ints.
    pub(crate) fn icmp(&self, op: IntPredicate, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let builder = &self.builder;
        match (a, b) {
            (BasicValueEnum::VectorValue(a), BasicValueEnum::VectorValue(b)) => {
                built(builder.build_int_compare(op, a, b, "")).into()
            }
            _ => {
                let (a, b) = (a.into_int_value(), b.into_int_value());
                built(builder.build_int_compare(op, a, b, "")).into()
            }
        }
    }

    /// Lane by lane, `then` where the condition holds.
    pub(crate) fn select(
        &self,
        if_: Value<'c>,
        then: Value<'c>,
        otherwise: Value<'c>,
    ) -> Value<'c> {
        match if_ {
            BasicValueEnum::VectorValue(c) => {
                built(self.builder.build_select(c, then, otherwise, ""))
            }
            _ => built(self.builder.build_select(if_.into_int_value(), then, otherwise, "")),
        }
    }

    /// Negates floats: flips the sign bit.
    pub(crate) fn fneg(&self, value: Value<'c>) -> Value<'c> {
        match value {
            BasicValueEnum::VectorValue(v) => built(self.builder.build_float_neg(v, "")).into(),
            _ => built(self.builder.build_float_neg(value.into_float_value(), "")).into(),
        }
    }

    /// Calls an intrinsic overloaded on the type of its first operand.
    pub(crate) fn intrinsic(&self, name: &str, operands: &[Value<'c>]) -> Value<'c> {
        let call = self.intrinsic_call(name, &[operands[0].get_type()], operands);
        call.expect("the intrinsic returns a value")
    }

    /// Calls an intrinsic with explicit overload types.
    pub(crate) fn intrinsic_call(
        &self,
        name: &str,
        types: &[BasicTypeEnum<'c>],
        operands: &[Value<'c>],
    ) -> Option<Value<'c>> {
        let found = Intrinsic::find(name).unwrap_or_else(|| panic!("LLVM has no `{name}`"));
        let declared = found.get_declaration(&self.module, types);
        let function = declared.unwrap_or_else(|| panic!("`{name}` does not take these types"));
        let operands: Vec<BasicMetadataValueEnum> = operands.iter().map(|v| (*v).into()).collect();
        built(self.builder.build_call(function, &operands, "")).try_as_basic_value().basic()
    }

    // Addresses: scalar i64.

    pub(crate) fn add(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        built(self.builder.build_int_add(a, b, ""))
    }

    pub(crate) fn sub(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        built(self.builder.build_int_sub(a, b, ""))
    }

    pub(crate) fn mul(&self, a: IntValue<'c>, by: i64) -> IntValue<'c> {
        built(self.builder.build_int_mul(a, self.i64(by), ""))
    }

    /// Unsigned minimum.
    pub(crate) fn min(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.intrinsic("llvm.umin", &[a.into(), b.into()]).into_int_value()
    }

    /// Unsigned quotient by a constant.
    pub(crate) fn div(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        if by == 1 {
            a
        } else {
            built(self.builder.build_int_unsigned_div(a, self.i64(by as i64), ""))
        }
    }

    /// Unsigned remainder by a constant.
    pub(crate) fn rem(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        built(self.builder.build_int_unsigned_rem(a, self.i64(by as i64), ""))
    }

    /// `pointer + index` in elements.
    pub(crate) fn at(
        &self,
        base: PointerValue<'c>,
        elem: Elem,
        index: IntValue<'c>,
    ) -> PointerValue<'c> {
        // SAFETY: building an instruction reads no memory; that kernels stay inside their
        // buffers is what the verifier of the kernel IR checks.
        built(unsafe { self.builder.build_gep(self.elem_type(elem), base, &[index], "") })
    }

    // Memory.

    /// Loads lanes that lie side by side, aligned as single elements are.
    pub(crate) fn load(&self, at: PointerValue<'c>, elem: Elem, lanes: u64) -> Value<'c> {
        let value = built(self.builder.build_load(self.ty(elem, lanes), at, ""));
        self.align(value.as_instruction_value(), elem);
        value
    }

    /// Stores lanes side by side.
    pub(crate) fn store(&self, at: PointerValue<'c>, elem: Elem, value: Value<'c>) {
        let store = built(self.builder.build_store(at, value));
        self.align(Some(store), elem);
    }

    fn align(&self, access: Option<inkwell::values::InstructionValue<'c>>, elem: Elem) {
        let access = access.expect("a load or store is an instruction");
        access.set_alignment(elem.bytes()).expect("element sizes are powers of two");
    }

    pub(crate) fn load_pointer(&self, at: PointerValue<'c>) -> PointerValue<'c> {
        let pointer = self.context.ptr_type(Default::default());
        built(self.builder.build_load(pointer, at, "")).into_pointer_value()
    }

    // Lanes.

    /// A scalar in every lane; vectors stay as they are.
    pub(crate) fn splat(&self, value: Value<'c>, lanes: u64) -> Value<'c> {
        if lanes == 1 || value.is_vector_value() {
            return value;
        }
        let one = built(self.builder.build_insert_element(
            self.undefined(value.get_type(), lanes),
            value,
            self.i64(0),
            "",
        ));
        self.shuffle(one.into(), one.into(), &vec![0; lanes as usize])
    }

    fn undefined(&self, elem: BasicTypeEnum<'c>, lanes: u64) -> VectorValue<'c> {
        match elem {
            BasicTypeEnum::FloatType(t) => t.vec_type(narrow(lanes)).get_poison(),
            BasicTypeEnum::IntType(t) => t.vec_type(narrow(lanes)).get_poison(),
            other => panic!("{other} is no element type"),
        }
    }

    /// Lanes picked from two vectors of one type laid side by side; one pick gives a scalar.
    pub(crate) fn shuffle(&self, a: Value<'c>, b: Value<'c>, picks: &[u64]) -> Value<'c> {
        if !a.is_vector_value() {
            return self
                .gather_lanes(&picks.iter().map(|p| [a, b][*p as usize]).collect::<Vec<_>>());
        }
        let size = self.lanes(a);
        if let [pick] = picks {
            return if *pick < size { self.lane(a, *pick) } else { self.lane(b, pick - size) };
        }
        let i32 = self.context.i32_type();
        let mask: Vec<_> = picks.iter().map(|p| i32.const_int(*p, false)).collect();
        let mask = VectorType::const_vector(&mask);
        let (a, b) = (a.into_vector_value(), b.into_vector_value());
        built(self.builder.build_shuffle_vector(a, b, mask, "")).into()
    }

    /// One lane of a value.
    pub(crate) fn lane(&self, value: Value<'c>, lane: u64) -> Value<'c> {
        match value {
            BasicValueEnum::VectorValue(v) => {
                built(self.builder.build_extract_element(v, self.i64(lane as i64), ""))
            }
            scalar => scalar,
        }
    }

    /// A vector of scalars.
    pub(crate) fn gather_lanes(&self, lanes: &[Value<'c>]) -> Value<'c> {
        if let [only] = lanes {
            return *only;
        }
        let empty = self.undefined(lanes[0].get_type(), lanes.len() as u64);
        let insert = |vector, (i, lane): (usize, &Value<'c>)| {
            built(self.builder.build_insert_element(vector, *lane, self.i64(i as i64), ""))
        };
        lanes.iter().enumerate().fold(empty, insert).into()
    }

    /// A value with more lanes; those past its own are unspecified.
    pub(crate) fn widen(&self, value: Value<'c>, lanes: u64) -> Value<'c> {
        match self.lanes(value) {
            1 => self.splat(value, lanes),
            n if n == lanes => value,
            n => self.shuffle(value, value, &(0..lanes).map(|i| i.min(n - 1)).collect::<Vec<_>>()),
        }
    }

    /// The lanes of values one after the other.
    pub(crate) fn concatenate(&self, values: &[Value<'c>]) -> Value<'c> {
        let join = |a, b| {
            let (n, m) = (self.lanes(a), self.lanes(b));
            let wide = n.max(m);
            let picks: Vec<u64> = (0..n).chain(wide..wide + m).collect();
            self.shuffle(self.widen(a, wide), self.widen(b, wide), &picks)
        };
        values.iter().copied().reduce(join).expect("a row has lanes")
    }

    // Control flow.

    pub(crate) fn block(&self, name: &str) -> BasicBlock<'c> {
        self.context.append_basic_block(self.function(), name)
    }

    pub(crate) fn here(&self) -> BasicBlock<'c> {
        self.builder.get_insert_block().expect("the builder stands in a block")
    }

    fn function(&self) -> FunctionValue<'c> {
        self.here().get_parent().expect("blocks belong to functions")
    }

    pub(crate) fn enter(&self, block: BasicBlock<'c>) {
        self.builder.position_at_end(block);
    }

    pub(crate) fn jump(&self, to: BasicBlock<'c>) {
        built(self.builder.build_unconditional_branch(to));
    }

    pub(crate) fn branch(&self, if_: Value<'c>, then: BasicBlock<'c>, otherwise: BasicBlock<'c>) {
        built(self.builder.build_conditional_branch(if_.into_int_value(), then, otherwise));
    }

    pub(crate) fn phi(&self, ty: BasicTypeEnum<'c>) -> PhiValue<'c> {
        built(self.builder.build_phi(ty, ""))
    }

    pub(crate) fn ret(&self) {
        built(self.builder.build_return(None));
    }

    /// Runs `body` for each `i` of `from..to` by `step`, at least once, carrying values. The body
    /// gets `i` and the carried values and returns the next ones; the last ones are the result.
    pub(crate) fn looped<E>(
        &self,
        (from, to, step): (IntValue<'c>, IntValue<'c>, i64),
        carried: &[Value<'c>],
        body: impl FnOnce(IntValue<'c>, &[Value<'c>]) -> Result<Vec<Value<'c>>, E>,
    ) -> Result<Vec<Value<'c>>, E> {
        let (before, head, exit) = (self.here(), self.block("loop"), self.block("done"));
        self.jump(head);
        self.enter(head);
        let turn = self.phi(self.elem_type(Elem::I64));
        let phis: Vec<_> = carried.iter().map(|value| self.phi(value.get_type())).collect();
        let values: Vec<_> = phis.iter().map(|phi| phi.as_basic_value()).collect();
        let index = turn.as_basic_value().into_int_value();
        let next = body(index, &values)?;
        let index = self.add(index, self.i64(step));
        let more = self.icmp(IntPredicate::ULT, index.into(), to.into());
        let last = self.here();
        self.branch(more, head, exit);
        turn.add_incoming(&[(&from, before), (&index, last)]);
        for ((phi, first), next) in phis.iter().zip(carried).zip(&next) {
            phi.add_incoming(&[(first, before), (next, last)]);
        }
        self.enter(exit);
        Ok(next)
    }

    /// Runs `body` if the condition holds.
    pub(crate) fn when<R>(&self, condition: Value<'c>, body: impl FnOnce() -> R) -> R {
        let (then, join) = (self.block("then"), self.block("join"));
        self.branch(condition, then, join);
        self.enter(then);
        let result = body();
        self.jump(join);
        self.enter(join);
        result
    }
}

impl Elem {
    /// Size in memory.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::I16 => 2,
            Self::I8 => 1,
        }
    }
}

/// Lane counts are tile sizes, which the lowering bounds.
fn narrow(lanes: u64) -> u32 {
    u32::try_from(lanes).expect("tiles have fewer than 2^32 lanes")
}
