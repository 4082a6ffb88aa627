//! Conflicting accesses are ordered.
//!
//! Two accesses to the same bytes conflict when one of them writes. On one stream the text orders
//! them; on two, a chain of events must. The program is run with vector clocks: a stream's clock says
//! how far every other stream is known to have come. Of long loops the first and the last turns are
//! run, as many as the longest rotation and the longest wait reach, and two more; streams meet in
//! between, since a race of turns that are further apart is one of nearer turns too.

use std::collections::{BTreeSet, VecDeque};

use crate::plan::{Address, Item, Order, Plan};

/// How far each stream is known to have come.
type Clock = Vec<u64>;

/// All waits and pairs of accesses that are wrong.
pub(super) fn errors(plan: &Plan) -> BTreeSet<String> {
    let mut errors = BTreeSet::new();
    indices(plan, &plan.items, &mut errors);
    let mut recorded = BTreeSet::new();
    waits(&plan.items, &mut recorded, &mut errors);
    if !errors.is_empty() || plan.streams.len() < 2 {
        return errors;
    }
    let streams = plan.streams.len();
    let mut run = Run {
        plan,
        clocks: vec![vec![0; streams]; streams],
        events: vec![VecDeque::new(); plan.events as usize],
        turns: Vec::new(),
        window: 2 + memory(&plan.items),
        accesses: Vec::new(),
        errors,
    };
    run.items(&plan.items);
    run.errors
}

fn orders(item: &Item) -> Option<&Order> {
    match item {
        Item::Launch { order, .. } | Item::Copy { order, .. } => Some(order),
        Item::Loop { .. } => None,
    }
}

/// Streams and events that are not there.
fn indices(plan: &Plan, items: &[Item], errors: &mut BTreeSet<String>) {
    for item in items {
        if let Item::Loop { body, .. } = item {
            indices(plan, body, errors);
        }
        let Some(order) = orders(item) else { continue };
        if order.stream as usize >= plan.streams.len() {
            errors.insert(format!("an item runs on stream {}, which is not there", order.stream));
        }
        let events = order.waits.iter().map(|w| w.event).chain(order.records.iter().copied());
        for event in events.filter(|event| *event >= plan.events) {
            errors.insert(format!("an item names event {event}, which is not there"));
        }
    }
}

/// Waits for what nothing before records. A wait for an earlier turn may be met by a record that
/// stands behind it in the same loop.
fn waits(items: &[Item], recorded: &mut BTreeSet<u32>, errors: &mut BTreeSet<String>) {
    for item in items {
        if let Item::Loop { body, .. } = item {
            let mut inside = recorded.clone();
            records(body, &mut inside);
            later(body, &inside, errors);
            waits(body, recorded, errors);
        }
        let Some(order) = orders(item) else { continue };
        for wait in order.waits.iter().filter(|w| w.behind == 0) {
            if !recorded.contains(&wait.event) {
                errors.insert(format!(
                    "an item waits for event {}, which nothing before it records",
                    wait.event
                ));
            }
        }
        recorded.extend(&order.records);
    }
}

/// Waits of a loop's body for earlier turns, that no turn meets.
fn later(body: &[Item], recorded: &BTreeSet<u32>, errors: &mut BTreeSet<String>) {
    for order in body.iter().filter_map(orders) {
        for wait in order.waits.iter().filter(|w| w.behind > 0 && !recorded.contains(&w.event)) {
            let event = wait.event;
            errors.insert(format!("an item waits for event {event}, which no turn records"));
        }
    }
}

fn records(items: &[Item], into: &mut BTreeSet<u32>) {
    for item in items {
        if let Item::Loop { body, .. } = item {
            records(body, into);
        }
        into.extend(orders(item).iter().flat_map(|order| &order.records));
    }
}

/// The most turns that a wait or a rotation reaches back.
fn memory(items: &[Item]) -> u64 {
    let of = |address: &Address| address.turns.iter().map(|t| t.modulus).max().unwrap_or(0);
    let reach = |item: &Item| {
        let behind = orders(item).into_iter().flat_map(|o| &o.waits).map(|w| u64::from(w.behind));
        let rotation = match item {
            Item::Launch { parts, .. } => {
                parts.iter().flat_map(|part| &part.buffers).map(of).max().unwrap_or(0)
            }
            Item::Copy { from, to, .. } => of(&from.address).max(of(&to.address)),
            Item::Loop { body, .. } => memory(body),
        };
        behind.max().unwrap_or(0).max(rotation)
    };
    items.iter().map(reach).max().unwrap_or(0)
}

