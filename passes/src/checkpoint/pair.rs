//! Finds the loops whose stacks may be dropped, and states the problem of one of their layers.
//!
//! A **pair** is a forward loop and the reversed loop over the same axis, in the same region, that
//! reads stacks of it. A stack may be dropped when the reversed loop alone reads it.

use std::collections::{BTreeSet, HashMap};

use gigac_cost::target::Device;
use gigac_cost::time::{copy, time};
use gigac_cost::work::Work;
use gigac_ir::graph::{Node, Op, Region, ValueId};
use gigac_ir::kernel::Access;
use gigac_ir::plan::Memory;

use super::problem::{Maker, Need, Problem, Stack};
use crate::form::{Formed, Launch, Loop, Segment, Unit};

/// A forward loop and the reversed loop that reads its stacks.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Where the region is: positions of the loops that lead to it, outermost first.
    pub region: Vec<usize>,
    /// Position of the forward loop.
    pub forward: usize,
    /// Position of the reversed loop.
    pub reversed: usize,
    /// Number of layers.
    pub layers: u64,
    /// How often the pair runs in a step.
    pub runs: u64,
    /// For each stack of the problem: the result of the forward loop and the operand of the
    /// reversed loop.
    pub stacks: Vec<(usize, usize)>,
    /// For each carried value of the forward loop: the operand of the reversed loop that is a copy
    /// of it, when there is one.
    pub copies: Vec<Option<usize>>,
    /// One layer. Its makers are the units of the forward loop's body.
    pub problem: Problem,
}

/// All pairs of a program.
pub fn pairs(formed: &Formed, device: &Device) -> Vec<Pair> {
    let seconds = formed.kernels.iter().map(|k| time(&Work::of(k), device).seconds).collect();
    let mut definitions = HashMap::new();
    define(&formed.graph.root, &mut definitions);
    let mut uses = HashMap::new();
    count(&formed.units, &mut uses);
    for value in &formed.graph.root.results {
        *uses.entry(*value).or_default() += 1;
    }
    let mut find = Find { formed, device, seconds, definitions, uses, found: Vec::new() };
    find.region(&formed.units, &mut Vec::new(), 1);
    find.found
}

/// The node of every value, and what every argument of a body is a slice of.
fn define<'g>(region: &'g Region, found: &mut HashMap<ValueId, Definition<'g>>) {
    for node in &region.nodes {
        found.extend(node.results.iter().map(|r| (*r, Definition::Node(node))));
        if let Some(body) = &node.region {
            let slices = body.args[1..].iter().zip(&node.operands);
            found.extend(slices.map(|(arg, whole)| (*arg, Definition::Slice(*whole))));
            define(body, found);
        }
    }
}

enum Definition<'g> {
    Node(&'g Node),
    Slice(ValueId),
}

/// How often every value is read.
fn count(units: &[Unit], uses: &mut HashMap<ValueId, usize>) {
    fn add(values: &[ValueId], uses: &mut HashMap<ValueId, usize>) {
        values.iter().for_each(|v| *uses.entry(*v).or_default() += 1);
    }
    for unit in units {
        match unit {
            Unit::Launch(_) | Unit::Together(_) => {
                unit.launches().iter().for_each(|launch| add(&launch.arguments, uses));
            }
            Unit::Repeat(inner) => {
                add(&inner.operands, uses);
                for segment in &inner.segments {
                    add(&segment.next, uses);
                    count(&segment.body, uses);
                }
            }
        }
    }
}

/// What a unit reads from outside itself, and what it makes.
pub(crate) fn touches(formed: &Formed, unit: &Unit) -> (BTreeSet<ValueId>, Vec<ValueId>) {
    match unit {
        Unit::Launch(_) | Unit::Together(_) => {
            let all = unit.launches().iter().flat_map(|launch| arguments(formed, launch));
            let (made, read): (Vec<_>, Vec<_>) =
                all.partition(|(_, access)| *access != Access::Read);
            let values = |list: Vec<(ValueId, Access)>| list.into_iter().map(|(v, _)| v);
            (values(read).collect(), values(made).collect())
        }
        Unit::Repeat(inner) => {
            let mut read: BTreeSet<ValueId> = inner.operands.iter().copied().collect();
            for segment in &inner.segments {
                let mut own: BTreeSet<ValueId> = segment.arguments.iter().copied().collect();
                own.extend(segment.stacks.iter().map(|s| s.slice));
                read.extend(segment.stacks.iter().map(|s| s.whole));
                let mut inside: BTreeSet<ValueId> = segment.next.iter().copied().collect();
                for unit in &segment.body {
                    let (reads, makes) = touches(formed, unit);
                    inside.extend(reads);
                    own.extend(makes);
                }
                read.extend(inside.difference(&own));
            }
            let made = inner.segments.iter().flat_map(|s| s.stacks.iter().map(|s| s.whole));
            (read, inner.results.iter().copied().chain(made).collect())
        }
    }
}

