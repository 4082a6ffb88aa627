//! Rewrites a pair of loops so that its layers keep what they were told to.
//!
//! Layers that keep the same are one segment of both loops. A stack that all keep stays one stack;
//! one that some keep, or keep on the host, becomes a stack of each segment that does. In the reversed loop the makers
//! of what is not kept stand, cloned, just before the first unit that reads it: whole kernels, so
//! that every bit is the one that the forward loop made.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use gigac_ir::graph::ValueId;
use gigac_ir::plan::Memory;

use super::pair::{Pair, touches};
use super::problem::Kept;
use crate::form::{Formed, Launch, Loop, Segment, Stack, Unit};

/// Layers of a pair that keep the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub layers: u64,
    /// What they keep.
    pub kept: Kept,
    /// What of it they keep in the host's memory.
    pub host: Kept,
}

/// Rewrites a pair. The parts are all layers, in the order in which the forward loop runs them.
pub fn apply(formed: &mut Formed, pair: &Pair, parts: &[Part]) {
    let parts: Vec<&Part> = parts.iter().filter(|p| p.layers > 0).collect();
    assert_eq!(parts.iter().map(|p| p.layers).sum::<u64>(), pair.layers, "parts are all layers");
    let region = region(&mut formed.units, &pair.region);
    let [forward, reversed] = [pair.forward, pair.reversed].map(|i| loop_at(region, i).clone());
    let rewrite = Rewrite { pair, forward, reversed };
    let (forward, reversed) = rewrite.run(formed, &parts);
    let region = self::region(&mut formed.units, &pair.region);
    region[pair.forward] = Unit::Repeat(forward);
    region[pair.reversed] = Unit::Repeat(reversed);
}

fn region<'u>(units: &'u mut Vec<Unit>, path: &[usize]) -> &'u mut Vec<Unit> {
    path.iter().fold(units, |units, i| {
        let Unit::Repeat(inner) = &mut units[*i] else {
            unreachable!("a path leads through loops")
        };
        &mut inner.segments[0].body
    })
}

fn loop_at(units: &[Unit], at: usize) -> &Loop {
    let Unit::Repeat(inner) = &units[at] else { unreachable!("a pair is two loops") };
    inner
}

struct Rewrite<'p> {
    pair: &'p Pair,
    forward: Loop,
    reversed: Loop,
}

/// What both loops agree on for one part.
struct Shared {
    turns: Range<u64>,
    kept: Kept,
    host: Kept,
    /// The stack of this part alone that holds each value, where one does.
    wholes: Vec<Option<ValueId>>,
}

impl Shared {
    fn memory(&self, stack: usize) -> Memory {
        if self.host.has(stack) { Memory::Host } else { Memory::Device }
    }
}