/// Something that was read or written.
struct Done {
    from: u64,
    to: u64,
    writes: bool,
    stream: usize,
    /// What its stream's clock showed of itself.
    tick: u64,
    what: String,
}

struct Run<'p> {
    plan: &'p Plan,
    /// By stream.
    clocks: Vec<Clock>,
    /// The latest records of each event, newest first.
    events: Vec<VecDeque<Clock>>,
    turns: Vec<u64>,
    /// Turns of a loop that are run at its beginning and at its end.
    window: u64,
    accesses: Vec<Done>,
    errors: BTreeSet<String>,
}

impl Run<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Launch { parts, order } => {
                    let plan = self.plan;
                    let accesses = parts.iter().flat_map(|part| plan.accesses(part));
                    let accesses = accesses.map(|(address, bytes, writes)| {
                        let from = address.at(&self.turns);
                        (from, from + bytes, writes)
                    });
                    let accesses = accesses.collect();
                    let names: Vec<String> = parts
                        .iter()
                        .map(|part| format!("`{}`", plan.kernels[part.kernel as usize].name))
                        .collect();
                    self.task(&names.join(" with "), order, accesses);
                }
                Item::Copy { from, to, bytes, order } => {
                    let [from, to] = [from, to].map(|end| self.plan.flat_end(end).at(&self.turns));
                    let accesses = vec![(from, from + bytes, false), (to, to + bytes, true)];
                    self.task("a copy", order, accesses);
                }
                Item::Loop { first, count, reversed, body, .. } => {
                    for i in 0..*count {
                        if i >= self.window && i + self.window < *count {
                            continue;
                        }
                        if i > self.window && i + self.window == *count {
                            self.meet();
                        }
                        self.turns.push(first + if *reversed { count - 1 - i } else { i });
                        self.items(body);
                        self.turns.pop();
                    }
                }
            }
        }
    }

    /// All streams know all that has happened.
    fn meet(&mut self) {
        let all = self.clocks.iter().fold(vec![0; self.clocks.len()], |all, c| joined(&all, c));
        self.clocks.fill(all);
    }

    fn task(&mut self, what: &str, order: &Order, accesses: Vec<(u64, u64, bool)>) {
        let stream = order.stream as usize;
        let mut clock = self.clocks[stream].clone();
        for wait in &order.waits {
            if let Some(then) = self.events[wait.event as usize].get(wait.behind as usize) {
                clock = joined(&clock, then);
            }
        }
        clock[stream] += 1;
        let mut now: Vec<Done> = Vec::new();
        for (from, to, writes) in accesses {
            let conflict = self.accesses.iter().find(|old| {
                let ordered = clock[old.stream] >= old.tick;
                old.from < to && from < old.to && (writes || old.writes) && !ordered
            });
            if let Some(old) = conflict {
                let (a, b) = (&self.plan.streams[old.stream], &self.plan.streams[stream]);
                let byte = super::byte(self.plan, from.max(old.from));
                self.errors.insert(format!(
                    "{what} on `{b}` and {} on `{a}` meet at {byte}, and nothing orders them",
                    old.what
                ));
            }
            let (tick, what) = (clock[stream], what.to_owned());
            now.push(Done { from, to, writes, stream, tick, what });
        }
        self.accesses.extend(now);
        for event in &order.records {
            let records = &mut self.events[*event as usize];
            records.push_front(clock.clone());
            records.truncate(self.window as usize + 1);
        }
        self.clocks[stream] = clock;
    }
}

