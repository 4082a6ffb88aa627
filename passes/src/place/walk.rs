//! Walks the program: gives every value a place in some buffer, and every buffer a lifetime.

use std::collections::{HashMap, HashSet};

use gigac_ir::graph::{AxisId, Op, ParamId, Role, Slot, Span, ValueId};
use gigac_ir::plan::{
    Address, BEGINNING, Category, End, Item, Memory, Order, Part, PlanBuffer, State, TurnTerm, Wait,
};

use super::aligned;
use super::names::Names;
use super::offload;
use crate::form::{Formed, Launch, Loop, Segment, Stack, Unit};
use crate::reuse::state;

/// Bytes that are live for a while.
pub(crate) struct Buffer {
    pub(crate) category: Category,
    pub(crate) bytes: u64,
    /// First and last position.
    pub(crate) live: (u32, u32),
    /// A given address.
    pub(crate) fixed: Option<u64>,
}

/// Where a value lies: in a buffer, at an offset that loops may move.
#[derive(Clone)]
struct Place {
    buffer: usize,
    turns: Vec<TurnTerm>,
}

/// A buffer and how deep in loops it was made.
struct Extent {
    depth: usize,
}

/// The walk.
pub(crate) struct Walk<'f> {
    pub(super) formed: &'f Formed,
    /// All buffers.
    pub(crate) buffers: Vec<Buffer>,
    /// The buffers of the inputs that the program reads.
    pub(crate) inputs: Vec<Option<usize>>,
    extents: Vec<Extent>,
    places: HashMap<ValueId, Place>,
    /// First positions of the open loops.
    open: Vec<u32>,
    /// Buffers touched in each open loop that were made outside it.
    touched: Vec<Vec<usize>>,
    pub(super) position: u32,
    /// Number of events.
    pub(crate) events: u32,
    /// Where the slices of stacks lie on the host.
    pub(super) hosts: HashMap<ValueId, Address>,
    /// Stacks that a forward loop has copied to the host.
    copied: HashSet<ValueId>,
    /// What the next launch waits for.
    pub(super) after: Vec<Wait>,
    /// Events that the launch before the item in hand records.
    pub(super) gates: Vec<u32>,
}

impl<'f> Walk<'f> {
    /// A walk over a program with states at given addresses.
    pub(crate) fn new(formed: &'f Formed, states: &[State]) -> Self {
        let mut walk = Self {
            formed,
            buffers: Vec::new(),
            inputs: vec![None; formed.graph.inputs.len()],
            extents: Vec::new(),
            places: HashMap::new(),
            open: Vec::new(),
            touched: Vec::new(),
            position: BEGINNING,
            events: 0,
            hosts: HashMap::new(),
            copied: HashSet::new(),
            after: Vec::new(),
            gates: Vec::new(),
        };
        for node in &formed.graph.root.nodes {
            let value = node.results.first().copied();
            match (&node.op, value) {
                (Op::Param(param, slot), Some(value)) => {
                    let offset = Some(address(states, *param, *slot));
                    walk.buffer(value, Category::of(*slot), offset);
                }
                (Op::Input(input), Some(value)) => {
                    let buffer = walk.buffer(value, Category::Inputs, None);
                    walk.inputs[input.index()] = Some(buffer);
                }
                _ => {}
            }
        }
        walk
    }

    /// The whole program, with buffer numbers for addresses. An update lies where the old state does
    /// when it may, or when nothing reads that; all others are copied there at the end.
    pub(crate) fn program(&mut self, states: &[State]) -> Vec<Item> {
        let formed = self.formed;
        let mut copies = Vec::new();
        let mut updates = Vec::new();
        for (role, value) in formed.graph.results() {
            let Role::Update(param, slot) = role else { continue };
            match state(formed, *param, *slot) {
                None => {
                    let offset = Some(address(states, *param, *slot));
                    self.buffer(value, Category::of(*slot), offset);
                }
                Some(old) if formed.over.get(&value) == Some(&old) => {
                    let place = self.places[&old].clone();
                    self.places.insert(value, place);
                }
                Some(old) => updates.push((value, old)),
            }
        }
        let mut items = self.region(&formed.units);
        for (value, old) in updates {
            self.position += 1;
            copies.push(Item::Copy {
                from: End::device(self.address(value)),
                to: End::device(self.address(old)),
                bytes: self.formed.bytes(old),
                order: Order::default(),
            });
        }
        items.extend(copies);
        self.finish();
        items
    }

