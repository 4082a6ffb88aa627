//! What items touch is there: inside a live buffer in all turns, and written before it is read.
//!
//! Bodies of loops are walked twice, for the turn that runs first and the one that runs last; in between,
//! everything that the other turns write counts as written. So the work does not depend on the
//! number of turns.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::Access;
use crate::plan::{Address, BEGINNING, Category, Item, Plan, PlanBuffer};

/// Bytes from the first up to the second.
type Range = (u64, u64);

/// All accesses that are wrong.
pub(super) fn errors(plan: &Plan) -> BTreeSet<String> {
    let mut walk = Walk {
        plan,
        fixed: states(plan),
        written: Written::default(),
        loops: Vec::new(),
        position: BEGINNING,
        errors: BTreeSet::new(),
    };
    for range in walk.fixed.clone().into_iter().chain(given(plan)) {
        walk.written.add(range);
    }
    walk.items(&plan.items);
    walk.errors
}

fn states(plan: &Plan) -> Vec<Range> {
    plan.states.iter().map(|state| plan.extent(state)).map(|r| (r.start, r.end)).collect()
}

/// What the host has written before the plan runs.
fn given(plan: &Plan) -> Vec<Range> {
    let inputs = plan.inputs.iter().map(|input| {
        let elements: u64 = input.axes.iter().map(|(_, size)| size).product();
        (input.offset, input.offset + elements * input.storage.bytes())
    });
    let buffers = plan.buffers.iter().filter(|b| b.category == Category::Inputs);
    inputs.chain(buffers.map(|b| (b.offset, b.offset + b.bytes))).collect()
}

/// A loop around the item in hand.
struct Around {
    /// The turn in hand.
    turn: u64,
    /// Lowest and highest turn.
    turns: (u64, u64),
    /// What its body writes in all turns, and the position of the loop's end.
    writes: Vec<Range>,
    end: u32,
}

struct Walk<'p> {
    plan: &'p Plan,
    fixed: Vec<Range>,
    written: Written,
    loops: Vec<Around>,
    position: u32,
    errors: BTreeSet<String>,
}

impl Walk<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            self.position += 1;
            match item {
                Item::Launch { parts, .. } => {
                    for part in parts {
                        let info = &self.plan.kernels[part.kernel as usize];
                        for (argument, address) in info.arguments.iter().zip(&part.buffers) {
                            let what = format!("argument `{}` of `{}`", argument.name, info.name);
                            let reads = argument.access == Access::Read;
                            self.touch(&what, address, argument.bytes, reads);
                        }
                    }
                    let plan = self.plan;
                    for (address, bytes, _) in
                        parts.iter().flat_map(|p| plan.accesses(p)).filter(|(.., writes)| *writes)
                    {
                        self.write(address, bytes);
                    }
                }
                Item::Copy { from, to, bytes, .. } => {
                    let [from, to] = [from, to].map(|end| self.plan.flat_end(end));
                    self.touch("a copy's source", &from, *bytes, true);
                    self.touch("a copy's target", &to, *bytes, false);
                    self.write(&to, *bytes);
                }
                Item::Loop { first, count, reversed, body, .. } => {
                    self.repeat((*first, *count, *reversed), body);
                }
            }
            self.free();
        }
    }

    fn repeat(&mut self, (first, count, reversed): (u64, u64, bool), body: &[Item]) {
        let begin = self.position;
        let end = begin + length(body) + 1;
        if count > 0 {
            let last = first + count - 1;
            let (early, late) = if reversed { (last, first) } else { (first, last) };
            let turns = (first, last);
            self.loops.push(Around { turn: early, turns, writes: Vec::new(), end });
            self.items(body);
            if count > 1 {
                let around = self.loops.last_mut().expect("just entered");
                around.turn = late;
                let writes = std::mem::take(&mut around.writes);
                writes.into_iter().for_each(|range| self.written.add(range));
                self.position = begin;
                self.items(body);
            }
            self.loops.pop();
        }
        self.position = end;
    }

    /// Checks one access.
    fn touch(&mut self, what: &str, address: &Address, bytes: u64, reads: bool) {
        if bytes == 0 {
            return;
        }
        let (from, to) = self.reach(address, bytes);
        match self.holder(from, self.position) {
            None => {
                let byte = super::byte(self.plan, from);
                let message = format!("{what} touches {byte}, where nothing is live");
                self.errors.insert(message);
            }
            Some((end, name)) if to > end => {
                self.errors.insert(format!("{what} runs out of `{name}`"));
            }
            Some((_, name)) => {
                let now = self.now(address);
                if reads && !self.written.covers((now, now + bytes)) {
                    self.errors.insert(format!("{what} reads `{name}` before it is written"));
                }
            }
        }
    }

    fn write(&mut self, address: &Address, bytes: u64) {
        let now = self.now(address);
        self.written.add((now, now + bytes));
        let (from, to) = self.reach(address, bytes);
        // What lives for a turn is written by no other turn.
        let stays = |end: u32| self.holder(from, end).is_some_and(|(last, _)| to <= last);
        let around: Vec<bool> = self.loops.iter().map(|l| stays(l.end)).collect();
        for (inner, stays) in self.loops.iter_mut().zip(around) {
            if stays {
                inner.writes.push((from, to));
            }
        }
    }

    /// The buffer or state that holds a byte at a position: where it ends, and its name.
    fn holder(&self, byte: u64, position: u32) -> Option<(u64, &str)> {
        let state = self.fixed.iter().find(|(from, to)| *from <= byte && byte < *to);
        if let Some((_, end)) = state {
            return Some((*end, "a state"));
        }
        let found = self.plan.buffers.iter().find(|b| {
            let offset = self.plan.flat(b.category.memory(), b.offset);
            let (live, inside) = (b.live.0..=b.live.1, offset..offset + b.bytes);
            !b.category.is_state() && live.contains(&position) && inside.contains(&byte)
        });
        let end = |b: &PlanBuffer| self.plan.flat(b.category.memory(), b.offset) + b.bytes;
        found.map(|b| (end(b), b.name.as_str()))
    }

    /// Buffers that end here hold nothing any more.
    fn free(&mut self) {
        for buffer in self.plan.buffers.iter().filter(|b| b.live.1 == self.position) {
            if !buffer.category.is_state() && buffer.category != Category::Inputs {
                let offset = self.plan.flat(buffer.category.memory(), buffer.offset);
                self.written.remove((offset, offset + buffer.bytes));
            }
        }
    }

    /// The address in the turns in hand.
    fn now(&self, address: &Address) -> u64 {
        let turns: Vec<u64> = self.loops.iter().map(|l| l.turn).collect();
        address.at(&turns)
    }

    /// All bytes that an access touches in any turn.
    fn reach(&self, address: &Address, bytes: u64) -> Range {
        let (mut from, mut to) = (address.base, address.base);
        for term in &address.turns {
            let (first, last) = self.loops[term.depth as usize].turns;
            let [first, last] = [first, last].map(|turn| turn.wrapping_add_signed(term.shift));
            let (low, high) = match term.modulus {
                0 => (first, last),
                modulus if last - first + 1 >= modulus => (0, modulus - 1),
                modulus if first / modulus == last / modulus => (first % modulus, last % modulus),
                modulus => (0, modulus - 1),
            };
            from += term.stride * low;
            to += term.stride * high;
        }
        (from, to + bytes)
    }
}

