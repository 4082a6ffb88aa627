//! The loss on held-out text.

use std::sync::Arc;

use gigac_ir::graph::Role;
use gigac_ir::plan::{Plan, PlanResult};
use gigac_ir::program::ProgramPhase;

use super::machine::Machine;
use super::signals;
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
    lines: Vec<Line<'p>>,
    /// Tokens for one byte of text.
    density: Option<f64>,
}

/// A line of the loss: a mean, or a sum to be divided by another one over all batches.
struct Line<'p> {
    term: &'p PlanResult,
    per: Option<&'p PlanResult>,
    sums: (f64, f64),
}

impl Line<'_> {
    fn add(&mut self, machine: &Machine<'_>) {
        self.sums.0 += machine.scalar(self.term);
        self.sums.1 += self.per.map_or(1.0, |per| machine.scalar(per));
    }
}

/// The lines of a plan's loss.
fn lines(plan: &Plan) -> Vec<Line<'_>> {
    let line = |term, per| Line { term, per, sums: (0.0, 0.0) };
    let whole = plan.result(&Role::Loss).map(|loss| line(loss, None));
    whole.map_or_else(
        || {
            let term = |n| Some((n, plan.result(&Role::LossTerm(n))?));
            let terms = (0..).map_while(term);
            terms.map(|(n, term)| line(term, plan.result(&Role::LossPer(n)))).collect()
        },
        |whole| vec![whole],
    )
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
        let lines = lines(plan);
        if source.batches() == 0 || lines.is_empty() {
            return Ok(None);
        }
        let density = text.bytes().map(|bytes| text.len() as f64 / bytes as f64);
        let batch = Batch::new(&layout);
        Ok(Some(Self { executor: machine.bind(plan)?, layout, source, batch, lines, density }))
    }

    /// Mean loss over up to `limit` batches, with the weights as after `step` steps; none when a
    /// signal asks to stop.
    ///
    /// # Errors
    /// What the text is refused for.
    pub(super) fn run(
        &mut self,
        machine: &mut Machine<'_>,
        limit: u64,
        at: (u64, u64, u32),
    ) -> Result<Option<Validation>> {
        let plan = self.executor.plan();
        let count = self.source.batches().min(limit);
        let (step, steps, seed) = at;
        self.lines.iter_mut().for_each(|line| line.sums = (0.0, 0.0));
        for index in 0..count {
            if signals::asked_to_stop() {
                return Ok(None);
            }
            // Spread over the text, so that a few batches speak for all of it.
            let place = index * self.source.batches() / count;
            self.source.fill(place, &mut self.batch)?;
            machine.prepare(plan);
            self.batch.feed(&self.layout, &mut machine.arena);
            feed_scalars(plan, &mut machine.arena, step, steps, seed);
            machine.run(&mut self.executor)?;
            self.lines.iter_mut().for_each(|line| line.add(machine));
        }
        let loss = self.lines.iter().map(|line| line.sums.0 / line.sums.1).sum::<f64>();
        let bits = |density: f64| loss * density / std::f64::consts::LN_2;
        Ok(Some(Validation { loss, bits_per_byte: self.density.map(bits) }))
    }
}
