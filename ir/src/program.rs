//! The program: everything that a training executable carries.

use serde::{Deserialize, Serialize};

use crate::image::Image;
use crate::plan::Plan;
use crate::train::Settings;

/// A compiled model: plans, code, and the numbers that reports need.
///
/// All plans of a program work in one arena. The states (weights, moments, copies in bf16) lie first, and at
/// equal addresses in every plan of every phase; so phases and kinds of plans can follow each
/// other without moving anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Version of the compiler.
    pub version: String,
    /// Name of the model.
    pub model: String,
    /// Number of weights.
    pub parameters: u64,
    /// Code of all kernels of all plans.
    pub image: Image,
    /// The parts of a run, at least one. Without phases in the model it is the only one.
    pub phases: Vec<ProgramPhase>,
}

/// One part of a run: plans for one set of axes, constants and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramPhase {
    /// Its length in tokens; the rest of the run when absent.
    pub tokens: Option<u64>,
    /// The settings that hold in it, already part of the plans.
    pub settings: Settings,
    /// Tokens of one step, all micro-batches together.
    pub tokens_per_step: u64,
    /// Micro-batches of one step.
    pub micro_batches: u64,
    /// `6N + 12·layers·d·T` with N all parameters.
    pub flops_per_token: f64,
    /// 6·(parameters used in matrix products) + 6·layers·d·T: the causal half, no recomputation.
    pub model_flops_per_token: f64,
    /// 10⁹ floating-point operations of a step by the same formula.
    pub gflop_step: f64,
    /// One training step: results loss, gradients, norm, rate, updates in place.
    pub step: Plan,
    /// The loss without gradients.
    pub evaluate: Plan,
    /// The model's named outputs; absent when it has none.
    pub outputs: Option<Plan>,
}

impl ProgramPhase {
    /// Its plans: the step first.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        [&self.step, &self.evaluate].into_iter().chain(&self.outputs)
    }
}

impl Program {
    /// Bytes of an arena that is large enough for every plan.
    pub fn arena_bytes(&self) -> u64 {
        self.plans().map(|p| p.arena_bytes).max().unwrap_or(0)
    }

    /// Bytes of the largest host arena of a plan.
    pub fn host_bytes(&self) -> u64 {
        self.plans().map(|p| p.host_bytes).max().unwrap_or(0)
    }

    /// All plans.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.phases.iter().flat_map(ProgramPhase::plans)
    }
}
