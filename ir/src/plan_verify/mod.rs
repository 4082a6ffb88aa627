//! What makes a plan well-formed.
//!
//! - Every address of every item is inside the arena of its memory for all turns of the loops around
//!   it, with the bytes that the kernel says it touches.
//! - A launch names a kernel of the plan, with as many buffers as it has arguments; addresses and
//!   int arguments refer to loops around the item.
//! - States, inputs and results are aligned, inside the arena and, but for results that are
//!   states, apart from each other.
//! - Two buffers of one memory that live at the same time do not share bytes, and only states lie in
//!   the part of the device's arena that states take.
//! - Copies do not overlap themselves.
//! - No part of a launch writes what another part of it reads or writes, in any turn.
//! - What an item touches lies, in all turns, inside one buffer that is live there, or in one state
//!   (`lives`).
//! - What a launch only reads, and what a copy reads, was written before (`lives`).
//! - Waits are for events that something before them records, and any two accesses to the same bytes
//!   of which one writes are ordered: by their stream, or by a chain of events (`order`).

mod lives;
mod order;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::kernel::Storage;
use crate::plan::{ALIGNMENT, Address, Category, Item, Memory, Part, Plan, apart};

/// All that is wrong with a plan.
#[derive(Debug, Error)]
#[error("{}", .0.join("; "))]
pub struct PlanError(pub Vec<String>);

/// Checks a plan.
///
/// # Errors
/// [`PlanError`] lists everything that is wrong.
pub fn verify(plan: &Plan) -> Result<(), PlanError> {
    let mut check = Check { plan, errors: Vec::new(), turns: Vec::new() };
    check.items(&plan.items);
    check.tensors();
    check.buffers(Memory::Device);
    check.buffers(Memory::Host);
    if check.errors.is_empty() {
        check.errors.extend(lives::errors(plan));
        check.errors.extend(order::errors(plan));
    }
    if check.errors.is_empty() { Ok(()) } else { Err(PlanError(check.errors)) }
}

/// Bytes of a memory's arena, and what it is called.
fn arena(plan: &Plan, memory: Memory) -> (u64, &'static str) {
    match memory {
        Memory::Device => (plan.arena_bytes, "the arena"),
        Memory::Host => (plan.host_bytes, "the host arena"),
    }
}

/// A byte as [`Plan::flat`] numbers it, for people.
fn byte(plan: &Plan, flat: u64) -> String {
    match flat.checked_sub(plan.arena_bytes) {
        None => format!("byte {flat}"),
        Some(host) => format!("byte {host} of the host arena"),
    }
}

struct Check<'p> {
    plan: &'p Plan,
    errors: Vec<String>,
    /// Lowest and highest turns of the loops around the item.
    turns: Vec<(u64, u64)>,
}

