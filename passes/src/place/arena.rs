//! Offsets by lifetime: one buffer after another, each at the lowest offset where nothing that
//! lives at the same time lies.
//!
//! Which buffer is next decides how much is wasted, so several orders are tried: largest first,
//! largest product of bytes and lifetime first, longest life first. Each is then mended: the buffer
//! that reaches the highest goes to the front. It ends at the lower bound or after [`ROUNDS`] mends.

use std::cmp::Reverse;

use gigac_ir::plan::Memory;

use super::aligned;
use super::walk::Buffer;

/// How often an order is mended.
const ROUNDS: usize = 16;

/// Offsets of all buffers of a memory, bytes of its arena, and the largest number of bytes live at
/// one time (fixed buffers included).
pub(crate) fn place(buffers: &[Buffer], memory: Memory, fixed_bytes: u64) -> (Vec<u64>, u64, u64) {
    let moves = |b: &Buffer| b.fixed.is_none() && b.category.memory() == memory;
    let least = fixed_bytes + peak(buffers.iter().filter(|b| moves(b)));
    let life = |i: &usize| u64::from(buffers[*i].live.1 - buffers[*i].live.0) + 1;
    let moving = || (0..buffers.len()).filter(|i| moves(&buffers[*i]));
    let by = |key: &dyn Fn(&usize) -> u128| {
        let mut order: Vec<usize> = moving().collect();
        order.sort_by_key(|i| (Reverse(key(i)), *i));
        order
    };
    let bytes = |i: &usize| u128::from(buffers[*i].bytes);
    let orders = [by(&bytes), by(&|i| bytes(i) * u128::from(life(i))), by(&|i| life(i).into())];
    let mut best: Option<(Vec<u64>, u64)> = None;
    for mut order in orders {
        for _ in 0..=ROUNDS {
            let (offsets, end) = in_order(buffers, &order, fixed_bytes);
            let highest =
                order.iter().position(|i| offsets[*i] + aligned(buffers[*i].bytes) == end);
            if best.as_ref().is_none_or(|(_, known)| end < *known) {
                best = Some((offsets, end));
            }
            match highest {
                Some(at) if at > 0 && end > least => order[..=at].rotate_right(1),
                _ => break,
            }
        }
        if best.as_ref().is_some_and(|(_, end)| *end == least) {
            break;
        }
    }
    let (offsets, end) = best.expect("there is an order");
    (offsets, end, least)
}

/// Places buffers in an order: offsets, and where the last one ends.
fn in_order(buffers: &[Buffer], order: &[usize], fixed_bytes: u64) -> (Vec<u64>, u64) {
    let mut offsets: Vec<u64> = buffers.iter().map(|b| b.fixed.unwrap_or(0)).collect();
    let mut end = fixed_bytes;
    // By offset.
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for i in order {
        let bytes = aligned(buffers[*i].bytes);
        let mut offset = fixed_bytes;
        for j in placed.iter().filter(|j| overlap(buffers[*i].live, buffers[**j].live)) {
            if offset + bytes <= offsets[*j] {
                break;
            }
            offset = offset.max(offsets[*j] + aligned(buffers[*j].bytes));
        }
        offsets[*i] = offset;
        end = end.max(offset + bytes);
        placed.insert(placed.partition_point(|j| offsets[*j] <= offset), *i);
    }
    (offsets, end)
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// Largest sum of sizes of buffers that live at one position.
fn peak<'b>(moving: impl Iterator<Item = &'b Buffer>) -> u64 {
    let mut changes: Vec<(u32, i64)> = Vec::new();
    for buffer in moving {
        let bytes = aligned(buffer.bytes) as i64;
        changes.push((buffer.live.0, bytes));
        changes.push((buffer.live.1 + 1, -bytes));
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0i64, 0i64);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    most as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigac_ir::plan::Category;

    fn buffer(bytes: u64, live: (u32, u32)) -> Buffer {
        Buffer { category: Category::Transient, bytes, live, fixed: None }
    }

    #[test]
    fn buffers_that_never_meet_share_bytes() {
        let buffers = [buffer(128, (0, 1)), buffer(64, (2, 3)), buffer(64, (2, 4))];
        let (offsets, bytes, live) = place(&buffers, Memory::Device, 64);
        assert_eq!(offsets, [64, 64, 128]);
        assert_eq!((bytes, live), (192, 192));
    }

    /// Largest first, both buffers of three units take the bottom, and the third one lies on top of the
    /// second: seven units where five are enough.
    #[test]
    fn an_order_is_mended() {
        let unit = 64;
        let buffers = [
            buffer(3 * unit, (0, 1)),
            buffer(2 * unit, (0, 3)),
            buffer(2 * unit, (2, 5)),
            buffer(unit, (2, 3)),
            buffer(3 * unit, (4, 5)),
        ];
        let (_, bytes, live) = place(&buffers, Memory::Device, 0);
        assert_eq!((bytes, live), (5 * unit, 5 * unit));
    }

    #[test]
    fn living_together_means_lying_apart() {
        let buffers: Vec<Buffer> =
            (0..40).map(|i| buffer(1 + i * 37 % 500, (i as u32 % 7, i as u32 % 7 + 3))).collect();
        let (offsets, ..) = place(&buffers, Memory::Device, 0);
        for i in 0..buffers.len() {
            for j in 0..i {
                let apart = offsets[i] + buffers[i].bytes <= offsets[j]
                    || offsets[j] + buffers[j].bytes <= offsets[i];
                assert!(apart || !overlap(buffers[i].live, buffers[j].live), "{i} and {j}");
            }
        }
    }
}
