//! What runs plans: kernels, threads, and the arena that all plans of a program share.

use gigac_ir::plan::Plan;
use gigac_ir::program::Program;

use crate::data::batch::Layout;
use crate::data::prefetch;
use crate::error::{Error, Result};
use crate::exec::arena::Arena;
use crate::exec::code::Kernels;
use crate::exec::executor::Executor;
use crate::exec::memory;
use crate::exec::pool::Pool;
use crate::weights::initial;

/// Kernels, threads and memory.
pub struct Machine<'k> {
    kernels: &'k Kernels,
    /// Threads.
    pub pool: Pool,
    /// Memory.
    pub arena: Arena,
    /// Whether memory is watched.
    poison: bool,
}

impl<'k> Machine<'k> {
    /// Checks all plans and sets everything up for them.
    ///
    /// # Errors
    /// [`Error::Machine`] when the executable is damaged or the machine too small.
    pub fn new(
        program: &Program,
        kernels: &'k Kernels,
        threads: usize,
        poison: bool,
    ) -> Result<Self> {
        let Some(first) = program.phases.first() else {
            return Err(Error::Machine("the executable holds no plans".to_owned()));
        };
        for plan in program.plans() {
            gigac_ir::plan_verify::verify(plan).map_err(|e| {
                Error::Machine(format!("the executable is damaged: plan `{}`: {e}", plan.name))
            })?;
            if plan.states != first.step.states {
                return Err(Error::Machine(
                    "the executable's plans differ in their states".to_owned(),
                ));
            }
        }
        let batches = program.phases.iter().map(|p| Layout::new(&p.step).bytes()).max();
        memory::require(&[
            ("arena", program.arena_bytes()),
            ("offloaded", program.host_bytes()),
            ("batches", batches.unwrap_or(0).saturating_mul(prefetch::DEPTH as u64)),
            ("scratch", kernels.scratch_bytes().saturating_mul(threads as u64)),
        ])?;
        Ok(Self {
            kernels,
            pool: Pool::new(threads, kernels.scratch_bytes())?,
            arena: Arena::new(program.arena_bytes())?,
            poison,
        })
    }

    /// Binds a plan.
    ///
    /// # Errors
    /// [`Error::Machine`] when a kernel is missing.
    pub fn bind<'p>(&self, plan: &'p Plan) -> Result<Executor<'p>> {
        Executor::new(plan, self.kernels, self.arena.bytes())
    }

    /// Readies the memory outside the states for the inputs of a plan.
    pub fn prepare(&mut self, plan: &Plan) {
        if self.poison {
            self.arena.poison(initial::state_end(plan));
        }
    }

    /// Runs a plan.
    ///
    /// # Errors
    /// [`Error::Machine`] when memory is watched and the plan reads what nothing has written.
    pub fn run(&mut self, executor: &mut Executor<'_>) -> Result<()> {
        if self.poison {
            return executor.run_checked(&mut self.arena, &mut self.pool);
        }
        executor.run(&mut self.arena, &mut self.pool);
        Ok(())
    }

    /// A scalar result.
    pub fn scalar(&self, result: &gigac_ir::plan::PlanResult) -> f64 {
        use gigac_ir::kernel::Storage;
        match result.storage {
            Storage::F32 => self.arena.slice::<f32>(result.offset, 1)[0].into(),
            Storage::I32 => self.arena.slice::<i32>(result.offset, 1)[0].into(),
            Storage::Bool => self.arena.slice::<u8>(result.offset, 1)[0].into(),
            Storage::Bf16 => {
                half::bf16::from_bits(self.arena.slice::<u16>(result.offset, 1)[0]).into()
            }
        }
    }
}