impl Check<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Launch { parts, .. } => self.launch(parts),
                Item::Copy { from, to, bytes, .. } => {
                    self.address("copy source", from.memory, &from.address, *bytes);
                    self.address("copy target", to.memory, &to.address, *bytes);
                    let (a, b) = (&from.address, &to.address);
                    let meet = a.turns == b.turns && a.base.abs_diff(b.base) < *bytes;
                    if from.memory == to.memory && meet {
                        self.errors.push(format!("a copy at {} overlaps itself", a.base));
                    }
                }
                Item::Loop { axis, first, count, body, .. } => {
                    // A loop without turns touches nothing.
                    let Some(more) = count.checked_sub(1) else { continue };
                    let Some(last) = first.checked_add(more) else {
                        self.errors.push(format!("loop `{axis}` has too many turns"));
                        continue;
                    };
                    self.turns.push((*first, last));
                    self.items(body);
                    self.turns.pop();
                }
            }
        }
    }

    fn launch(&mut self, parts: &[Part]) {
        let before = self.errors.len();
        if parts.is_empty() {
            self.errors.push("a launch of nothing".to_owned());
        }
        parts.iter().for_each(|part| self.part(part));
        if self.errors.len() == before {
            self.parts_apart(parts);
        }
    }

    /// Parts run side by side: none writes what another one touches.
    fn parts_apart(&mut self, parts: &[Part]) {
        let plan = self.plan;
        for (i, first) in parts.iter().enumerate() {
            for second in &parts[..i] {
                let mut pairs =
                    plan.accesses(first).flat_map(|a| plan.accesses(second).map(move |b| (a, b)));
                let meet = pairs.any(|((a, a_bytes, a_writes), (b, b_bytes, b_writes))| {
                    (a_writes || b_writes) && !apart((a, a_bytes), (b, b_bytes), &self.turns)
                });
                if meet {
                    let [a, b] = [second, first].map(|p| &plan.kernels[p.kernel as usize].name);
                    self.errors.push(format!("`{a}` and `{b}`, launched together, conflict"));
                }
            }
        }
    }

    fn part(&mut self, Part { kernel, buffers, scalars }: &Part) {
        let Some(info) = self.plan.kernels.get(*kernel as usize) else {
            return self.errors.push(format!("a launch of kernel {kernel}, which is not there"));
        };
        if info.arguments.len() != buffers.len() {
            let (wants, has) = (info.arguments.len(), buffers.len());
            self.errors.push(format!("`{}` has {wants} arguments, a launch {has}", info.name));
        }
        for (argument, address) in info.arguments.iter().zip(buffers) {
            let what = format!("argument `{}` of `{}`", argument.name, info.name);
            self.address(&what, Memory::Device, address, argument.bytes);
        }
        if scalars.iter().any(|depth| *depth as usize >= self.turns.len()) {
            self.errors.push(format!("a launch of `{}` asks for a loop not around it", info.name));
        }
    }

    /// Checks the highest address that the loops reach.
    fn address(&mut self, what: &str, memory: Memory, address: &Address, bytes: u64) {
        if address.turns.iter().any(|t| t.depth as usize >= self.turns.len()) {
            return self.errors.push(format!("{what}: its address asks for a loop not around it"));
        }
        let highest = address.turns.iter().try_fold(address.base, |sum, term| {
            let (first, last) = self.turns[term.depth as usize];
            first.checked_add_signed(term.shift)?;
            let last = last.checked_add_signed(term.shift)?;
            // A modulus may be met before the last turn; its largest value bounds all turns.
            let turn = if term.modulus == 0 { last } else { last.min(term.modulus - 1) };
            sum.checked_add(term.stride.checked_mul(turn)?)
        });
        let end = highest.and_then(|at| at.checked_add(bytes));
        let (bytes, arena) = arena(self.plan, memory);
        if end.is_none_or(|end| end > bytes) {
            self.errors.push(format!("{what} ends outside {arena}"));
        }
    }

    /// States, inputs and results.
    fn tensors(&mut self) {
        let plan = self.plan;
        let size = |axes: &[(String, u64)]| {
            axes.iter().try_fold(1_u64, |product, (_, size)| product.checked_mul(*size))
        };
        let bytes =
            |axes: &[(String, u64)], storage: Storage| size(axes)?.checked_mul(storage.bytes());
        let mut ranges = Vec::new();
        for state in &plan.states {
            let Some(param) = plan.params.get(state.param as usize) else {
                self.errors
                    .push(format!("a state of parameter {}, which is not there", state.param));
                continue;
            };
            let what = format!("{:?} of `{}`", state.slot, param.name);
            let storage = state.slot.dtype().storage();
            ranges.extend(self.range(what, state.offset, bytes(&param.axes, storage)));
        }
        for input in &plan.inputs {
            let what = format!("input `{}`", input.name);
            ranges.extend(self.range(what, input.offset, bytes(&input.axes, input.storage)));
        }
        self.apart(ranges);
        for result in &plan.results {
            let what = format!("result {:?}", result.role);
            self.range(what, result.offset, bytes(&result.axes, result.storage));
        }
    }

    fn range(&mut self, what: String, from: u64, bytes: Option<u64>) -> Option<(u64, u64, String)> {
        let to = bytes.and_then(|bytes| from.checked_add(bytes));
        let Some(to) = to.filter(|to| *to <= self.plan.arena_bytes) else {
            self.errors.push(format!("{what} ends outside the arena"));
            return None;
        };
        if !from.is_multiple_of(ALIGNMENT) {
            self.errors.push(format!("{what} is not aligned"));
        }
        (to > from).then_some((from, to, what))
    }

    fn apart(&mut self, mut ranges: Vec<(u64, u64, String)>) {
        ranges.sort();
        for pair in ranges.windows(2) {
            if pair[1].0 < pair[0].1 {
                self.errors.push(format!("{} and {} share bytes", pair[0].2, pair[1].2));
            }
        }
    }

    /// Sweeps over the program's positions with the buffers of a memory that are live, ordered by
    /// offset.
    fn buffers(&mut self, memory: Memory) {
        let (plan, (bytes, arena)) = (self.plan, arena(self.plan, memory));
        let end = |state: &crate::plan::State| {
            let elements = plan.params.get(state.param as usize).map_or(0, |p| p.elements());
            let bytes = elements.saturating_mul(state.slot.dtype().storage().bytes());
            state.offset.saturating_add(bytes)
        };
        let states = plan.states.iter().filter(|_| memory == Memory::Device);
        let states = states.map(end).max().unwrap_or(0);
        // A state's lifetime is the whole run; its buffers are judged by their place instead.
        let here = |c: Category| c.memory() == memory && !c.is_state();
        let moving =
            plan.buffers.iter().enumerate().filter(|(_, b)| b.bytes > 0 && here(b.category));
        let mut events = Vec::new();
        for (i, buffer) in moving {
            if buffer.offset.checked_add(buffer.bytes).is_none_or(|end| end > bytes) {
                self.errors.push(format!("buffer `{}` ends outside {arena}", buffer.name));
                continue;
            }
            if buffer.offset < states {
                self.errors.push(format!("buffer `{}` lies among the states", buffer.name));
            }
            events.push((buffer.live.0, true, i));
            events.push((buffer.live.1.saturating_add(1), false, i));
        }
        // At equal positions deaths sort before births.
        events.sort_unstable();
        let mut live: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, born, i) in events {
            let buffer = &plan.buffers[i];
            if !born {
                if live.get(&buffer.offset) == Some(&i) {
                    live.remove(&buffer.offset);
                }
                continue;
            }
            let before = live.range(..buffer.offset + buffer.bytes).next_back().map(|(_, j)| *j);
            if let Some(j) = before {
                let other = &plan.buffers[j];
                if other.offset + other.bytes > buffer.offset {
                    let (a, b) = (&buffer.name, &other.name);
                    self.errors
                        .push(format!("buffers `{a}` and `{b}` live together and share bytes"));
                }
            }
            live.insert(buffer.offset, i);
        }
    }
}

