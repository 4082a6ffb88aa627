//! How long a run is, and which phase each step belongs to.

use std::ops::Range;

use gigac_ir::program::Program;

use crate::error::{Error, Result};

/// The steps of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Steps in total.
    pub(super) steps: u64,
    /// The steps of each phase; the last phase takes what is left.
    pub(super) phases: Vec<Range<u64>>,
}

impl Length {
    /// The steps that the phases and the flag give; `available` is the length of a file of batches.
    ///
    /// # Errors
    /// [`Error::Usage`] when nothing says how long the run is, or the file is too short.
    pub(super) fn new(
        program: &Program,
        flag: Option<u64>,
        available: Option<u64>,
    ) -> Result<Self> {
        let mut starts = vec![0_u64];
        for phase in &program.phases {
            let steps = phase.tokens.map(|t| t.div_ceil(phase.tokens_per_step.max(1)));
            let last = starts.last().copied().unwrap_or(0);
            starts.push(last.saturating_add(steps.unwrap_or(u64::MAX)));
        }
        let own = starts.last().copied().filter(|end| *end < u64::MAX);
        let steps = flag.or(available).or(own).ok_or_else(|| {
            Error::Usage("say how long to train: --steps N (the model has no phases)".to_owned())
        })?;
        if available.is_some_and(|available| steps > available) {
            let have = available.unwrap_or(0);
            return Err(Error::Usage(format!("--steps {steps}: the file of batches has {have}")));
        }
        let last = program.phases.len().saturating_sub(1);
        let end = |i: usize| if i == last { steps } else { starts[i + 1].min(steps) };
        let phases = (0..program.phases.len()).map(|i| starts[i].min(steps)..end(i)).collect();
        Ok(Self { steps, phases })
    }
}
