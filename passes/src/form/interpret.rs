//! What a formed program means: every launch is interpreted, each value in memory of its own.
//!
//! Memory that nothing has written holds NaN. Comparing with the graph judges the forming of
//! kernels; comparing with the plan judges what places them.

use std::collections::HashMap;

use gigac_ir::graph::{Op, ValueId};
use gigac_ir::interpret::Bindings;
use gigac_ir::kernel::{Access, Arithmetic};

use super::{Formed, Launch, Loop, Segment, Stack, Unit};
use crate::outcome::{Outcome, describe};

impl Formed {
    /// The results, given states and inputs.
    ///
    /// # Panics
    /// When something that the program reads is not bound, or a kernel leaves its buffers: both
    /// are faults of the compiler.
    pub fn interpret(&self, bindings: &Bindings, arithmetic: Arithmetic) -> Vec<Outcome> {
        let scopes = vec![HashMap::new()];
        let mut machine = Machine { formed: self, arithmetic, scopes, turns: Vec::new() };
        machine.states(bindings);
        machine.units(&self.units);
        let graph = &self.graph;
        let outcome = |(role, value): (&gigac_ir::graph::Role, ValueId)| {
            let layout = &self.layouts[value.index()];
            let name = |a: &gigac_ir::graph::AxisId| graph.axes[a.index()].name.clone();
            Outcome {
                role: role.clone(),
                name: describe(role, |i| graph.params[i].name.clone()),
                axes: layout.iter().map(|a| (name(a), graph.size(*a))).collect(),
                data: machine.get(value).clone(),
            }
        };
        graph.results().map(outcome).collect()
    }
}

struct Machine<'f> {
    formed: &'f Formed,
    arithmetic: Arithmetic,
    /// Values of the program, then of the turns of the loops around the unit in hand.
    scopes: Vec<HashMap<ValueId, Vec<f64>>>,
    turns: Vec<u64>,
}

impl Machine<'_> {
    fn find(&self, value: ValueId) -> Option<&Vec<f64>> {
        self.scopes.iter().rev().find_map(|scope| scope.get(&value))
    }

    fn get(&self, value: ValueId) -> &Vec<f64> {
        self.find(value).unwrap_or_else(|| panic!("{value} is read before it is computed"))
    }

    fn put(&mut self, value: ValueId, data: Vec<f64>) {
        self.scopes.last_mut().expect("the program's scope is open").insert(value, data);
    }

    fn states(&mut self, bindings: &Bindings) {
        let graph = &self.formed.graph;
        for node in &graph.root.nodes {
            let Some(value) = node.results.first() else { continue };
            let data = match &node.op {
                Op::Param(param, slot) => bindings.state(graph, *param, *slot),
                Op::Input(input) => bindings.input(graph, *input),
                _ => continue,
            };
            let data = data.unwrap_or_else(|e| panic!("{e}"));
            self.put(*value, data);
        }
    }

    fn units(&mut self, units: &[Unit]) {
        for unit in units {
            match unit {
                Unit::Launch(_) | Unit::Together(_) => {
                    unit.launches().iter().for_each(|launch| self.launch(launch));
                }
                Unit::Repeat(inner) => self.repeat(inner),
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let kernel = &self.formed.kernels[launch.kernel];
        let mut arguments: Vec<Vec<f64>> = launch
            .arguments
            .iter()
            .zip(&kernel.buffers)
            .map(|(value, buffer)| match self.find(*value) {
                Some(data) => data.clone(),
                None => vec![f64::NAN; buffer.elements as usize],
            })
            .collect();
        let scalars: Vec<i64> =
            launch.turns.iter().map(|d| self.turns[*d as usize] as i64).collect();
        kernel
            .interpret(&mut arguments, &scalars, self.arithmetic)
            .unwrap_or_else(|e| panic!("`{}`: {e}", kernel.name));
        for ((value, buffer), data) in launch.arguments.iter().zip(&kernel.buffers).zip(arguments) {
            if buffer.access != Access::Read {
                self.put(*value, data);
            }
        }
    }

    fn repeat(&mut self, inner: &Loop) {
        let mut state: Vec<Vec<f64>> =
            inner.operands[..inner.carried].iter().map(|v| self.get(*v).clone()).collect();
        for segment in &inner.segments {
            // What an earlier loop kept for this one is there; what is not there is kept now.
            let (given, kept): (Vec<Stack>, Vec<Stack>) =
                segment.stacks.iter().partition(|s| self.find(s.whole).is_some());
            for turn in turns(segment, inner.reversed) {
                state = self.turn(inner, segment, (&given, &kept), turn, state);
            }
        }
        for (result, data) in inner.results.iter().zip(state) {
            self.put(*result, data);
        }
    }

    /// One turn; takes and gives the carried values.
    fn turn(
        &mut self,
        inner: &Loop,
        segment: &Segment,
        (given, kept): (&[Stack], &[Stack]),
        turn: u64,
        state: Vec<Vec<f64>>,
    ) -> Vec<Vec<f64>> {
        let count = self.formed.graph.size(inner.axis);
        let own = (turn - segment.turns.start, segment.turns.end - segment.turns.start);
        self.turns.push(turn);
        self.scopes.push(HashMap::new());
        for (argument, data) in segment.arguments[1..].iter().zip(state) {
            self.put(*argument, data);
        }
        let slices = segment.arguments[1..].iter().zip(&inner.operands).skip(inner.carried);
        for (part, whole) in slices {
            self.slice(*whole, *part, (turn, count));
        }
        for stack in given {
            self.slice(stack.whole, stack.slice, own);
        }
        self.units(&segment.body);
        let parts = segment.next.iter().zip(&inner.results).skip(inner.carried);
        for (part, whole) in parts {
            self.stack(*part, *whole, (turn, count));
        }
        for stack in kept {
            self.stack(stack.slice, stack.whole, own);
        }
        let next = segment.next[..inner.carried].iter().map(|v| self.get(*v).clone()).collect();
        self.scopes.pop();
        self.turns.pop();
        next
    }

    /// Takes one of `count` parts out of a whole.
    fn slice(&mut self, whole: ValueId, part: ValueId, (turn, count): (u64, u64)) {
        let whole = self.get(whole);
        let size = whole.len() / count as usize;
        let data = whole[turn as usize * size..][..size].to_vec();
        self.put(part, data);
    }

    /// Puts one of `count` parts into a whole outside the turn.
    fn stack(&mut self, part: ValueId, whole: ValueId, (turn, count): (u64, u64)) {
        let data = self.get(part).clone();
        let size = data.len();
        let nothing = || vec![f64::NAN; size * count as usize];
        let around = self.scopes.len() - 2;
        let whole = self.scopes[around].entry(whole).or_insert_with(nothing);
        whole[turn as usize * size..][..size].copy_from_slice(&data);
    }
}

fn turns(segment: &Segment, reversed: bool) -> Box<dyn Iterator<Item = u64>> {
    let turns = segment.turns.clone();
    if reversed { Box::new(turns.rev()) } else { Box::new(turns) }
}
