//! Settings of a training run: what the `train` block of a model says, as plain data.

use serde::{Deserialize, Serialize};

use crate::graph::DType;

/// What the record of every step has; a model's own metrics stand beside these under other names.
pub const STEP_FIELDS: [&str; 14] = [
    "step",
    "loss",
    "grad_norm",
    "lr",
    "tokens",
    "step_seconds",
    "tokens_per_second",
    "flops_utilisation",
    "nan_gradients",
    "host_syncs",
    "ring_waits",
    "allocations",
    "validation_loss",
    "validation_bits_per_byte",
];

/// Everything a `train` block says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// The settings outside phases.
    pub settings: Settings,
    /// Phases in order; without them the command gives the run's length.
    pub phases: Vec<Phase>,
}

/// A part of a run with settings, axes and constants of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its length in tokens.
    pub tokens: u64,
    /// Axes and constants it changes, as `--set` would: compile the model again with these.
    pub sets: Vec<(String, String)>,
    /// The settings that hold in it.
    pub settings: Settings,
    /// Whether it has a schedule of its own, which then runs over this phase alone.
    pub own_schedule: bool,
}

/// Settings of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// Where the schedule's steps begin and end.
    pub span: Span,
    /// Tokens of a global batch, before rounding to whole micro-batches; one micro-batch when absent.
    pub batch_tokens: Option<u64>,
    /// Largest global L2 norm of the gradients; not clipped when absent.
    pub clip: Option<f64>,
    /// Widths of reals.
    pub precision: Precision,
    /// What to do with gradients that are not finite.
    pub on_nan: OnNan,
}

/// The steps of a run over which a schedule goes from its start to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first step.
    pub first: u64,
    /// One past the last step; the end of the run when absent.
    pub end: Option<u64>,
}

/// An optimizer and its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// AdamW with bias correction. Source: arXiv:1711.05101.
    AdamW {
        /// Decay of the running mean of the gradient.
        beta1: f64,
        /// Decay of the running mean of its square.
        beta2: f64,
        /// Added to the root of the running mean of squares.
        eps: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
        /// Whether the decay of a step is `rate · weight_decay` (as in PyTorch) or `weight_decay · rate / peak rate`.
        decay_by_rate: bool,
    },
}

/// Learning rate as a function of the step, counted from 0 at the start of its [`Span`]. With `warmup`, step `s < warmup` has `peak · (s + 1) / warmup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// The same at every step.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Linear warm-up, then half a cosine from `peak` down to `floor · peak` at the last step.
    Cosine {
        /// Highest rate.
        peak: f64,
        /// Steps of warm-up.
        warmup: u64,
        /// Last rate as a part of the peak.
        floor: f64,
    },
    /// Linear warm-up, constant, then a linear descent to `floor · peak` over the last `decay` steps.
    Wsd {
        /// Highest rate.
        peak: f64,
        /// Steps of warm-up.
        warmup: u64,
        /// Steps of descent.
        decay: u64,
        /// Last rate as a part of the peak.
        floor: f64,
    },
}

/// Widths of reals that depend on a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// Width of values stored between kernels, and of the weights kernels read.
    pub compute: DType,
    /// Width of the weights that the optimizer updates.
    pub master: DType,
    /// Width in which gradients are summed over ranks and micro-batches.
    pub reduce: DType,
}

/// What happens to a step whose gradients are not all finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnNan {
    /// Nothing: the values are used as they are.
    Keep,
    /// Elements that are not finite count as zero.
    Zero,
    /// The step changes no weight and no moment.
    Skip,
    /// The run stops.
    Halt,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::AdamW {
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                decay_by_rate: true,
            },
            schedule: Schedule::Constant { rate: 3e-4 },
            span: Span::default(),
            batch_tokens: None,
            clip: None,
            precision: Precision { compute: DType::F32, master: DType::F32, reduce: DType::F32 },
            on_nan: OnNan::Keep,
        }
    }
}
