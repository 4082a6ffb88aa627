//! What passes through the device on its way to the host and back.
//!
//! A stack in the host's memory has two slots on the device, which the turns of a loop use in
//! rotation. In the forward loop a slice is copied out as soon as it is made; its slot is made again
//! two turns later, when the copy has ended. In the reversed loop a slice may be copied in as soon
//! as the turn before the last one has read its slot, so a whole turn ahead of the one that reads
//! it. Copies run on a stream of their own, in the order of the text: no turn waits for the copies
//! of another but by events.

use gigac_ir::plan::{End, Item, Memory, Order, Wait};

use super::walk::Walk;
use crate::checkpoint::pair::touches;
use crate::form::{Segment, Stack};

/// Index of the stream of copies.
const COPYING: u32 = 1;

impl Walk<'_> {
    /// The stacks of a segment that lie on the host.
    pub(super) fn on_host(segment: &Segment) -> Vec<Stack> {
        segment.stacks.iter().copied().filter(|s| s.memory == Memory::Host).collect()
    }

    /// The body of a forward loop's segment with copies to the host. What comes after the loop
    /// waits for the last of them, since it may use their slots.
    pub(super) fn copying_out(&mut self, segment: &Segment, stacks: &[Stack]) -> Vec<Item> {
        self.prepare_all(&segment.body);
        let stacks: Vec<(Stack, [u32; 2])> =
            stacks.iter().map(|stack| (*stack, self.two_events())).collect();
        let mut items = Vec::new();
        for unit in &segment.body {
            let (_, makes) = touches(self.formed, unit);
            let mut made = self.unit(unit);
            let mut copies = Vec::new();
            for (stack, [ready, copied]) in &stacks {
                if makes.contains(&stack.slice) {
                    first(&mut made).waits.push(Wait { event: *copied, behind: 1 });
                    last(&mut made).expect(COMPUTES).records.push(*ready);
                    let waits = vec![Wait { event: *ready, behind: 0 }];
                    copies.push(self.copy(stack, true, waits, *copied));
                }
            }
            items.extend(made.into_iter().chain(copies));
        }
        self.after.extend(stacks.iter().map(|(_, [_, copied])| Wait { event: *copied, behind: 0 }));
        items
    }

    /// The body of a reversed loop's segment with copies from the host. The first of them waits for
    /// what comes before the loop, which may have used its slot.
    pub(super) fn copying_in(&mut self, segment: &Segment, stacks: &[Stack]) -> Vec<Item> {
        self.prepare_all(&segment.body);
        let reads: Vec<_> = segment.body.iter().map(|u| touches(self.formed, u).0).collect();
        let find = |stack: &Stack| {
            let mut at = (0..reads.len()).filter(|i| reads[*i].contains(&stack.slice));
            let from = at.next()?;
            Some((from, at.next_back().unwrap_or(from), *stack))
        };
        let mut read: Vec<(usize, usize, Stack)> = stacks.iter().filter_map(find).collect();
        read.sort_by_key(|(from, ..)| *from);
        let gate = self.event();
        self.gates.push(gate);
        let mut waits = vec![Wait { event: gate, behind: 0 }];
        let mut items = Vec::new();
        let mut events = Vec::new();
        for (.., stack) in &read {
            let [there, done] = self.two_events();
            waits.push(Wait { event: done, behind: 1 });
            items.push(self.copy(stack, false, std::mem::take(&mut waits), there));
            events.push([there, done]);
        }
        for (i, unit) in segment.body.iter().enumerate() {
            let mut used = self.unit(unit);
            for ((from, to, _), [there, done]) in read.iter().zip(&events) {
                if *from == i {
                    first(&mut used).waits.push(Wait { event: *there, behind: 0 });
                }
                if *to == i {
                    last(&mut used).expect(COMPUTES).records.push(*done);
                }
            }
            items.extend(used);
        }
        items
    }

    fn copy(&mut self, stack: &Stack, out: bool, waits: Vec<Wait>, records: u32) -> Item {
        self.position += 1;
        self.touch(stack.slice);
        self.touch(stack.whole);
        let device = End::device(self.address(stack.slice));
        let host = End::host(self.hosts[&stack.whole].clone());
        let (from, to) = if out { (device, host) } else { (host, device) };
        let order = Order { stream: COPYING, waits, records: vec![records] };
        Item::Copy { from, to, bytes: self.formed.bytes(stack.slice), order }
    }

    fn event(&mut self) -> u32 {
        self.events += 1;
        self.events - 1
    }

    fn two_events(&mut self) -> [u32; 2] {
        [self.event(), self.event()]
    }
}

/// Units come to launches.
const COMPUTES: &str = "a unit computes something";

fn order(item: &mut Item) -> Option<&mut Order> {
    match item {
        Item::Launch { order, .. } => Some(order),
        Item::Copy { .. } | Item::Loop { .. } => None,
    }
}

/// The first launch of some items.
fn first(items: &mut [Item]) -> &mut Order {
    fn find(items: &mut [Item]) -> Option<&mut Order> {
        items.iter_mut().find_map(|item| match item {
            Item::Loop { body, .. } => find(body),
            item => order(item),
        })
    }
    find(items).expect(COMPUTES)
}

/// The last launch of some items; none when there is none.
pub(super) fn last(items: &mut [Item]) -> Option<&mut Order> {
    items.iter_mut().rev().find_map(|item| match item {
        Item::Loop { body, .. } => last(body),
        item => order(item),
    })
}