    /// Inputs and results live as long as the program.
    fn finish(&mut self) {
        let end = self.position;
        let results: Vec<ValueId> = self.formed.graph.root.results.clone();
        for value in results {
            if let Some(place) = self.places.get(&value) {
                let buffer = &mut self.buffers[place.buffer];
                buffer.live.1 = end;
                if buffer.category == Category::Transient {
                    buffer.category = Category::Results;
                }
            }
        }
        for (role, value) in self.formed.graph.results() {
            if let (Role::Gradient(_), Some(place)) = (role, self.places.get(&value)) {
                self.buffers[place.buffer].category = Category::Gradients;
            }
        }
        for buffer in &mut self.buffers {
            if matches!(buffer.category, Category::Inputs | Category::Results) {
                buffer.live = (0, end);
            }
        }
    }

    fn buffer(&mut self, value: ValueId, category: Category, fixed: Option<u64>) -> usize {
        let bytes = self.formed.bytes(value);
        self.buffer_of(value, bytes, category, fixed)
    }

    fn buffer_of(
        &mut self,
        value: ValueId,
        bytes: u64,
        category: Category,
        fixed: Option<u64>,
    ) -> usize {
        let live = (self.position, self.position);
        self.buffers.push(Buffer { category, bytes, live, fixed });
        self.extents.push(Extent { depth: self.open.len() });
        let buffer = self.buffers.len() - 1;
        self.places.insert(value, Place { buffer, turns: Vec::new() });
        buffer
    }

    /// Marks a value's buffer as live now, and through every loop that it did not begin in.
    pub(super) fn touch(&mut self, value: ValueId) {
        let Some(place) = self.places.get(&value) else { return };
        let buffer = place.buffer;
        let depth = self.extents[buffer].depth;
        let live = &mut self.buffers[buffer].live;
        live.0 = live.0.min(self.position);
        live.1 = live.1.max(self.position);
        for level in depth..self.open.len() {
            live.0 = live.0.min(self.open[level]);
            self.touched[level].push(buffer);
        }
    }

    fn region(&mut self, units: &[Unit]) -> Vec<Item> {
        self.prepare_all(units);
        self.in_order(units, |walk, unit| walk.unit(unit))
    }

    /// Walks things one after another. The launch before one records the events that it asks for.
    fn in_order<T>(
        &mut self,
        things: &[T],
        mut walk: impl FnMut(&mut Self, &T) -> Vec<Item>,
    ) -> Vec<Item> {
        let (mut items, mut open) = (Vec::new(), Vec::new());
        for thing in things {
            let next = walk(self, thing);
            let gates = std::mem::take(&mut self.gates);
            match offload::last(&mut items) {
                Some(order) => order.records.extend(gates),
                None => open.extend(gates),
            }
            items.extend(next);
        }
        self.gates = open;
        items
    }

    pub(super) fn unit(&mut self, unit: &Unit) -> Vec<Item> {
        match unit {
            Unit::Launch(_) | Unit::Together(_) => vec![self.launch(unit.launches())],
            Unit::Repeat(inner) => self.repeat(inner),
        }
    }

    pub(super) fn prepare_all(&mut self, units: &[Unit]) {
        for unit in units {
            if let Unit::Repeat(inner) = unit {
                self.prepare(inner);
            }
        }
    }

    /// Gives the carried values of a loop their buffers before its region is walked, since initial
    /// values are made there.
    fn prepare(&mut self, inner: &Loop) {
        for i in 0..inner.carried {
            let over = &self.formed.over;
            let in_place = |s: &Segment| over.get(&s.next[i]) == Some(&s.arguments[1 + i]);
            let single = inner.segments.iter().all(in_place);
            let slot = aligned(self.formed.bytes(inner.operands[i]));
            let slots = if single { 1 } else { 2 };
            let buffer = self.buffer_of(inner.operands[i], slot * slots, Category::Transient, None);
            self.buffers[buffer].live = (u32::MAX, 0);
            let depth = self.open.len() as u32;
            let term = |shift| vec![TurnTerm { depth, stride: slot, shift, modulus: 2 }];
            let size = self.formed.graph.size(inner.axis);
            let first = if inner.reversed { size.saturating_sub(1) } else { 0 };
            let last = if inner.reversed { 1 } else { size };
            let mut put = |value: ValueId, turns: Vec<TurnTerm>| {
                self.places.insert(value, Place { buffer, turns });
            };
            let (before, after, now, then) = if single {
                Default::default()
            } else {
                (fixed_slot(first % 2, slot), fixed_slot(last % 2, slot), term(0), term(1))
            };
            put(inner.operands[i], before);
            put(inner.results[i], after);
            for segment in &inner.segments {
                put(segment.arguments[1 + i], now.clone());
                put(segment.next[i], then.clone());
            }
        }
    }

