//! The GPUs that kernels are compiled for.

use inkwell::OptimizationLevel;
use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple,
};

use crate::CodegenError;

/// A generation of NVIDIA GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuTarget {
    /// A100.
    Sm80,
    /// H100. The instructions are those of [`GpuTarget::Sm80`], which it also has.
    Sm90,
}

impl GpuTarget {
    /// Its name on command lines, in PTX and in `meta.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90 => "sm_90",
        }
    }

    /// Bytes of shared memory that one block may have.
    pub fn shared_limit(self) -> u64 {
        match self {
            Self::Sm80 => 163 << 10,
            Self::Sm90 => 227 << 10,
        }
    }

    pub(super) fn machine(self) -> Result<TargetMachine, CodegenError> {
        Target::initialize_nvptx(&InitializationConfig::default());
        let triple = TargetTriple::create("nvptx64-nvidia-cuda");
        let target = Target::from_triple(&triple).map_err(|e| CodegenError::Llvm(e.to_string()))?;
        let (level, model) = (OptimizationLevel::Aggressive, CodeModel::Default);
        target
            .create_target_machine(&triple, self.name(), "", level, RelocMode::PIC, model)
            .ok_or_else(|| CodegenError::Llvm("no NVPTX target machine".to_owned()))
    }
}
