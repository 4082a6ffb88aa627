//! The loop over steps.

use std::ops::Range;
use std::time::Instant;

use gigac_ir::graph::Role;
use gigac_ir::plan::{Plan, PlanResult};
use gigac_ir::program::{Program, ProgramPhase};
use gigac_ir::train::OnNan;
use serde_json::json;

use super::corpus::Corpus;
use super::evaluate::Evaluator;
use super::length::Length;
use super::machine::Machine;
use super::outputs::{Logits, dump_logits};
use super::{Options, note, sample, signals};
use crate::checkpoint::{self, Position};
use crate::console::say;
use crate::data::batch::{Batch, Layout, feed_scalars};
use crate::data::prefetch::Prefetch;
use crate::error::{Error, Result};
use crate::exec::allocations;
use crate::exec::executor::Executor;
use crate::metrics::{Record, Validation, Writer};
use crate::weights::transfer;

/// Reads the scalar results of a step: the one place where the host looks at the arena.
pub struct Readback<'p> {
    loss: Option<&'p PlanResult>,
    grad_norm: Option<&'p PlanResult>,
    lr: Option<&'p PlanResult>,
    nan_gradients: Option<&'p PlanResult>,
    metrics: Vec<&'p PlanResult>,
}

impl<'p> Readback<'p> {
    /// The scalar results of a plan.
    pub fn new(plan: &'p Plan) -> Self {
        let is_metric = |r: &&PlanResult| matches!(r.role, Role::Metric(_)) && r.axes.is_empty();
        Self {
            loss: plan.result(&Role::Loss),
            grad_norm: plan.result(&Role::GradNorm),
            lr: plan.result(&Role::LearningRate),
            nan_gradients: plan.result(&Role::NanGradients),
            metrics: plan.results.iter().filter(is_metric).collect(),
        }
    }

    /// Names of the model's own metrics, in the order they are read.
    pub fn names(plan: &Plan) -> Vec<String> {
        let name = |r: &&PlanResult| match &r.role {
            Role::Metric(name) => name.clone(),
            _ => String::new(),
        };
        Readback::new(plan).metrics.iter().map(name).collect()
    }

    /// The loss of the step just run.
    pub fn loss(&self, machine: &Machine<'_>) -> f64 {
        self.loss.map_or(f64::NAN, |r| machine.scalar(r))
    }

    /// Copies the results of the step just run.
    fn read(&self, machine: &Machine<'_>, record: &mut Record) {
        let scalar = |r: Option<&PlanResult>| r.map_or(0.0, |r| machine.scalar(r));
        record.loss = scalar(self.loss);
        record.grad_norm = scalar(self.grad_norm);
        record.lr = scalar(self.lr);
        record.nan_gradients = scalar(self.nan_gradients);
        record.metrics.clear();
        record.metrics.extend(self.metrics.iter().map(|r| machine.scalar(r)));
        record.host_syncs = 1;
    }
}

/// A run under way.
pub(super) struct Run<'r> {
    pub(super) program: &'r Program,
    pub(super) options: &'r Options,
    pub(super) corpus: &'r Corpus,
    pub(super) length: &'r Length,
    pub(super) position: Position,
    /// Operations per second that the machine can do.
    pub(super) peak: f64,
    pub(super) writer: Writer,
    /// Steps that a whole checkpoint holds.
    pub(super) saved: Option<u64>,
    /// Loss of the last step.
    pub(super) loss: Option<f64>,
}

/// Batches of held-out text that count at the end, so that a large corpus does not delay it.
const FINAL_BATCHES: u64 = 1024;

/// What the steps of one phase share.
struct Stage<'p> {
    phase: &'p ProgramPhase,
    layout: Layout,
    executor: Executor<'p>,
    readback: Readback<'p>,
    prefetch: Prefetch,
    evaluator: Option<Evaluator<'p>>,
}

impl<'r> Run<'r> {
    /// Runs all steps that are left.
    pub(super) fn phases(&mut self, machine: &mut Machine<'_>) -> Result<()> {
        signals::check(self.position.steps, self.saved.is_some())?;
        let program = self.program;
        for (index, range) in self.length.phases.iter().enumerate() {
            let left = range.start.max(self.position.steps)..range.end;
            if left.is_empty() {
                continue;
            }
            let mut stage = self.stage(machine, index, range, left.clone())?;
            if left.start == 0 {
                note(self.options, &describe(program, &program.phases[index], self.length.steps));
            }
            for _ in left {
                self.step(machine, &mut stage)?;
            }
        }
        Ok(())
    }