    /// Gives what a loop stacks its place, and each turn's part of it.
    fn stacks(&mut self, inner: &Loop) {
        for (j, result) in inner.results[inner.carried..].iter().enumerate() {
            if !self.places.contains_key(result) {
                self.home(*result, Category::Saved);
            }
            let slice = self.slice(*result, inner.axis);
            for segment in &inner.segments {
                self.places.insert(segment.next[inner.carried + j], slice.clone());
            }
        }
        for segment in &inner.segments {
            for stack in &segment.stacks {
                self.stack(segment, *stack);
            }
        }
    }

    /// Gives a value the place of the one that it lies over, or a buffer.
    fn home(&mut self, value: ValueId, category: Category) {
        match self.formed.over.get(&value) {
            Some(old) => {
                let place = self.places[old].clone();
                self.places.insert(value, place);
            }
            None => {
                let buffer = self.buffer(value, category, None);
                self.buffers[buffer].live = (u32::MAX, 0);
            }
        }
    }

    /// Gives a segment's own stack a buffer of one slice a turn, unless the loop that writes it
    /// did, and its slice the place of the turn in hand.
    fn stack(&mut self, segment: &Segment, stack: Stack) {
        let stride = self.formed.bytes(stack.whole);
        let turns = segment.turns.end - segment.turns.start;
        let category = match stack.memory {
            Memory::Device => Category::Saved,
            Memory::Host => Category::Offloaded,
        };
        if !self.places.contains_key(&stack.whole) {
            let buffer = self.buffer_of(stack.whole, stride * turns, category, None);
            self.buffers[buffer].live = (u32::MAX, 0);
        }
        let depth = self.open.len() as u32;
        let shift = -(segment.turns.start as i64);
        let mut place = self.places[&stack.whole].clone();
        place.turns.push(TurnTerm { depth, stride, shift, modulus: 0 });
        self.places.insert(stack.slice, place);
        if stack.memory == Memory::Host {
            let host = self.address(stack.slice);
            self.hosts.insert(stack.whole, host);
            self.slots(stack.slice);
        }
    }

    /// Gives a slice two slots on the device, which turns use in rotation.
    fn slots(&mut self, slice: ValueId) {
        let (stride, depth) = (aligned(self.formed.bytes(slice)), self.open.len() as u32);
        let buffer = self.buffer_of(slice, 2 * stride, Category::Transient, None);
        self.buffers[buffer].live = (u32::MAX, 0);
        let turns = vec![TurnTerm { depth, stride, shift: 0, modulus: 2 }];
        self.places.insert(slice, Place { buffer, turns });
    }

    /// The place of one turn's part of a stacked value.
    fn slice(&self, stacked: ValueId, axis: AxisId) -> Place {
        let layout = &self.formed.layouts[stacked.index()];
        assert_eq!(layout.first(), Some(&axis), "a stacked value has the repeated axis in front");
        let mut place = self.places[&stacked].clone();
        let stride = self.formed.bytes(stacked) / self.formed.graph.size(axis).max(1);
        let depth = self.open.len() as u32;
        place.turns.push(TurnTerm { depth, stride, shift: 0, modulus: 0 });
        place
    }

    fn repeat(&mut self, inner: &Loop) -> Vec<Item> {
        for value in &inner.operands {
            self.touch(*value);
        }
        self.stacks(inner);
        for (j, operand) in inner.operands.iter().enumerate().skip(inner.carried) {
            let slice = self.slice(*operand, inner.axis);
            for segment in &inner.segments {
                self.places.insert(segment.arguments[1 + j], slice.clone());
            }
        }
        self.in_order(&inner.segments, |walk, segment| vec![walk.segment(inner, segment)])
    }

