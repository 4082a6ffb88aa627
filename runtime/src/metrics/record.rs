//! The figures of one step.

/// Loss on text that is not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Mean loss.
    pub loss: f64,
    /// The same in bits per byte of text, when the text's bytes are known.
    pub bits_per_byte: Option<f64>,
}

/// The figures of one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Number of the step, from 0.
    pub step: u64,
    /// Loss before the update.
    pub loss: f64,
    /// Global L2 norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Gradient elements that are not finite.
    pub nan_gradients: f64,
    /// Tokens seen so far, this step's included.
    pub tokens: u64,
    /// Tokens of this step.
    pub step_tokens: u64,
    /// Wall time of the step.
    pub seconds: f64,
    /// Part of the peak that the model's own operations reached.
    pub utilisation: f64,
    /// Calls of the read-back function.
    pub host_syncs: u64,
    /// Times the step waited for data or for room for its figures.
    pub ring_waits: u64,
    /// Allocations of the step and worker threads.
    pub allocations: u64,
    /// Values of the model's own metrics, in the order of their names in the sinks.
    pub metrics: Vec<f64>,
    /// Loss on held-out text after the step.
    pub validation: Option<Validation>,
}

impl Record {
    /// Tokens per second of the step.
    pub fn tokens_per_second(&self) -> f64 {
        self.step_tokens as f64 / self.seconds.max(1e-9)
    }
}
