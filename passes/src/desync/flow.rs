//! Where something goes: the bytes that are computed from it.
//!
//! Launches pass it on from what they read to what they write. A launch that makes the thing itself
//! passes it on to those of its results whose value depends on it. Bytes of a buffer forget when the
//! buffer's life ends. Loops are walked until nothing changes.

use std::collections::BTreeSet;

use gigac_ir::graph::{Feed, Role};
use gigac_ir::kernel::{Access, Expr, Kernel, Stmt, TileId};
use gigac_ir::plan::{Address, BEGINNING, Item, Part, Plan};

use crate::place::Placed;

/// Bytes from the first up to the second.
type Range = (u64, u64);

/// The bytes that something has reached when the plan ends.
pub(super) struct Flow {
    ranges: BTreeSet<Range>,
}

impl Flow {
    /// Of the inputs with a feed.
    pub(super) fn of_input(placed: &Placed, feed: &Feed) -> Self {
        let inputs = placed.plan.inputs.iter().filter(|i| i.feed == *feed).map(|i| {
            let elements: u64 = i.axes.iter().map(|(_, size)| size).product();
            (i.offset, i.offset + elements * i.storage.bytes())
        });
        Self::run(placed, inputs.collect(), None)
    }

    /// Of a scalar result.
    pub(super) fn of_result(placed: &Placed, role: &Role) -> Self {
        let range = placed.plan.result(role).map(|r| (r.offset, r.offset + r.storage.bytes()));
        // Other values may have lain there before: the last one is the result.
        let source = range.and_then(|range| {
            let mut last = None;
            last_write(&placed.plan, &placed.plan.items, range, &mut { BEGINNING }, &mut last);
            Some((last?, range))
        });
        Self::run(placed, BTreeSet::new(), source)
    }

    /// Whether some of these bytes were reached.
    pub(super) fn reaches(&self, from: u64, to: u64) -> bool {
        meets(&self.ranges, (from, to))
    }

    fn run(placed: &Placed, ranges: BTreeSet<Range>, source: Option<(u32, Range)>) -> Self {
        let mut walk = Walk { placed, source, ranges, turns: Vec::new(), position: BEGINNING };
        walk.items(&placed.plan.items);
        Self { ranges: walk.ranges }
    }
}

/// All that items of a plan write.
pub(super) fn written(placed: &Placed) -> BTreeSet<Range> {
    let mut found = BTreeSet::new();
    collect(&placed.plan, &placed.plan.items, &mut Vec::new(), &mut found);
    found
}

fn collect(plan: &Plan, items: &[Item], turns: &mut Vec<Range>, found: &mut BTreeSet<Range>) {
    for item in items {
        match item {
            Item::Launch { parts, .. } => {
                let accesses = parts.iter().flat_map(|part| plan.accesses(part));
                for (address, bytes, _) in accesses.filter(|(.., writes)| *writes) {
                    found.insert(reach(address, bytes, turns));
                }
            }
            Item::Copy { to, bytes, .. } => {
                found.insert(reach(&plan.flat_end(to), *bytes, turns));
            }
            Item::Loop { first, count, body, .. } => {
                turns.push((*first, first + count.saturating_sub(1)));
                collect(plan, body, turns, found);
                turns.pop();
            }
        }
    }
}

/// The position of the last launch that writes a scalar at a fixed address.
fn last_write(
    plan: &Plan,
    items: &[Item],
    range: Range,
    position: &mut u32,
    found: &mut Option<u32>,
) {
    for item in items {
        *position += 1;
        match item {
            Item::Launch { parts, .. } => {
                let mut accesses = parts.iter().flat_map(|part| plan.accesses(part));
                let written = accesses.any(|(address, bytes, writes)| {
                    let fixed = address.turns.is_empty() && writes;
                    fixed && overlap(range, (address.base, address.base + bytes))
                });
                if written {
                    *found = Some(*position);
                }
            }
            Item::Copy { .. } => {}
            Item::Loop { body, .. } => {
                last_write(plan, body, range, position, found);
                *position += 1;
            }
        }
    }
}

struct Walk<'p> {
    placed: &'p Placed,
    /// The position where the thing is made, and the bytes that it is.
    source: Option<(u32, Range)>,
    ranges: BTreeSet<Range>,
    /// Lowest and highest turns of the loops around.
    turns: Vec<Range>,
    position: u32,
}

