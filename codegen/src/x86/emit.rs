//! The emitter of x86 code: the one that all targets share, and the CPU it works for.

use std::ops::Deref;

use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::context::Context;
use inkwell::values::FunctionValue;

use super::CpuTarget;
pub(super) use crate::llvm::emit::{Elem, Value};

/// A module under construction for a CPU.
pub(super) struct Emitter<'c> {
    shared: crate::llvm::emit::Emitter<'c>,
    pub(super) target: CpuTarget,
}

impl<'c> Deref for Emitter<'c> {
    type Target = crate::llvm::emit::Emitter<'c>;

    fn deref(&self) -> &Self::Target {
        &self.shared
    }
}

impl<'c> Emitter<'c> {
    pub(super) fn new(context: &'c Context, target: &CpuTarget) -> Self {
        let shared = crate::llvm::emit::Emitter::new(context);
        Self { shared, target: target.clone() }
    }

    /// Sets the attributes of a function of ours.
    pub(super) fn attribute(&self, function: FunctionValue<'c>) {
        for (key, value) in self.target.attributes() {
            let attribute = self.context.create_string_attribute(key, value);
            function.add_attribute(AttributeLoc::Function, attribute);
        }
        let kind = Attribute::get_named_enum_kind_id("nounwind");
        let attribute = self.context.create_enum_attribute(kind, 0);
        function.add_attribute(AttributeLoc::Function, attribute);
    }
}
