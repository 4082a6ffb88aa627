//! The function around a kernel: its arguments, and the addresses of its buffers.

use gigac_ir::image::ALIGNMENT;
use gigac_ir::kernel::{Access, BufferId, Kernel};
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::values::{IntValue, PointerValue};

use super::emit::{Elem, Emitter};

/// The prologue of a kernel's function, as values.
pub(super) struct Frame<'c> {
    /// Address of each buffer of the kernel; local ones lie in the scratch memory.
    buffers: Vec<PointerValue<'c>>,
    /// Int arguments.
    pub(super) scalars: Vec<IntValue<'c>>,
    /// First grid point.
    pub(super) first: IntValue<'c>,
    /// Grid point after the last.
    pub(super) last: IntValue<'c>,
    /// Bytes of the local buffers, rounded up to the alignment.
    pub(super) local_bytes: u64,
}

impl<'c> Frame<'c> {
    /// Declares the function of a kernel and leaves the builder behind its prologue.
    pub(super) fn open(emit: &Emitter<'c>, kernel: &Kernel) -> Self {
        let (pointer, long) = (emit.context.ptr_type(Default::default()), emit.context.i64_type());
        let parameters = [pointer.into(), pointer.into(), long.into(), long.into(), pointer.into()];
        let ty = emit.context.void_type().fn_type(&parameters, false);
        let function = emit.module.add_function(&kernel.name, ty, None);
        emit.attribute(function);
        let noalias = Attribute::get_named_enum_kind_id("noalias");
        function
            .add_attribute(AttributeLoc::Param(4), emit.context.create_enum_attribute(noalias, 0));
        emit.enter(emit.context.append_basic_block(function, "entry"));
        let parameter = |i| function.get_nth_param(i).expect("a kernel has five parameters");
        let [table, scalars, scratch] = [0, 1, 4].map(|i| parameter(i).into_pointer_value());
        let (buffers, local_bytes) = buffers(emit, kernel, table, scratch);
        let scalar = |i: usize| {
            let at = emit.at(scalars, Elem::I64, emit.i64(i as i64));
            emit.load(at, Elem::I64, 1).into_int_value()
        };
        Self {
            buffers,
            scalars: (0..kernel.scalars.len()).map(scalar).collect(),
            first: parameter(2).into_int_value(),
            last: parameter(3).into_int_value(),
            local_bytes,
        }
    }

    /// Address of a buffer.
    pub(super) fn buffer(&self, buffer: BufferId) -> PointerValue<'c> {
        self.buffers[buffer.0 as usize]
    }
}

/// Addresses of all buffers, and the bytes that local ones take.
fn buffers<'c>(
    emit: &Emitter<'c>,
    kernel: &Kernel,
    table: PointerValue<'c>,
    scratch: PointerValue<'c>,
) -> (Vec<PointerValue<'c>>, u64) {
    let (mut arguments, mut local_bytes) = (0, 0);
    let mut address = |buffer: &gigac_ir::kernel::Buffer| {
        if buffer.access == Access::Local {
            let at = emit.at(scratch, Elem::I8, emit.i64(local_bytes as i64));
            let bytes = buffer.elements * buffer.storage.bytes();
            local_bytes += bytes.next_multiple_of(ALIGNMENT);
            return at;
        }
        // One slot of the table is as wide as an i64.
        let slot = emit.at(table, Elem::I64, emit.i64(arguments));
        arguments += 1;
        emit.load_pointer(slot)
    };
    let buffers = kernel.buffers.iter().map(&mut address).collect();
    (buffers, local_bytes)
}