impl Walk<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            self.position += 1;
            match item {
                Item::Launch { parts, .. } => parts.iter().for_each(|part| self.launch(part)),
                Item::Copy { from, to, bytes, .. } => {
                    let plan = &self.placed.plan;
                    let [from, to] = [from, to].map(|end| plan.flat_end(end));
                    if meets(&self.ranges, reach(&from, *bytes, &self.turns)) {
                        self.ranges.insert(reach(&to, *bytes, &self.turns));
                    }
                }
                Item::Loop { first, count, body, .. } => {
                    let begin = self.position;
                    self.turns.push((*first, first + count.saturating_sub(1)));
                    loop {
                        let before = self.ranges.clone();
                        self.position = begin;
                        self.items(body);
                        let all = &self.ranges | &before;
                        let settled = all == before;
                        self.ranges = all;
                        if settled {
                            break;
                        }
                    }
                    self.turns.pop();
                    self.position += 1;
                }
            }
            self.forget();
        }
    }

    fn launch(&mut self, Part { kernel, buffers, .. }: &Part) {
        let kernel = *kernel as usize;
        let tiles = &self.placed.kernels[kernel];
        let arguments = &self.placed.plan.kernels[kernel].arguments;
        let place = |i: usize| reach(&buffers[i], arguments[i].bytes, &self.turns);
        let reads = |i: &usize| arguments[*i].access != Access::Write;
        let whole = (0..buffers.len()).filter(reads).any(|i| meets(&self.ranges, place(i)));
        let makes = |i: &usize| {
            let made = arguments[*i].access != Access::Read;
            let here =
                |(at, source): (u32, Range)| at == self.position && overlap(source, place(*i));
            made && self.source.is_some_and(here)
        };
        let mut reached: Vec<Range> = Vec::new();
        let from = (0..buffers.len()).find(makes);
        let passes = from.map(|from| dependents(tiles, from as u32));
        for i in (0..buffers.len()).filter(|i| arguments[*i].access != Access::Read) {
            if whole || passes.as_ref().is_some_and(|passes| passes.contains(&(i as u32))) {
                reached.push(place(i));
            }
        }
        self.ranges.extend(reached);
    }

    fn forget(&mut self) {
        for buffer in self.placed.plan.buffers.iter().filter(|b| b.live.1 == self.position) {
            if !buffer.category.is_state() {
                let offset = self.placed.plan.flat(buffer.category.memory(), buffer.offset);
                let dead = (offset, offset + buffer.bytes);
                self.ranges.retain(|range| !overlap(*range, dead));
            }
        }
    }
}

/// The buffers that a kernel stores what depends on the values stored in one of them to.
fn dependents(kernel: &Kernel, buffer: u32) -> BTreeSet<u32> {
    let mut stores = Vec::new();
    let mut edges = Vec::new();
    statements(&kernel.body, &mut stores, &mut edges);
    let mut reached: BTreeSet<TileId> =
        stores.iter().filter(|(b, _)| *b == buffer).map(|(_, value)| *value).collect();
    loop {
        let more: Vec<TileId> = edges
            .iter()
            .filter(|(from, to)| reached.contains(from) && !reached.contains(to))
            .map(|(_, to)| *to)
            .collect();
        if more.is_empty() {
            break;
        }
        reached.extend(more);
    }
    stores.iter().filter(|(_, value)| reached.contains(value)).map(|(b, _)| *b).collect()
}

/// Stores with their values, and pairs of values of which the second is computed from the first.
fn statements(body: &[Stmt], stores: &mut Vec<(u32, TileId)>, edges: &mut Vec<(TileId, TileId)>) {
    for stmt in body {
        match stmt {
            Stmt::Let(value, expr) => {
                edges.extend(operands(expr).into_iter().map(|from| (from, *value)));
            }
            Stmt::Store { buffer, value, .. } => stores.push((buffer.0, *value)),
            Stmt::Loop { carried, body, .. } => {
                for carry in carried {
                    edges.push((carry.init, carry.arg));
                    edges.push((carry.next, carry.arg));
                    edges.push((carry.next, carry.result));
                }
                statements(body, stores, edges);
            }
            Stmt::When(_) => {}
        }
    }
}

fn operands(expr: &Expr) -> Vec<TileId> {
    match expr {
        Expr::Pointwise(_, operands) => operands.clone(),
        Expr::Noise { counter, .. } => counter.clone(),
        Expr::Reduce(_, value, _) => vec![*value],
        Expr::Dot(a, b, _) => vec![*a, *b],
        Expr::Load { offset, mask, .. } => offset.tiles().into_iter().chain(*mask).collect(),
        Expr::Index(offset) => offset.tiles(),
        Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) => Vec::new(),
    }
}

/// All bytes that an access touches in any turn.
fn reach(address: &Address, bytes: u64, turns: &[Range]) -> Range {
    let (mut from, mut to) = (address.base, address.base);
    for term in &address.turns {
        let (first, last) = turns[term.depth as usize];
        let [first, last] = [first, last].map(|turn| turn.wrapping_add_signed(term.shift));
        let (low, high) = if term.modulus == 0 { (first, last) } else { (0, term.modulus - 1) };
        from += term.stride * low;
        to += term.stride * high;
    }
    (from, to + bytes)
}

fn overlap(a: Range, b: Range) -> bool {
    a.0 < b.1 && b.0 < a.1
}

fn meets(ranges: &BTreeSet<Range>, range: Range) -> bool {
    ranges.iter().any(|other| overlap(*other, range))
}
