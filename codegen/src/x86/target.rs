//! The CPUs that kernels are compiled for.

use gigac_ir::image::{X86_64_V3, X86_64_V4};
use inkwell::OptimizationLevel;
use inkwell::targets::{
    CodeModel, InitializationConfig, RelocMode, Target, TargetMachine, TargetTriple,
};

use crate::CodegenError;

/// Instruction set of an x86-64 CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Level {
    /// AVX2 and FMA.
    V3,
    /// AVX-512 as of Skylake servers.
    V4,
}

/// A CPU to compile for: which instructions may be used, and whose timings to schedule for.
///
/// The instruction set is one of the standard levels, never the list of one machine, so an image
/// runs on every CPU of its level and its feature list stays short.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuTarget {
    level: Level,
    tune: String,
}

impl CpuTarget {
    /// The CPU that this program runs on.
    ///
    /// # Errors
    /// [`CodegenError::Host`] when it has no AVX2 or FMA.
    pub fn host() -> Result<Self, CodegenError> {
        let missing = gigac_ir::image::missing_features(X86_64_V3);
        if !missing.is_empty() {
            return Err(CodegenError::Host { missing: missing.join(", ") });
        }
        let wide = gigac_ir::image::missing_features(X86_64_V4).is_empty();
        let tune = TargetMachine::get_host_cpu_name().to_string_lossy().into_owned();
        Ok(Self { level: if wide { Level::V4 } else { Level::V3 }, tune })
    }

    /// Any CPU with AVX2 and FMA (x86-64-v3).
    pub fn x86_64_v3() -> Self {
        Self { level: Level::V3, tune: "generic".to_owned() }
    }

    /// Any CPU with AVX-512 F, BW, CD, DQ and VL (x86-64-v4).
    pub fn x86_64_v4() -> Self {
        Self { level: Level::V4, tune: "generic".to_owned() }
    }

    /// Number of f32 in a vector register.
    pub fn lanes(&self) -> u64 {
        match self.level {
            Level::V3 => 8,
            Level::V4 => 16,
        }
    }

    /// Number of vector registers.
    pub fn registers(&self) -> u64 {
        match self.level {
            Level::V3 => 16,
            Level::V4 => 32,
        }
    }

    /// Features that a CPU must have to run the code.
    pub fn features(&self) -> &'static [&'static str] {
        match self.level {
            Level::V3 => X86_64_V3,
            Level::V4 => X86_64_V4,
        }
    }

    /// Attributes that every function carries, as LLVM spells them.
    pub(super) fn attributes(&self) -> [(&'static str, &str); 5] {
        let bits = if self.level == Level::V4 { "512" } else { "256" };
        [
            ("target-cpu", self.cpu()),
            ("tune-cpu", &self.tune),
            ("prefer-vector-width", bits),
            // Keeps LLVM from turning loops into calls of memcpy and memset.
            ("no-builtins", ""),
            ("frame-pointer", "none"),
        ]
    }

    fn cpu(&self) -> &'static str {
        match self.level {
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
        }
    }

    pub(super) fn machine(&self) -> Result<TargetMachine, CodegenError> {
        Target::initialize_x86(&InitializationConfig::default());
        let triple = TargetTriple::create("x86_64-unknown-linux-gnu");
        let target = Target::from_triple(&triple).map_err(|e| CodegenError::Llvm(e.to_string()))?;
        let level = OptimizationLevel::Aggressive;
        target
            .create_target_machine(&triple, self.cpu(), "", level, RelocMode::PIC, CodeModel::Small)
            .ok_or_else(|| CodegenError::Llvm("no x86-64 target machine".to_owned()))
    }
}