impl Rewrite<'_> {
    fn run(&self, formed: &mut Formed, parts: &[&Part]) -> (Loop, Loop) {
        let count = self.pair.stacks.len();
        let common = Kept::only(count, |i| parts.iter().all(|p| p.kept.has(i) && !p.host.has(i)));
        let turns = turns(parts, self.forward.reversed);
        let mut shared = Vec::new();
        for (part, turns) in parts.iter().zip(turns) {
            let wholes = (0..count).map(|i| {
                let own = part.kept.has(i) && !common.has(i);
                own.then(|| fresh(formed, self.slice(i)))
            });
            let (kept, host) = (part.kept.clone(), part.host.clone());
            shared.push(Shared { turns, kept, host, wholes: wholes.collect() });
        }
        let forward = self.ahead(formed, &shared, &common);
        shared.reverse();
        let reversed = self.back(formed, &shared, &common);
        (forward, reversed)
    }

    /// The slice of a stack in the forward loop's body.
    fn slice(&self, stack: usize) -> ValueId {
        self.forward.segments[0].next[self.pair.stacks[stack].0]
    }

    fn ahead(&self, formed: &mut Formed, parts: &[Shared], common: &Kept) -> Loop {
        let mut forward = self.forward.clone();
        let original = &self.forward.segments[0];
        let leaves = |result: &usize| {
            let stack = self.pair.stacks.iter().position(|(r, _)| r == result);
            stack.is_none_or(|stack| common.has(stack))
        };
        let results: Vec<usize> = (0..forward.results.len()).filter(leaves).collect();
        forward.results = results.iter().map(|r| self.forward.results[*r]).collect();
        forward.segments = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let mut map = HashMap::new();
            let mut segment = copy(formed, original, i > 0, &mut map);
            let runs = self.pair.problem.forward(&part.kept);
            let units = std::mem::take(&mut segment.body).into_iter().zip(runs);
            segment.body = units.filter(|(_, runs)| *runs).map(|(unit, _)| unit).collect();
            segment.turns = part.turns.clone();
            segment.next = results.iter().map(|r| segment.next[*r]).collect();
            let here = |v: ValueId| map.get(&v).copied().unwrap_or(v);
            let stacks = part.wholes.iter().enumerate().filter_map(|(stack, whole)| {
                let (slice, memory) = (here(self.slice(stack)), part.memory(stack));
                Some(Stack { whole: (*whole)?, slice, memory })
            });
            segment.stacks = stacks.collect();
            forward.segments.push(segment);
        }
        forward
    }

    fn back(&self, formed: &mut Formed, parts: &[Shared], common: &Kept) -> Loop {
        let mut reversed = self.reversed.clone();
        let original = &self.reversed.segments[0];
        let (operands, missing) = self.operands(formed, parts, common);
        reversed.operands = operands.iter().map(|o| self.reversed.operands[*o]).collect();
        reversed.operands.extend(missing.iter().map(|i| self.forward.operands[*i]));
        reversed.segments = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let mut segment = copy(formed, original, i > 0, &mut HashMap::new());
            let all = segment.arguments.clone();
            segment.turns = part.turns.clone();
            segment.arguments = vec![all[0]];
            segment.arguments.extend(operands.iter().map(|o| all[1 + o]));
            let given = self.forward.segments[0].arguments[1..].to_vec();
            let slices: Vec<ValueId> = missing.iter().map(|i| fresh(formed, given[*i])).collect();
            segment.arguments.extend(&slices);
            let stacks = part.wholes.iter().enumerate().filter_map(|(stack, whole)| {
                let slice = all[1 + self.pair.stacks[stack].1];
                Some(Stack { whole: (*whole)?, slice, memory: part.memory(stack) })
            });
            segment.stacks = stacks.collect();
            let added = missing.iter().copied().zip(slices).collect();
            self.recompute(formed, &mut segment, part, (&all, &added));
            reversed.segments.push(segment);
        }
        reversed
    }

    /// Operands of the reversed loop that stay, and operands of the forward loop that clones read
    /// and the reversed loop has not.
    fn operands(
        &self,
        formed: &Formed,
        parts: &[Shared],
        common: &Kept,
    ) -> (Vec<usize>, Vec<usize>) {
        let stays = |operand: &usize| {
            let stack = self.pair.stacks.iter().position(|(_, o)| o == operand);
            stack.is_none_or(|stack| common.has(stack))
        };
        let operands = (0..self.reversed.operands.len()).filter(stays).collect();
        let ahead = &self.forward.segments[0];
        let mut read = BTreeSet::new();
        for part in parts {
            for maker in self.again(&part.kept) {
                read.extend(touches(formed, &ahead.body[maker]).0);
            }
        }
        let missing = (self.forward.carried..self.forward.operands.len()).filter(|i| {
            let known = self.reversed.operands[self.reversed.carried..]
                .contains(&self.forward.operands[*i]);
            read.contains(&ahead.arguments[1 + i]) && !known
        });
        (operands, missing.collect())
    }

    fn again(&self, kept: &Kept) -> Vec<usize> {
        self.pair.problem.again(kept).expect("a choice loses nothing")
    }

    /// Puts clones of makers before the first unit that reads what they make. `all` are the
    /// arguments that the segment had, `added` slices of operands of the forward loop.
    fn recompute(
        &self,
        formed: &mut Formed,
        segment: &mut Segment,
        part: &Shared,
        (all, added): (&[ValueId], &HashMap<usize, ValueId>),
    ) {
        let mut clones = self.clones(formed, &part.kept, all, added);
        let slot = |stack: usize| all[1 + self.pair.stacks[stack].1];
        let dropped: Vec<(usize, ValueId)> = (0..self.pair.stacks.len())
            .filter(|stack| !part.kept.has(*stack))
            .map(|stack| (stack, slot(stack)))
            .collect();
        let mut body = Vec::new();
        let mut put = |reads: &BTreeSet<ValueId>, body: &mut Vec<Unit>| {
            let wanted = dropped.iter().filter(|(_, value)| reads.contains(value));
            let mut makers: BTreeSet<usize> = BTreeSet::new();
            for (stack, _) in wanted {
                let found = self.pair.problem.again_for(&part.kept, *stack);
                makers.extend(found.expect("a choice loses nothing"));
            }
            // Each maker is cloned once; what it needs comes before it.
            body.extend(makers.iter().filter_map(|maker| clones.remove(maker)));
        };
        for unit in std::mem::take(&mut segment.body) {
            put(&touches(formed, &unit).0, &mut body);
            body.push(unit);
        }
        put(&segment.next.iter().copied().collect(), &mut body);
        segment.body = body;
    }

    /// The makers that run again, with the values of the reversed loop in place of those of the
    /// forward loop.
    fn clones(
        &self,
        formed: &mut Formed,
        kept: &Kept,
        all: &[ValueId],
        added: &HashMap<usize, ValueId>,
    ) -> HashMap<usize, Unit> {
        let ahead = &self.forward.segments[0];
        let mut map = HashMap::from([(ahead.arguments[0], all[0])]);
        for (i, operand) in self.forward.operands.iter().enumerate() {
            let argument = ahead.arguments[1 + i];
            if i < self.forward.carried {
                map.extend(self.pair.copies[i].map(|operand| (argument, all[1 + operand])));
                continue;
            }
            let known = self.reversed.operands[self.reversed.carried..]
                .iter()
                .position(|o| o == operand)
                .map(|o| all[1 + self.reversed.carried + o]);
            map.extend(known.or_else(|| added.get(&i).copied()).map(|v| (argument, v)));
        }
        // What the forward loop keeps for all layers without being asked.
        for (result, whole) in self.forward.results.iter().enumerate().skip(self.forward.carried) {
            let operand = self.reversed.operands.iter().position(|o| o == whole);
            map.extend(operand.map(|o| (ahead.next[result], all[1 + o])));
        }
        let mut clones = HashMap::new();
        for maker in self.again(kept) {
            let unit = &ahead.body[maker];
            // A maker may also make what is kept: its clone writes that elsewhere.
            let mut own = map.clone();
            for value in touches(formed, unit).1 {
                let stack = (0..self.pair.stacks.len()).find(|i| self.slice(*i) == value);
                if stack.is_none_or(|stack| kept.has(stack)) {
                    let elsewhere = fresh(formed, value);
                    own.insert(value, elsewhere);
                    if stack.is_none() {
                        map.insert(value, elsewhere);
                    }
                }
            }
            clones.insert(maker, renamed(formed, unit, &mut own));
        }
        clones
    }
}