#[cfg(test)]
mod testing {
    //! Minimal plans: copies of 64 bytes between `x`, which the host writes, `a`, `b` and `stack`.

    use super::verify;
    use crate::plan::{
        Address, COMPUTE, Category, End, Item, Order, Plan, PlanBuffer, TurnTerm, Wait,
    };

    /// Where an item copies from or to.
    pub(super) struct At(End);

    impl From<u64> for At {
        fn from(base: u64) -> Self {
            Self(End::device(Address::fixed(base)))
        }
    }

    impl From<Address> for At {
        fn from(address: Address) -> Self {
            Self(End::device(address))
        }
    }

    impl From<End> for At {
        fn from(end: End) -> Self {
            Self(end)
        }
    }

    /// A slice of `stack` for each turn.
    pub(super) fn stack(base: u64, stride: u64) -> Address {
        Address { base, turns: vec![TurnTerm { depth: 0, stride, shift: 0, modulus: 0 }] }
    }

    pub(super) fn copy(from: impl Into<At>, to: impl Into<At>) -> Item {
        let (from, to) = (from.into().0, to.into().0);
        Item::Copy { from, to, bytes: 64, order: Order::default() }
    }

    pub(super) fn on(item: Item, stream: u32, waits: &[Wait], records: &[u32]) -> Item {
        let Item::Copy { from, to, bytes, .. } = item else { unreachable!("a copy") };
        let order = Order { stream, waits: waits.to_vec(), records: records.to_vec() };
        Item::Copy { from, to, bytes, order }
    }

    pub(super) fn looped(count: u64, reversed: bool, body: Vec<Item>) -> Item {
        Item::Loop { axis: "L".into(), first: 0, count, reversed, body }
    }

    pub(super) fn buffer(name: &str, offset: u64, bytes: u64, live: (u32, u32)) -> PlanBuffer {
        PlanBuffer { name: name.into(), category: Category::Transient, offset, bytes, live }
    }

    /// A plan of one stream.
    pub(super) fn plan(items: Vec<Item>) -> Plan {
        let mut x = buffer("x", 0, 64, (0, 99));
        x.category = Category::Inputs;
        let (a, b) = (buffer("a", 64, 64, (0, 99)), buffer("b", 128, 64, (0, 99)));
        Plan {
            name: "p".into(),
            arena_bytes: 1024,
            live_bytes: 1024,
            host_bytes: 0,
            params: vec![],
            states: vec![],
            inputs: vec![],
            results: vec![],
            buffers: vec![x, a, b, buffer("stack", 256, 256, (0, 99))],
            kernels: vec![],
            streams: vec![COMPUTE.into()],
            events: 0,
            items,
        }
    }

