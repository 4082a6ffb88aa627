//! What a plan means: every launch is interpreted over one arena, beside that of the host.
//!
//! Both start as NaN, so that memory that is read before it is written shows.

use gigac_ir::graph::{Graph, Role};
use gigac_ir::interpret::Bindings;
use gigac_ir::kernel::{Access, Arithmetic, Storage};
use gigac_ir::plan::{Call, Command, Memory, Spot};

use super::Placed;
use crate::outcome::{Outcome, describe};

impl Placed {
    /// The results of one run, given the states and inputs of the graph that the plan was made of.
    ///
    /// # Panics
    /// When something that the plan reads is not bound, or a kernel leaves its buffers: both are
    /// faults of the compiler.
    pub fn interpret(
        &self,
        graph: &Graph,
        bindings: &Bindings,
        arithmetic: Arithmetic,
    ) -> Vec<Outcome> {
        let memory = vec![f64::NAN; self.plan.arena_bytes as usize];
        let host = vec![f64::NAN; self.plan.host_bytes as usize];
        let mut arena = Arena { placed: self, memory, host, arithmetic };
        for state in &self.plan.states {
            let param = gigac_ir::graph::ParamId(state.param);
            let data = bindings.state(graph, param, state.slot).unwrap_or_else(|e| panic!("{e}"));
            arena.put(state.offset, state.slot.dtype().storage().bytes(), &data);
        }
        for input in &self.plan.inputs {
            let index = graph.inputs.iter().position(|i| i.name == input.name);
            let index = index.expect("the inputs of a plan are those of its graph") as u32;
            let data = bindings.input(graph, gigac_ir::graph::InputId(index));
            let data = data.unwrap_or_else(|e| panic!("{e}"));
            arena.put(input.offset, input.storage.bytes(), &data);
        }
        self.plan.commands(|command| arena.run(command));
        self.outcomes(&graph.roles, |offset, storage, count| {
            arena.get(offset, storage.bytes(), count)
        })
    }

    /// The results of a run, read from its memory: `read` gives the elements at an offset.
    pub fn outcomes(
        &self,
        roles: &[Role],
        read: impl Fn(u64, Storage, u64) -> Vec<f64>,
    ) -> Vec<Outcome> {
        let plan = &self.plan;
        let outcome = |role: &Role| {
            let (axes, offset, storage) = match role {
                Role::Update(param, slot) => {
                    let state = plan.states.iter().find(|s| s.param == param.0 && s.slot == *slot);
                    let offset = state.expect("what is updated is a state").offset;
                    (&plan.params[param.index()].axes, offset, slot.dtype().storage())
                }
                role => {
                    let result = plan.result(role).expect("a plan has the results of its graph");
                    (&result.axes, result.offset, result.storage)
                }
            };
            let count = axes.iter().map(|(_, size)| size).product();
            Outcome {
                role: role.clone(),
                name: describe(role, |i| plan.params[i].name.clone()),
                axes: axes.clone(),
                data: read(offset, storage, count),
            }
        };
        roles.iter().map(outcome).collect()
    }
}

/// One f64 for each byte address; only the first of an element's bytes holds it.
struct Arena<'p> {
    placed: &'p Placed,
    memory: Vec<f64>,
    host: Vec<f64>,
    arithmetic: Arithmetic,
}

impl Arena<'_> {
    fn run(&mut self, command: Command) {
        match command {
            Command::Launch(calls) => calls.iter().for_each(|call| self.launch(call)),
            Command::Copy { from, to, bytes } => {
                let range = |at: u64| at as usize..(at + bytes) as usize;
                let data = self.of(from)[range(from.offset)].to_vec();
                self.of(to)[range(to.offset)].copy_from_slice(&data);
            }
        }
    }

    fn of(&mut self, spot: Spot) -> &mut [f64] {
        match spot.memory {
            Memory::Device => &mut self.memory,
            Memory::Host => &mut self.host,
        }
    }

    fn launch(&mut self, Call { kernel, buffers: at, scalars }: &Call) {
        let kernel = &self.placed.kernels[*kernel as usize];
        // Arguments at one address are one memory.
        let over: Vec<usize> =
            at.iter().map(|x| at.iter().position(|y| x == y).expect("itself")).collect();
        let places = || kernel.buffers.iter().zip(at);
        let mut arguments: Vec<Vec<f64>> =
            places().map(|(b, at)| self.get(*at, b.storage.bytes(), b.elements)).collect();
        let scalars: Vec<i64> = scalars.iter().map(|turn| *turn as i64).collect();
        kernel
            .interpret_over(&mut arguments, &over, &scalars, self.arithmetic)
            .unwrap_or_else(|e| panic!("`{}`: {e}", kernel.name));
        for ((buffer, at), over) in places().zip(&over) {
            if buffer.access != Access::Read {
                self.put(*at, buffer.storage.bytes(), &arguments[*over]);
            }
        }
    }

    fn put(&mut self, offset: u64, bytes: u64, data: &[f64]) {
        for (i, x) in data.iter().enumerate() {
            self.memory[(offset + i as u64 * bytes) as usize] = *x;
        }
    }

    fn get(&self, offset: u64, bytes: u64, count: u64) -> Vec<f64> {
        (0..count).map(|i| self.memory[(offset + i * bytes) as usize]).collect()
    }
}