/// The turns of each part.
fn turns(parts: &[&Part], down: bool) -> Vec<Range<u64>> {
    let all: u64 = parts.iter().map(|p| p.layers).sum();
    let mut done = 0;
    let next = |part: &&Part| {
        let run = done..done + part.layers;
        done = run.end;
        if down { all - run.end..all - run.start } else { run }
    };
    parts.iter().map(next).collect()
}

/// A new value like another.
fn fresh(formed: &mut Formed, like: ValueId) -> ValueId {
    let info = formed.graph.values[like.index()].clone();
    let layout = formed.layouts[like.index()].clone();
    formed.graph.values.push(info);
    formed.layouts.push(layout);
    ValueId(formed.graph.values.len() as u32 - 1)
}

/// A segment, with values of its own when that is asked.
fn copy(
    formed: &mut Formed,
    segment: &Segment,
    own: bool,
    map: &mut HashMap<ValueId, ValueId>,
) -> Segment {
    if !own {
        return segment.clone();
    }
    for argument in &segment.arguments {
        let new = fresh(formed, *argument);
        map.insert(*argument, new);
    }
    let body = segment.body.iter().map(|unit| {
        for value in touches(formed, unit).1 {
            let new = fresh(formed, value);
            map.insert(value, new);
        }
        renamed(formed, unit, map)
    });
    let body = body.collect();
    let here = |values: &[ValueId]| -> Vec<ValueId> {
        values.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect()
    };
    let (arguments, next) = (here(&segment.arguments), here(&segment.next));
    Segment { turns: segment.turns.clone(), arguments, next, stacks: Vec::new(), body }
}

/// A unit with other values: those of the map, and new ones for what it defines inside.
fn renamed(formed: &mut Formed, unit: &Unit, map: &mut HashMap<ValueId, ValueId>) -> Unit {
    let here = |values: &[ValueId], map: &HashMap<ValueId, ValueId>| -> Vec<ValueId> {
        values.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect()
    };
    match unit {
        Unit::Launch(launch) => {
            let arguments = here(&launch.arguments, map);
            Unit::Launch(Launch { arguments, ..launch.clone() })
        }
        Unit::Together(launches) => {
            let with = |launch: &Launch| {
                let arguments = here(&launch.arguments, map);
                Launch { arguments, ..launch.clone() }
            };
            Unit::Together(launches.iter().map(with).collect())
        }
        Unit::Repeat(inner) => {
            let (operands, results) = (here(&inner.operands, map), here(&inner.results, map));
            let mut segments = Vec::new();
            for segment in &inner.segments {
                let mut own = map.clone();
                let mut new = copy(formed, segment, true, &mut own);
                let stack = |s: &Stack| Stack {
                    whole: map.get(&s.whole).copied().unwrap_or(s.whole),
                    slice: own.get(&s.slice).copied().unwrap_or(s.slice),
                    memory: s.memory,
                };
                new.stacks = segment.stacks.iter().map(stack).collect();
                segments.push(new);
            }
            Unit::Repeat(Loop { operands, results, segments, ..inner.clone() })
        }
    }
}