/// What both clocks know.
fn joined(a: &Clock, b: &Clock) -> Clock {
    a.iter().zip(b).map(|(a, b)| *a.max(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{buffer, copy, error, looped, on, plan, stack};
    use super::*;
    use crate::plan::{Category, End, Wait};
    use crate::plan_verify::verify;

    fn wait(event: u32, behind: u32) -> Wait {
        Wait { event, behind }
    }

    fn two_streams(items: Vec<Item>) -> Plan {
        let streams = vec!["compute".into(), "copies".into()];
        Plan { streams, events: 2, ..plan(items) }
    }

    #[test]
    fn streams_race_unless_an_event_orders_them() {
        let make = |waits: &[Wait]| {
            let first = on(copy(0, 64), 1, &[], &[0]);
            two_streams(vec![first, on(copy(64, 128), 0, waits, &[])])
        };
        verify(&make(&[wait(0, 0)])).unwrap();
        let race =
            "a copy on `compute` and a copy on `copies` meet at byte 64, and nothing orders them";
        assert_eq!(error(&make(&[])), race);
    }

    #[test]
    fn reading_together_is_no_race() {
        verify(&two_streams(vec![on(copy(0, 64), 1, &[], &[]), copy(0, 128)])).unwrap();
    }

    #[test]
    fn a_wait_needs_a_record_before_it() {
        let items = vec![on(copy(0, 64), 0, &[wait(0, 0)], &[]), on(copy(0, 128), 1, &[], &[0])];
        let wanted = "an item waits for event 0, which nothing before it records";
        assert_eq!(error(&two_streams(items)), wanted);
        let never = looped(3, false, vec![on(copy(0, 64), 0, &[wait(1, 1)], &[])]);
        let wanted = "an item waits for event 1, which no turn records";
        assert_eq!(error(&two_streams(vec![never])), wanted);
    }

    #[test]
    fn streams_and_events_are_there() {
        let wanted = "an item names event 7, which is not there";
        assert_eq!(error(&two_streams(vec![on(copy(0, 64), 0, &[], &[7])])), wanted);
        let wanted = "an item runs on stream 5, which is not there";
        assert_eq!(error(&two_streams(vec![on(copy(0, 64), 5, &[], &[])])), wanted);
    }

    /// One stream fills two slots in rotation, another one reads them.
    fn prefetch(turns: u64, filled: &[Wait], emptied: &[Wait]) -> Plan {
        let mut slot = stack(256, 64);
        slot.turns[0].modulus = 2;
        let fill = on(copy(0, slot.clone()), 1, emptied, &[0]);
        let read = on(copy(slot, 64), 0, filled, &[1]);
        two_streams(vec![looped(turns, false, vec![fill, read])])
    }

    #[test]
    fn a_slot_is_filled_again_once_it_was_read() {
        for turns in [1, 2, 3, 5, 50] {
            // The reader of two turns ago is the second last that was recorded.
            verify(&prefetch(turns, &[wait(0, 0)], &[wait(1, 1)])).unwrap();
        }
        assert!(error(&prefetch(50, &[], &[wait(1, 1)])).contains("nothing orders them"));
        assert!(error(&prefetch(50, &[wait(0, 0)], &[])).contains("nothing orders them"));
        assert!(error(&prefetch(50, &[wait(0, 0)], &[wait(1, 2)])).contains("nothing orders them"));
    }
    fn host(base: u64) -> End {
        End::host(stack(base, 64))
    }

    fn with_host(items: Vec<Item>) -> Plan {
        let mut saved = buffer("saved", 0, 256, (0, 99));
        saved.category = Category::Offloaded;
        let mut plan = two_streams(items);
        plan.host_bytes = 256;
        plan.buffers.push(saved);
        plan
    }

    /// The compute stream fills two slots in rotation, copies take them to the host.
    fn offload(filled: &[Wait], emptied: &[Wait]) -> Plan {
        let mut slot = stack(256, 64);
        slot.turns[0].modulus = 2;
        let make = on(copy(0, slot.clone()), 0, emptied, &[0]);
        let out = on(copy(slot, host(0)), 1, filled, &[1]);
        with_host(vec![looped(4, false, vec![make, out])])
    }

    #[test]
    fn what_goes_to_the_host_is_ordered() {
        verify(&offload(&[wait(0, 0)], &[wait(1, 1)])).unwrap();
        assert!(error(&offload(&[], &[wait(1, 1)])).contains("nothing orders them"));
        assert!(error(&offload(&[wait(0, 0)], &[])).contains("nothing orders them"));
    }

    #[test]
    fn what_comes_from_the_host_was_written_there() {
        let back = || looped(4, true, vec![copy(host(0), 64)]);
        let out = looped(4, false, vec![copy(0, host(0))]);
        verify(&with_host(vec![out, back()])).unwrap();
        assert_eq!(
            error(&with_host(vec![back()])),
            "a copy's source reads `saved` before it is written"
        );
        let mut small = with_host(vec![back()]);
        small.host_bytes = 192;
        assert!(error(&small).contains("copy source ends outside the host arena"));
        let race = vec![copy(0, host(0)), on(copy(host(0), 64), 1, &[], &[])];
        let wanted = "meet at byte 0 of the host arena, and nothing orders them";
        let error = error(&with_host(vec![looped(1, false, race)]));
        assert!(error.contains(wanted), "{error}");
    }

    #[test]
    fn equal_bytes_of_two_memories_are_different_bytes() {
        let items = vec![copy(0, 64), on(copy(64, End::host(Address::fixed(64))), 0, &[], &[])];
        verify(&with_host(items)).unwrap();
    }
}