    fn stage(
        &self,
        machine: &Machine<'_>,
        index: usize,
        range: &Range<u64>,
        left: Range<u64>,
    ) -> Result<Stage<'r>> {
        let phase = &self.program.phases[index];
        let layout = Layout::new(&phase.step);
        let source = self.corpus.source(&layout, self.position.seed, index as u32, range.start)?;
        let wanted = self.options.validate_every.is_some();
        let text = self.corpus.held_out.as_ref().filter(|_| wanted);
        let evaluator =
            text.map(|text| Evaluator::new(machine, phase, text)).transpose()?.flatten();
        if wanted && evaluator.is_none() {
            return Err(Error::Usage(
                "--validate-every: there is too little held-out text".to_owned(),
            ));
        }
        Ok(Stage {
            executor: machine.bind(&phase.step)?,
            readback: Readback::new(&phase.step),
            prefetch: Prefetch::start(source, &layout, left)?,
            evaluator,
            layout,
            phase,
        })
    }

    /// The step, steps and seed that plans are fed.
    fn at(&self) -> (u64, u64, u32) {
        (self.position.steps, self.length.steps, self.position.seed)
    }

    fn step(&mut self, machine: &mut Machine<'_>, stage: &mut Stage<'_>) -> Result<()> {
        let first = self.options.dump_logits.is_some() || self.options.dump_grads.is_some();
        let mut record = if first && self.position.steps == 0 {
            self.first_step(machine, stage)?
        } else {
            self.timed_step(machine, stage, None)?
        };
        self.position.steps += 1;
        self.position.tokens += record.step_tokens;
        record.tokens = self.position.tokens;
        let done = self.position.steps;
        let due = self.options.validate_every.is_some_and(|every| done.is_multiple_of(every));
        record.validation = match &mut stage.evaluator {
            Some(evaluator) if due => {
                evaluator.run(machine, self.options.validate_batches, self.at())?
            }
            _ => None,
        };
        let bad = record.nan_gradients as u64;
        self.loss = Some(record.loss);
        self.writer.send(record)?;
        if bad > 0 && stage.phase.settings.on_nan == OnNan::Halt {
            let saved = self.checkpoint(machine)?;
            return Err(Error::Halted { step: done - 1, count: bad, saved });
        }
        if signals::asked_to_stop() {
            let saved = self.checkpoint(machine)?;
            return Err(Error::Interrupted { steps: done, saved });
        }
        let due = self.options.save_every.is_some_and(|every| done.is_multiple_of(every));
        if due && done < self.length.steps {
            self.checkpoint(machine)?;
        }
        Ok(())
    }

    /// The first step, with what the flags want written of it.
    fn first_step(&mut self, machine: &mut Machine<'_>, stage: &mut Stage<'_>) -> Result<Record> {
        let (batch, _) = stage.prefetch.take()?;
        if let Some(path) = &self.options.dump_logits {
            let Some(mut logits) = Logits::new(machine, stage.phase)? else {
                let what = "--dump-logits: the model has no output `logits` over batch, time and vocabulary";
                return Err(Error::Usage(what.to_owned()));
            };
            dump_logits(path, &mut logits, machine, (&stage.layout, &batch), self.at())?;
        }
        let record = self.timed_step(machine, stage, Some(batch))?;
        if let Some(path) = &self.options.dump_grads {
            transfer::dump_gradients(path, &stage.phase.step, &machine.arena)?;
        }
        Ok(record)
    }

    /// One step with its clock and counters; allocates nothing.
    fn timed_step(
        &mut self,
        machine: &mut Machine<'_>,
        stage: &mut Stage<'_>,
        batch: Option<Batch>,
    ) -> Result<Record> {
        let (started, allocated) = (Instant::now(), allocations::count());
        allocations::watch_thread(true);
        let (batch, data_wait) = match batch {
            Some(batch) => (batch, false),
            None => stage.prefetch.take()?,
        };
        let plan = &stage.phase.step;
        machine.prepare(plan);
        batch.feed(&stage.layout, &mut machine.arena);
        stage.prefetch.recycle(batch);
        feed_scalars(
            plan,
            &mut machine.arena,
            self.position.steps,
            self.length.steps,
            self.position.seed,
        );
        machine.run(&mut stage.executor)?;
        let (mut record, slot_wait) = self.writer.slot()?;
        stage.readback.read(machine, &mut record);
        allocations::watch_thread(false);
        record.step = self.position.steps;
        record.step_tokens = stage.phase.tokens_per_step;
        record.seconds = started.elapsed().as_secs_f64();
        let flops = stage.phase.model_flops_per_token * record.tokens_per_second();
        record.utilisation = flops / self.peak;
        record.ring_waits = u64::from(data_wait) + u64::from(slot_wait);
        record.allocations = allocations::count() - allocated;
        Ok(record)
    }

    /// Writes a checkpoint of the steps done; false when the run has no directory.
    pub(super) fn checkpoint(&mut self, machine: &Machine<'_>) -> Result<bool> {
        let Some(run) = &self.options.out else { return Ok(false) };
        if self.saved == Some(self.position.steps) {
            return Ok(true);
        }
        // The lines of all steps done are on disk before the checkpoint that claims them.
        self.writer.flush()?;
        let plan = &self.program.phases[0].step;
        let position = self.position.clone();
        checkpoint::save(run, &self.program.model, plan, &machine.arena, position)?;
        self.saved = Some(self.position.steps);
        Ok(true)
    }

    /// The phase of the last step.
    fn last_phase(&self) -> &'r ProgramPhase {
        let last = self.length.phases.iter().rposition(|r| !r.is_empty()).unwrap_or(0);
        &self.program.phases[last]
    }

    /// The loss on held-out text, when there is enough of it.
    pub(super) fn held_out(&mut self, machine: &mut Machine<'_>) -> Result<Option<Validation>> {
        let Some(text) = &self.corpus.held_out else { return Ok(None) };
        let evaluator = Evaluator::new(machine, self.last_phase(), text)?;
        let Some(mut evaluator) = evaluator else { return Ok(None) };
        let held = evaluator.run(machine, FINAL_BATCHES, self.at())?;
        signals::check(self.position.steps, self.saved.is_some())?;
        let Some(held) = held else { return Ok(None) };
        note(self.options, &format!("held-out loss {:.4}", held.loss));
        if let Some(bits) = held.bits_per_byte {
            note(self.options, &format!("bits per byte on held-out text: {bits:.3}"));
        }
        Ok(Some(held))
    }

    /// Prints what the model makes of held-out text.
    pub(super) fn samples(&mut self, machine: &mut Machine<'_>) -> Result<()> {
        let Some(text) = &self.corpus.held_out else { return Ok(()) };
        let Some(mut logits) = Logits::new(machine, self.last_phase())? else { return Ok(()) };
        let draw = sample::Draw {
            tokens: self.options.sample_tokens,
            temperature: self.options.temperature,
            at: self.at(),
        };
        if draw.tokens == 0 {
            return Ok(());
        }
        let samples = sample::samples(machine, &mut logits, text, draw)?;
        signals::check(self.position.steps, self.saved.is_some())?;
        for sample in samples {
            let prompt = self.corpus.vocabulary.decode(&sample.prompt);
            let continuation = self.corpus.vocabulary.decode(&sample.continuation);
            say(format_args!("\n--- prompt: {prompt}\n--- model:  {continuation}"));
        }
        Ok(())
    }

    /// What a finished run has to say, for machines.
    pub(super) fn summary(&self, held: Option<Validation>) -> serde_json::Value {
        json!({
            "model": self.program.model,
            "parameters": self.program.parameters,
            "steps": self.position.steps,
            "tokens": self.position.tokens,
            "loss": self.loss,
            "held_out_loss": held.map(|h| h.loss),
            "bits_per_byte": held.and_then(|h| h.bits_per_byte),
            "out": self.options.out,
        })
    }
}

/// A line about what is trained.
fn describe(program: &Program, phase: &ProgramPhase, steps: u64) -> String {
    format!(
        "{}: {} parameters, {} tokens per step{}, {steps} steps",
        program.model,
        program.parameters,
        phase.tokens_per_step,
        match phase.micro_batches {
            0 | 1 => String::new(),
            n => format!(" in {n} micro-batches"),
        }
    )
}