/// The values behind a launch's buffers, with what the kernel does with them.
pub(super) fn arguments<'f>(
    formed: &'f Formed,
    launch: &'f Launch,
) -> impl Iterator<Item = (ValueId, Access)> + 'f {
    let buffers = formed.kernels[launch.kernel].buffers.iter();
    let passed = buffers.filter(|b| b.access != Access::Local);
    launch.arguments.iter().zip(passed).map(|(value, buffer)| (*value, buffer.access))
}

struct Find<'f> {
    formed: &'f Formed,
    device: &'f Device,
    /// By kernel.
    seconds: Vec<f64>,
    definitions: HashMap<ValueId, Definition<'f>>,
    uses: HashMap<ValueId, usize>,
    found: Vec<Pair>,
}

impl Find<'_> {
    fn region(&mut self, units: &[Unit], path: &mut Vec<usize>, runs: u64) {
        let mut taken = BTreeSet::new();
        for (i, unit) in units.iter().enumerate() {
            let Unit::Repeat(forward) = unit else { continue };
            for (j, unit) in units.iter().enumerate().skip(i + 1) {
                let Unit::Repeat(reversed) = unit else { continue };
                if taken.contains(&i) || taken.contains(&j) {
                    continue;
                }
                if let Some(mut pair) = self.pair(forward, reversed) {
                    (pair.region, pair.forward, pair.reversed) = (path.clone(), i, j);
                    pair.runs = runs;
                    self.found.push(pair);
                    taken.extend([i, j]);
                }
            }
            // Inside the loops of a pair everything is settled by the pair.
            if taken.contains(&i) {
                continue;
            }
            path.push(i);
            if let [segment] = &forward.segments[..] {
                let turns = segment.turns.end - segment.turns.start;
                self.region(&segment.body, path, runs * turns);
            }
            path.pop();
        }
    }

    /// The pair of two loops, but for where they stand; none when they share no stack that may be
    /// dropped.
    fn pair(&self, forward: &Loop, reversed: &Loop) -> Option<Pair> {
        let ([ahead], [back]) = (&forward.segments[..], &reversed.segments[..]) else {
            return None;
        };
        if forward.axis != reversed.axis || forward.reversed == reversed.reversed {
            return None;
        }
        let made: HashMap<ValueId, usize> = ahead
            .body
            .iter()
            .enumerate()
            .flat_map(|(i, unit)| touches(self.formed, unit).1.into_iter().map(move |v| (v, i)))
            .collect();
        let shared: Vec<(usize, usize)> = (forward.carried..forward.results.len())
            .filter_map(|result| {
                let stack = forward.results[result];
                let operands = reversed.operands.iter().skip(reversed.carried);
                let operand = operands.into_iter().position(|o| *o == stack)? + reversed.carried;
                Some((result, operand))
            })
            .collect();
        let may_go = |(result, _): &(usize, usize)| {
            self.uses.get(&forward.results[*result]) == Some(&1)
                && made.contains_key(&ahead.next[*result])
        };
        let stacks: Vec<(usize, usize)> = shared.iter().copied().filter(may_go).collect();
        let copies = (0..forward.carried)
            .map(|i| {
                let carried = ahead.arguments[1 + i];
                let copy = shared.iter().find(|(r, _)| self.copies(ahead.next[*r], carried));
                copy.map(|(_, operand)| *operand)
            })
            .collect();
        let mut pair = Pair {
            region: Vec::new(),
            forward: 0,
            reversed: 0,
            layers: back.turns.end - back.turns.start,
            runs: 1,
            stacks,
            copies,
            problem: Problem::default(),
        };
        pair.problem = self.problem(&pair, &shared, &made, (forward, ahead));
        pair.problem.back = back.body.iter().map(|unit| self.seconds(unit)).sum();
        let fixed = pair.problem.fixed();
        (0..pair.stacks.len()).any(|i| !fixed.has(i)).then_some(pair)
    }

    /// Whether a value is a copy of another that lies in the same order.
    fn copies(&self, copy: ValueId, of: ValueId) -> bool {
        let is_copy = match self.definitions.get(&copy) {
            Some(Definition::Node(node)) => match &node.op {
                Op::Broadcast { axes } => axes.is_empty() && node.operands[0] == of,
                _ => false,
            },
            _ => false,
        };
        let layouts = &self.formed.layouts;
        is_copy && layouts[copy.index()] == layouts[of.index()]
    }

    fn problem(
        &self,
        pair: &Pair,
        shared: &[(usize, usize)],
        made: &HashMap<ValueId, usize>,
        (forward, ahead): (&Loop, &Segment),
    ) -> Problem {
        let stack_of: HashMap<ValueId, usize> =
            pair.stacks.iter().enumerate().map(|(i, (r, _))| (ahead.next[*r], i)).collect();
        let at_hand: BTreeSet<ValueId> = shared.iter().map(|(r, _)| ahead.next[*r]).collect();
        let operand_of = |operand: usize| pair.stacks.iter().position(|(_, o)| *o == operand);
        let carried = &ahead.arguments[1..=forward.carried];
        let need = |value: &ValueId| -> Option<Need> {
            if let Some(i) = carried.iter().position(|c| c == value) {
                return match pair.copies[i] {
                    Some(operand) => operand_of(operand).map(Need::Copy),
                    None => Some(Need::Lost),
                };
            }
            if let Some(stack) = stack_of.get(value) {
                return Some(Need::Stack(*stack));
            }
            let maker = made.get(value).filter(|_| !at_hand.contains(value));
            maker.map(|maker| Need::Maker(*maker))
        };
        let dropped: BTreeSet<usize> = pair.stacks.iter().map(|(r, _)| *r).collect();
        let results = (0..forward.results.len()).filter(|r| !dropped.contains(r));
        let wanted: BTreeSet<ValueId> = results.map(|r| ahead.next[r]).collect();
        let makers = ahead.body.iter().map(|unit| {
            let (reads, makes) = touches(self.formed, unit);
            Maker {
                seconds: self.seconds(unit),
                needs: reads.iter().filter_map(need).collect(),
                reads: reads.iter().filter_map(|v| made.get(v).copied()).collect(),
                wanted: makes.iter().any(|v| wanted.contains(v)),
            }
        });
        let stacks = pair.stacks.iter().map(|(result, _)| {
            let slice = ahead.next[*result];
            let ty = self.formed.graph.ty(slice);
            let bytes = self.formed.graph.elements(&ty.axes) * ty.dtype.storage().bytes();
            let copy = copy(bytes, Memory::Device, Memory::Host, self.device);
            Stack { name: self.name(slice), bytes, maker: made[&slice], copy }
        });
        Problem {
            makers: makers.collect(),
            stacks: stacks.collect(),
            back: 0.0,
            beside: self.device.copies_beside(),
        }
    }

    fn seconds(&self, unit: &Unit) -> f64 {
        match unit {
            Unit::Launch(_) | Unit::Together(_) => {
                unit.launches().iter().map(|launch| self.seconds[launch.kernel]).sum()
            }
            Unit::Repeat(inner) => {
                let segment = |s: &Segment| {
                    let turns = (s.turns.end - s.turns.start) as f64;
                    turns * s.body.iter().map(|u| self.seconds(u)).sum::<f64>()
                };
                inner.segments.iter().map(segment).sum()
            }
        }
    }

    /// A value in the words of the model: its name, or the operation with the names of what it
    /// works on.
    fn name(&self, value: ValueId) -> String {
        self.short(value).unwrap_or_else(|| match self.definitions.get(&value) {
            // What is rounded or laid out otherwise is still the same thing.
            Some(Definition::Node(node)) if keeps(&node.op) => self.name(node.operands[0]),
            Some(Definition::Node(node)) => {
                let operands = node.operands.iter().map(|v| self.short(*v).unwrap_or("…".into()));
                let name = gigac_ir::ops::def(&node.op).name;
                format!("{name}({})", operands.collect::<Vec<_>>().join(", "))
            }
            // The body is given it.
            Some(Definition::Slice(_)) | None => "input of the layer".to_owned(),
        })
    }

    fn short(&self, value: ValueId) -> Option<String> {
        let info = &self.formed.graph.values[value.index()];
        info.name.clone().or_else(|| match self.definitions.get(&value)? {
            Definition::Slice(whole) => self.short(*whole),
            Definition::Node(node) => match &node.op {
                Op::Param(param, _) => Some(self.formed.graph.params[param.index()].name.clone()),
                op if keeps(op) => self.short(node.operands[0]),
                _ => None,
            },
        })
    }
}

/// Whether an operation changes nothing but the layout or the width of numbers.
fn keeps(op: &Op) -> bool {
    match op {
        Op::Broadcast { axes } => axes.is_empty(),
        Op::Rename { .. } | Op::Split { .. } | Op::Merge { .. } | Op::Cast(_) => true,
        _ => false,
    }
}
