//! The emitter of GPU code: the one that all targets share, with the threads, the shared memory
//! and the tensor cores of a GPU. Everything is one lane wide; positions are i32.

use std::cell::Cell;
use std::ops::Deref;

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::context::Context;
use inkwell::module::Linkage;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum};
use inkwell::values::{BasicValue, FunctionValue, InstructionOpcode as Op, IntValue, PointerValue};
use inkwell::{AddressSpace, IntPredicate};

use crate::llvm::emit::{Elem, Emitter, Value, built};

/// LLVM's number of the calling convention of kernels.
const KERNEL: u32 = 71;

/// Threads of a warp.
pub(super) const WARP: u64 = 32;

/// Device memory.
pub(super) const GLOBAL: u16 = 1;
/// Memory of a block.
pub(super) const SHARED: u16 = 3;

/// A module under construction for a GPU.
pub(super) struct Gpu<'c> {
    shared: Emitter<'c>,
    /// How many threads meet at barriers, where not all of the block do.
    meeting: Cell<Option<u64>>,
}

impl<'c> Deref for Gpu<'c> {
    type Target = Emitter<'c>;

    fn deref(&self) -> &Emitter<'c> {
        &self.shared
    }
}

impl<'c> Gpu<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self { shared: Emitter::new(context), meeting: Cell::new(None) }
    }

    /// So many pointers, then so many ints.
    pub(super) fn parameters(
        &self,
        pointers: usize,
        ints: usize,
    ) -> Vec<BasicMetadataTypeEnum<'c>> {
        let pointer: BasicMetadataTypeEnum =
            self.context.ptr_type(AddressSpace::from(GLOBAL)).into();
        let int: BasicMetadataTypeEnum = self.context.i32_type().into();
        [vec![pointer; pointers], vec![int; ints]].concat()
    }

    /// A kernel for blocks of so many threads.
    pub(super) fn kernel(
        &self,
        name: &str,
        parameters: &[BasicMetadataTypeEnum<'c>],
        threads: u64,
    ) -> FunctionValue<'c> {
        let function = self.function(name, parameters, Linkage::External);
        function.set_call_conventions(KERNEL);
        let bound = self.context.create_string_attribute("nvvm.maxntid", &threads.to_string());
        function.add_attribute(AttributeLoc::Function, bound);
        function
    }

    /// What becomes part of the kernels that call it, in whose blocks so many threads call it: none when all of
    /// them do.
    pub(super) fn part(
        &self,
        name: &str,
        parameters: &[BasicMetadataTypeEnum<'c>],
        meeting: Option<u64>,
    ) -> FunctionValue<'c> {
        let function = self.function(name, parameters, Linkage::Internal);
        let kind = Attribute::get_named_enum_kind_id("alwaysinline");
        let inline = self.context.create_enum_attribute(kind, 0);
        function.add_attribute(AttributeLoc::Function, inline);
        self.meeting.set(meeting);
        function
    }

    fn function(
        &self,
        name: &str,
        parameters: &[BasicMetadataTypeEnum<'c>],
        linkage: Linkage,
    ) -> FunctionValue<'c> {
        let ty = self.context.void_type().fn_type(parameters, false);
        let function = self.module.add_function(name, ty, Some(linkage));
        self.enter(self.context.append_basic_block(function, "entry"));
        function
    }

    /// States how many blocks of a kernel a multiprocessor is to have at least.
    pub(super) fn resident(&self, kernel: FunctionValue<'c>, blocks: u64) {
        let bound = self.context.create_string_attribute("nvvm.minctasm", &blocks.to_string());
        kernel.add_attribute(AttributeLoc::Function, bound);
    }

    /// No thread comes here.
    pub(super) fn unreachable(&self) {
        built(self.builder.build_unreachable());
    }

    /// Calls a part.
    pub(super) fn call(&self, part: FunctionValue<'c>, arguments: &[Value<'c>]) {
        let arguments: Vec<_> = arguments.iter().map(|v| (*v).into()).collect();
        built(self.builder.build_call(part, &arguments, ""));
    }

    // Ints of 32 bits, for positions: not negative, and far from overflow.

    pub(super) fn i32(&self, value: u64) -> IntValue<'c> {
        self.context.i32_type().const_int(value, false)
    }

    fn int_op(&self, op: Op, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.binary(op, a.into(), b.into()).into_int_value()
    }

    pub(super) fn plus(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.int_op(Op::Add, a, b)
    }

    /// Adds a constant of the type of `a`.
    pub(super) fn plus_constant(&self, a: IntValue<'c>, by: i64) -> IntValue<'c> {
        match by {
            0 => a,
            by => self.plus(a, a.get_type().const_int(by as u64, true)),
        }
    }

    /// Multiplies by a constant.
    pub(super) fn times(&self, a: IntValue<'c>, by: i64) -> IntValue<'c> {
        match by {
            1 => a,
            by => self.int_op(Op::Mul, a, a.get_type().const_int(by as u64, true)),
        }
    }

    /// Quotient by a constant, of a number that is not negative.
    pub(super) fn quotient(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        match by {
            1 => a,
            by => self.int_op(Op::UDiv, a, a.get_type().const_int(by, false)),
        }
    }

    /// Remainder by a constant, of a number that is not negative.
    pub(super) fn remainder(&self, a: IntValue<'c>, by: u64) -> IntValue<'c> {
        self.int_op(Op::URem, a, a.get_type().const_int(by, false))
    }

    pub(super) fn and(&self, a: IntValue<'c>, mask: u64) -> IntValue<'c> {
        self.int_op(Op::And, a, a.get_type().const_int(mask, false))
    }

    pub(super) fn xor(&self, a: IntValue<'c>, b: IntValue<'c>) -> IntValue<'c> {
        self.int_op(Op::Xor, a, b)
    }

    /// `a · 2^by`, or `a / 2^-by` rounded down.
    pub(super) fn shift(&self, a: IntValue<'c>, by: i32) -> IntValue<'c> {
        let count = a.get_type().const_int(u64::from(by.unsigned_abs()), false);
        match by {
            0 => a,
            1.. => self.int_op(Op::Shl, a, count),
            _ => self.int_op(Op::LShr, a, count),
        }
    }

    /// A number that is not negative, as 64 bits.
    pub(super) fn widen_position(&self, a: IntValue<'c>) -> IntValue<'c> {
        let i64 = self.context.i64_type();
        if a.get_type() == i64 { a } else { built(self.builder.build_int_z_extend(a, i64, "")) }
    }

    /// An int as 64 bits.
    pub(super) fn widen_int(&self, a: IntValue<'c>) -> IntValue<'c> {
        built(self.builder.build_int_s_extend(a, self.context.i64_type(), ""))
    }

    /// `a < b`, of numbers that are not negative.
    pub(super) fn below(&self, a: IntValue<'c>, b: IntValue<'c>) -> Value<'c> {
        self.icmp(IntPredicate::ULT, a.into(), b.into())
    }

    pub(super) fn both(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.binary(Op::And, a, b)
    }

    pub(super) fn either(&self, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        self.binary(Op::Or, a, b)
    }

    pub(super) fn not(&self, a: Value<'c>) -> Value<'c> {
        self.binary(Op::Xor, a, self.bool(true, 1))
    }

    // Threads.

    /// The number of this thread in its block.
    pub(super) fn thread(&self) -> IntValue<'c> {
        self.special("llvm.nvvm.read.ptx.sreg.tid.x")
    }

    /// The number of this block in the grid.
    pub(super) fn block_number(&self) -> IntValue<'c> {
        self.special("llvm.nvvm.read.ptx.sreg.ctaid.x")
    }

    fn special(&self, name: &str) -> IntValue<'c> {
        self.intrinsic_call(name, &[], &[]).expect("a register has a value").into_int_value()
    }

    /// Waits for all threads of the block, or all that are there; what they wrote is then visible.
    pub(super) fn barrier(&self) {
        let first = self.int(0, 1);
        match self.meeting.get() {
            None => self.intrinsic_call("llvm.nvvm.barrier.cta.sync.aligned.all", &[], &[first]),
            Some(threads) => {
                let operands = [first, self.int(threads as i32, 1)];
                self.intrinsic_call("llvm.nvvm.barrier.cta.sync.aligned.count", &[], &operands)
            }
        };
    }

    /// Waits for all threads of the warp; what they wrote is then visible to it.
    pub(super) fn warp_barrier(&self) {
        self.intrinsic_call("llvm.nvvm.bar.warp.sync", &[], &[self.int(-1, 1)]);
    }

    /// A 32-bit value of the thread whose number in the warp differs in these bits.
    pub(super) fn shuffle_xor(&self, value: Value<'c>, bits: u64) -> Value<'c> {
        let float = value.is_float_value();
        let raw = if float { self.cast(Op::BitCast, value, Elem::I32) } else { value };
        let name = "llvm.nvvm.shfl.sync.bfly.i32";
        let operands = [self.int(-1, 1), raw, self.int(bits as i32, 1), self.int(31, 1)];
        let other = self.intrinsic_call(name, &[], &operands).expect("a shuffle gives a value");
        if float { self.cast(Op::BitCast, other, Elem::F32) } else { other }
    }

    // Memory.

    /// The block's dynamic shared memory.
    pub(super) fn shared_memory(&self) -> PointerValue<'c> {
        const NAME: &str = "shared";
        if let Some(global) = self.module.get_global(NAME) {
            return global.as_pointer_value();
        }
        let ty = self.context.i8_type().array_type(0);
        let global = self.module.add_global(ty, Some(AddressSpace::from(SHARED)), NAME);
        global.set_linkage(Linkage::External);
        global.set_alignment(16);
        global.as_pointer_value()
    }

    /// A pointer so many bytes further.
    pub(super) fn bytes(&self, base: PointerValue<'c>, by: IntValue<'c>) -> PointerValue<'c> {
        // SAFETY: building an instruction reads no memory.
        built(unsafe { self.builder.build_gep(self.context.i8_type(), base, &[by], "") })
    }

    pub(super) fn load_as(
        &self,
        at: PointerValue<'c>,
        ty: BasicTypeEnum<'c>,
        align: u64,
    ) -> Value<'c> {
        let value = built(self.builder.build_load(ty, at, ""));
        let load = value.as_instruction_value().expect("a load is an instruction");
        load.set_alignment(align as u32).expect("alignments are powers of two");
        value
    }

    /// Marks what was loaded as never changed while the kernel runs: such loads may move over stores.
    pub(super) fn unchanging(&self, loaded: Value<'c>) {
        let load = loaded.as_instruction_value().expect("a load is an instruction");
        let kind = self.context.get_kind_id("invariant.load");
        load.set_metadata(self.context.metadata_node(&[]), kind).expect("loads take metadata");
    }

    pub(super) fn store_as(&self, at: PointerValue<'c>, value: Value<'c>, align: u64) {
        let store = built(self.builder.build_store(at, value));
        store.set_alignment(align as u32).expect("alignments are powers of two");
    }

    /// Copies 4, 8 or 16 bytes from device to shared memory in the background; with a size only so
    /// many of them, and zeros behind.
    pub(super) fn copy_async(
        &self,
        to: PointerValue<'c>,
        from: PointerValue<'c>,
        bytes: u64,
        size: Option<Value<'c>>,
    ) {
        let cache = if bytes == 16 { "cg" } else { "ca" };
        let suffix = if size.is_some() { ".s" } else { "" };
        let name = format!("llvm.nvvm.cp.async.{cache}.shared.global.{bytes}{suffix}");
        let operands: Vec<Value> = [to.into(), from.into()].into_iter().chain(size).collect();
        self.intrinsic_call(&name, &[], &operands);
    }

    /// `2^x` to two units in the last place; 0 where it is denormal.
    pub(super) fn power_of_two(&self, x: Value<'c>) -> Value<'c> {
        self.intrinsic("llvm.nvvm.ex2.approx.ftz", &[x])
    }

    /// Ends a group of copies.
    pub(super) fn commit_copies(&self) {
        self.intrinsic_call("llvm.nvvm.cp.async.commit.group", &[], &[]);
    }

    /// Waits until at most so many groups of this thread's copies are under way.
    pub(super) fn wait_copies(&self, pending: u64) {
        let pending = self.int(pending as i32, 1);
        self.intrinsic_call("llvm.nvvm.cp.async.wait.group", &[], &[pending]);
    }

    // Tensor cores.

    /// Loads four 8 × 8 matrices of 16-bit elements; each thread names one of their rows.
    pub(super) fn load_matrices(&self, row: PointerValue<'c>, transposed: bool) -> [Value<'c>; 4] {
        let trans = if transposed { ".trans" } else { "" };
        let name = format!("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4{trans}.b16");
        let types = [row.get_type().as_basic_type_enum()];
        let four = self.intrinsic_call(&name, &types, &[row.into()]);
        self.parts(four.expect("`ldmatrix` gives four registers"))
    }

    /// `c + a·b` for 16 × 16 by 16 × 8 bf16, accumulated in f32.
    pub(super) fn multiply(
        &self,
        a: [Value<'c>; 4],
        b: [Value<'c>; 2],
        c: [Value<'c>; 4],
    ) -> [Value<'c>; 4] {
        let name = "llvm.nvvm.mma.m16n8k16.row.col.bf16";
        let operands: Vec<Value> = a.into_iter().chain(b).chain(c).collect();
        let sum = self.intrinsic_call(name, &[], &operands);
        self.parts(sum.expect("`mma` gives four registers"))
    }

    fn parts(&self, of: Value<'c>) -> [Value<'c>; 4] {
        let all = of.into_struct_value();
        std::array::from_fn(|i| built(self.builder.build_extract_value(all, i as u32, "")))
    }

    // Rounding to bf16: to nearest, the even one of two. NaN becomes the positive quiet NaN.

    /// Two numbers as bf16 in one word, `low` in its lower half.
    pub(super) fn bf16_pair(&self, low: Value<'c>, high: Value<'c>) -> Value<'c> {
        let pair = self.intrinsic_call("llvm.nvvm.ff2bf16x2.rn", &[], &[high, low]);
        let pair = pair.expect("a conversion gives a value");
        built(self.builder.build_bit_cast(pair, self.context.i32_type(), ""))
    }

    /// The bits of a number as bf16.
    pub(super) fn bf16_bits(&self, x: Value<'c>) -> Value<'c> {
        let rounded = self.intrinsic_call("llvm.nvvm.f2bf16.rn", &[], &[x]);
        let rounded = rounded.expect("a conversion gives a value");
        built(self.builder.build_bit_cast(rounded, self.context.i16_type(), ""))
    }
}