/// Number of positions of some items.
fn length(items: &[Item]) -> u32 {
    let of = |item: &Item| match item {
        Item::Loop { body, .. } => 2 + length(body),
        _ => 1,
    };
    items.iter().map(of).sum()
}

/// Disjoint ranges that do not touch: their ends by their beginnings.
#[derive(Default)]
struct Written(BTreeMap<u64, u64>);

impl Written {
    fn add(&mut self, (mut from, mut to): Range) {
        while let Some((a, b)) = self.0.range(..=to).next_back().map(|(a, b)| (*a, *b)) {
            if b < from {
                break;
            }
            (from, to) = (from.min(a), to.max(b));
            self.0.remove(&a);
        }
        self.0.insert(from, to);
    }

    fn remove(&mut self, (from, to): Range) {
        while let Some((a, b)) = self.0.range(..to).next_back().map(|(a, b)| (*a, *b)) {
            if b <= from {
                break;
            }
            self.0.remove(&a);
            if b > to {
                self.0.insert(to, b);
            }
            if a < from {
                self.0.insert(a, from);
            }
        }
    }

    fn covers(&self, (from, to): Range) -> bool {
        self.0.range(..=from).next_back().is_some_and(|(_, end)| to <= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{buffer, copy, error, looped, plan, stack};
    use crate::plan_verify::verify;

    #[test]
    fn what_is_written_before_is_read_after() {
        let mut plan = plan(vec![copy(0, 64), copy(64, 128)]);
        verify(&plan).unwrap();
        plan.items.reverse();
        assert_eq!(error(&plan), "a copy's source reads `a` before it is written");
    }

    #[test]
    fn a_freed_buffer_is_not_touched() {
        // Positions: 2 and 3. `a` lives to 2 alone.
        let mut plan = plan(vec![copy(0, 64), copy(0, 64)]);
        plan.buffers[1] = buffer("a", 64, 64, (2, 2));
        assert_eq!(error(&plan), "a copy's target touches byte 64, where nothing is live");
    }

    #[test]
    fn what_a_turn_made_is_gone_in_the_next() {
        let body = vec![copy(64, 128), copy(0, 64)];
        let mut plan = plan(vec![copy(0, 64), looped(4, false, body)]);
        verify(&plan).unwrap();
        // The loop is at 3, its body at 4 and 5, its end at 6.
        plan.buffers[1] = buffer("a", 64, 64, (2, 5));
        assert_eq!(error(&plan), "a copy's source reads `a` before it is written");
    }

    #[test]
    fn strides_stay_inside_a_buffer() {
        let slice = |stride| stack(256, stride);
        let write = |stride| vec![looped(4, false, vec![copy(0, slice(stride))])];
        verify(&plan(write(64))).unwrap();
        assert_eq!(error(&plan(write(128))), "a copy's target runs out of `stack`");
    }

    #[test]
    fn a_stack_is_read_where_it_was_written() {
        let read = |turns| looped(turns, true, vec![copy(stack(256, 64), 64)]);
        let write = |turns| looped(turns, false, vec![copy(0, stack(256, 64))]);
        verify(&plan(vec![write(4), read(4)])).unwrap();
        let wanted = "a copy's source reads `stack` before it is written";
        assert_eq!(error(&plan(vec![write(3), read(4)])), wanted);
        assert_eq!(error(&plan(vec![read(4), write(4)])), wanted);
    }

    #[test]
    fn carried_values_rotate() {
        let slot = |shift| {
            let mut slot = stack(256, 64);
            slot.turns[0].modulus = 2;
            slot.turns[0].shift = shift;
            slot
        };
        let body = vec![copy(slot(0), slot(1))];
        let wanted = "a copy's source reads `stack` before it is written";
        assert_eq!(error(&plan(vec![looped(5, false, body.clone())])), wanted);
        verify(&plan(vec![copy(0, 256), looped(5, false, body)])).unwrap();
    }
}
