//! The loss on held-out text.

use std::sync::Arc;

use gigac_ir::graph::Role;
use gigac_ir::program::ProgramPhase;

use super::machine::Machine;
use crate::data::batch::{Batch, Layout, feed_scalars};
use crate::data::source::{Source, TextSource};
use crate::data::stream::Stream;
use crate::error::Result;
use crate::exec::executor::Executor;
use crate::metrics::Validation;

/// Computes the loss of a phase's model on held-out text.
pub(super) struct Evaluator<'p> {
    executor: Executor<'p>,
    layout: Layout,
    source: TextSource,
    batch: Batch,
    /// Tokens for one byte of text.
    density: Option<f64>,
}

impl<'p> Evaluator<'p> {
    /// An evaluator, when the text is long enough for a batch and the model has a loss.
    ///
    /// # Errors
    /// As binding a plan.
    pub(super) fn new(
        machine: &Machine<'_>,
        phase: &'p ProgramPhase,
        text: &Arc<Stream>,
    ) -> Result<Option<Self>> {
        let plan = &phase.evaluate;
        let layout = Layout::new(plan);
        let source = TextSource::in_order(text.clone(), &layout)?;
        if source.batches() == 0 || plan.result(&Role::Loss).is_none() {
            return Ok(None);
        }
        let density = text.bytes().map(|bytes| text.len() as f64 / bytes as f64);
        let batch = Batch::new(&layout);
        Ok(Some(Self { executor: machine.bind(plan)?, layout, source, batch, density }))
    }

    /// Mean loss over up to `limit` batches, with the weights as after `step` steps.
    ///
    /// # Errors
    /// What the text is refused for.
    pub(super) fn run(
        &mut self,
        machine: &mut Machine<'_>,
        limit: u64,
        at: (u64, u64, u32),
    ) -> Result<Validation> {
        let plan = self.executor.plan();
        let count = self.source.batches().min(limit);
        let (step, steps, seed) = at;
        let mut sum = 0.0;
        for index in 0..count {
            self.source.fill(index, &mut self.batch)?;
            machine.prepare(plan);
            self.batch.feed(&self.layout, &mut machine.arena);
            feed_scalars(plan, &mut machine.arena, step, steps, seed);
            machine.run(&mut self.executor);
            let loss = plan.result(&Role::Loss).map_or(f64::NAN, |r| machine.scalar(r));
            sum += loss;
        }
        let loss = sum / count as f64;
        let bits = |density: f64| loss * density / std::f64::consts::LN_2;
        Ok(Validation { loss, bits_per_byte: self.density.map(bits) })
    }
}