    fn segment(&mut self, inner: &Loop, segment: &Segment) -> Item {
        self.position += 1;
        self.open.push(self.position);
        self.touched.push(Vec::new());
        let stacks = segment.stacks.iter().map(|stack| &stack.slice);
        for value in segment.arguments[1..].iter().chain(&segment.next).chain(stacks) {
            self.touch(*value);
        }
        let host = Self::on_host(segment);
        let out = !host.iter().any(|stack| self.copied.contains(&stack.whole));
        let body = match out {
            _ if host.is_empty() => self.region(&segment.body),
            true => self.copying_out(segment, &host),
            false => self.copying_in(segment, &host),
        };
        self.copied.extend(host.iter().map(|stack| stack.whole));
        self.position += 1;
        self.open.pop();
        for buffer in self.touched.pop().expect("a loop is open") {
            let live = &mut self.buffers[buffer].live;
            live.1 = live.1.max(self.position);
        }
        for value in &inner.results {
            self.touch(*value);
        }
        Item::Loop {
            axis: self.formed.graph.axes[inner.axis.index()].name.clone(),
            first: segment.turns.start,
            count: segment.turns.end - segment.turns.start,
            reversed: inner.reversed,
            body,
        }
    }

    /// All that launched together touches is live at once.
    fn launch(&mut self, launches: &[Launch]) -> Item {
        self.position += 1;
        for value in launches.iter().flat_map(|launch| &launch.arguments) {
            if !self.places.contains_key(value) {
                self.home(*value, Category::Transient);
            }
            self.touch(*value);
        }
        let part = |launch: &Launch| Part {
            kernel: launch.kernel as u32,
            buffers: launch.arguments.iter().map(|v| self.address(*v)).collect(),
            scalars: launch.turns.clone(),
        };
        let parts = launches.iter().map(part).collect();
        let order = Order { waits: std::mem::take(&mut self.after), ..Order::default() };
        Item::Launch { parts, order }
    }

    /// The address of a value, with the number of its buffer in the upper half of the base.
    pub(super) fn address(&self, value: ValueId) -> Address {
        let place = &self.places[&value];
        let turns = place.turns.clone();
        Address { base: (place.buffer as u64) << 32, turns }
    }

    /// The address of a result, outside all loops.
    pub(crate) fn fixed(&self, value: ValueId, offsets: &[u64]) -> u64 {
        let mut address = self.address(value);
        resolve_address(&mut address, offsets);
        assert!(address.turns.is_empty(), "{value}: a result lies at a fixed address");
        address.base
    }

    /// The buffers for the plan, and the expressions of the model that they hold the values of.
    pub(crate) fn describe(&self, offsets: &[u64]) -> (Vec<PlanBuffer>, Vec<Option<Span>>) {
        let mut values = vec![Vec::new(); self.buffers.len()];
        for (value, place) in &self.places {
            values[place.buffer].push(*value);
        }
        values.iter_mut().for_each(|inside| inside.sort_unstable());
        let names = Names::of(&self.formed.graph);
        let buffer = |((b, offset), inside): ((&Buffer, &u64), &Vec<ValueId>)| PlanBuffer {
            name: names.name(inside),
            category: b.category,
            offset: *offset,
            bytes: b.bytes,
            live: b.live,
        };
        let buffers = self.buffers.iter().zip(offsets).zip(&values).map(buffer).collect();
        (buffers, values.iter().map(|inside| names.source(inside)).collect())
    }
}

/// Where a state lies.
fn address(states: &[State], param: ParamId, slot: Slot) -> u64 {
    let state = states.iter().find(|s| s.param == param.0 && s.slot == slot);
    state.expect("what is read or updated is a state of its parameter").offset
}

/// A slot outside the loop: a turn term that no loop moves, resolved to a constant.
fn fixed_slot(slot: u64, stride: u64) -> Vec<TurnTerm> {
    vec![TurnTerm { depth: FIXED, stride, shift: slot as i64, modulus: 0 }]
}

/// Marks a turn term that stands for a constant offset.
const FIXED: u32 = u32::MAX;

/// Replaces buffer numbers by offsets.
pub(crate) fn resolve(items: &mut [Item], offsets: &[u64]) {
    for item in items {
        match item {
            Item::Launch { parts, .. } => {
                let buffers = parts.iter_mut().flat_map(|part| &mut part.buffers);
                buffers.for_each(|a| resolve_address(a, offsets));
            }
            Item::Copy { from, to, .. } => {
                resolve_address(&mut from.address, offsets);
                resolve_address(&mut to.address, offsets);
            }
            Item::Loop { body, .. } => resolve(body, offsets),
        }
    }
}

fn resolve_address(address: &mut Address, offsets: &[u64]) {
    let mut base = offsets[(address.base >> 32) as usize];
    address.turns.retain(|term| {
        if term.depth == FIXED {
            base += term.stride * term.shift as u64;
        }
        term.depth != FIXED
    });
    address.base = base;
}