    pub(super) fn error(plan: &Plan) -> String {
        verify(plan).unwrap_err().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Access;
    use crate::plan::{Argument, COMPUTE, KernelInfo, PlanBuffer, TurnTerm};

    fn plan() -> Plan {
        let argument = Argument { name: "x".into(), access: Access::ReadWrite, bytes: 64 };
        let kernel = KernelInfo {
            name: "k".into(),
            origin: String::new(),
            grid_points: 1,
            arguments: vec![argument],
            flops: 0,
        };
        let term = TurnTerm { depth: 0, stride: 64, shift: 0, modulus: 0 };
        let launch = Item::launch(0, vec![Address { base: 0, turns: vec![term] }], vec![0]);
        let body = vec![launch];
        Plan {
            name: "p".into(),
            arena_bytes: 256,
            live_bytes: 256,
            host_bytes: 0,
            params: vec![],
            states: vec![],
            inputs: vec![],
            results: vec![],
            buffers: vec![PlanBuffer {
                name: "all".into(),
                category: Category::Transient,
                offset: 0,
                bytes: 256,
                live: (0, 99),
            }],
            kernels: vec![kernel],
            streams: vec![COMPUTE.into()],
            events: 0,
            items: vec![Item::Loop { axis: "L".into(), first: 0, count: 4, reversed: false, body }],
        }
    }

    fn buffer(name: &str, offset: u64, live: (u32, u32)) -> PlanBuffer {
        PlanBuffer { name: name.into(), category: Category::Transient, offset, bytes: 64, live }
    }

    fn error(plan: &Plan) -> String {
        verify(plan).unwrap_err().to_string()
    }

    #[test]
    fn the_last_turn_must_fit() {
        verify(&plan()).unwrap();
        let mut smaller = plan();
        (smaller.arena_bytes, smaller.buffers[0].bytes) = (192, 192);
        assert_eq!(error(&smaller), "argument `x` of `k` ends outside the arena");
    }

    #[test]
    fn rotation_bounds_addresses() {
        let mut plan = plan();
        (plan.arena_bytes, plan.buffers[0].bytes) = (128, 128);
        let Item::Loop { body, .. } = &mut plan.items[0] else { unreachable!() };
        let Item::Launch { parts, .. } = &mut body[0] else { unreachable!() };
        parts[0].buffers[0].turns[0].modulus = 2;
        verify(&plan).unwrap();
    }

    #[test]
    fn segments_count_from_their_first_turn() {
        let mut plan = plan();
        (plan.arena_bytes, plan.buffers[0].bytes) = (128, 128);
        let segment = |plan: &mut Plan, from: u64, shift: i64| {
            let Item::Loop { first, count, body, .. } = &mut plan.items[0] else { unreachable!() };
            (*first, *count) = (from, 2);
            let Item::Launch { parts, .. } = &mut body[0] else { unreachable!() };
            parts[0].buffers[0].turns[0].shift = shift;
        };
        segment(&mut plan, 3, -3);
        verify(&plan).unwrap();
        segment(&mut plan, 3, -2);
        assert!(error(&plan).contains("outside the arena"), "the last turn");
        segment(&mut plan, 3, -4);
        assert!(error(&plan).contains("outside the arena"), "the first turn");
    }

    /// The second part works in the slice so many turns further; the loop leaves the last slices to it.
    #[test]
    fn parts_of_a_launch_are_apart() {
        let with = |further: i64, access| {
            let mut plan = plan();
            let second = KernelInfo { name: "l".into(), ..plan.kernels[0].clone() };
            plan.kernels.push(second);
            plan.kernels.iter_mut().for_each(|kernel| kernel.arguments[0].access = access);
            let Item::Loop { count, body, .. } = &mut plan.items[0] else { unreachable!() };
            *count = 2;
            let Item::Launch { parts, .. } = &mut body[0] else { unreachable!() };
            let mut part = Part { kernel: 1, ..parts[0].clone() };
            part.buffers[0].turns[0].shift = further;
            parts.push(part);
            plan
        };
        verify(&with(1, Access::ReadWrite)).unwrap();
        let conflict = "`k` and `l`, launched together, conflict";
        assert_eq!(error(&with(0, Access::ReadWrite)), conflict);
        let mut longer = with(1, Access::ReadWrite);
        longer.kernels[0].arguments[0].bytes = 65;
        assert_eq!(error(&longer), conflict);
        let mut read = with(0, Access::Read);
        read.buffers[0].category = Category::Inputs;
        verify(&read).unwrap();
    }

    #[test]
    fn a_launch_has_parts() {
        let mut plan = plan();
        plan.items = vec![Item::Launch { parts: vec![], order: Default::default() }];
        assert_eq!(error(&plan), "a launch of nothing");
    }

    #[test]
    fn loops_must_be_around() {
        let mut plan = plan();
        let Item::Loop { body, .. } = plan.items.remove(0) else { unreachable!() };
        plan.items = body;
        assert!(error(&plan).contains("a loop not around it"));
    }

    #[test]
    fn living_together_means_lying_apart() {
        let mut plan = Plan { items: vec![], ..plan() };
        plan.buffers =
            vec![buffer("a", 0, (0, 3)), buffer("b", 0, (4, 5)), buffer("c", 64, (2, 9))];
        verify(&plan).unwrap();
        plan.buffers.push(buffer("d", 32, (5, 6)));
        assert!(error(&plan).contains("`d` and `c` live together and share bytes"));
    }
}
