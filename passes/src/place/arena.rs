//! Offsets by lifetime: largest buffers first, each at the lowest offset where nothing that lives
//! at the same time lies.

use super::aligned;
use super::walk::Buffer;

/// Offsets of all buffers, bytes of the arena, and the largest number of bytes live at one time
/// (fixed buffers included).
pub(crate) fn place(buffers: &[Buffer], fixed_bytes: u64) -> (Vec<u64>, u64, u64) {
    let mut offsets = vec![0; buffers.len()];
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(buffers[*i].bytes), *i));
    let mut placed: Vec<usize> = Vec::new();
    let mut end = fixed_bytes;
    for i in order {
        if let Some(offset) = buffers[i].fixed {
            offsets[i] = offset;
            continue;
        }
        let bytes = aligned(buffers[i].bytes);
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|j| overlap(buffers[i].live, buffers[**j].live))
            .map(|j| (offsets[*j], offsets[*j] + aligned(buffers[*j].bytes)))
            .collect();
        taken.sort_unstable();
        let mut offset = fixed_bytes;
        for (from, to) in taken {
            if offset + bytes <= from {
                break;
            }
            offset = offset.max(to);
        }
        offsets[i] = offset;
        end = end.max(offset + bytes);
        placed.push(i);
    }
    (offsets, end, fixed_bytes + peak(buffers))
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// Largest sum of sizes of buffers that live at one position.
fn peak(buffers: &[Buffer]) -> u64 {
    let moving = buffers.iter().filter(|b| b.fixed.is_none());
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
        Buffer { name: String::new(), category: Category::Transient, bytes, live, fixed: None }
    }

    #[test]
    fn buffers_that_never_meet_share_bytes() {
        let buffers = [buffer(128, (0, 1)), buffer(64, (2, 3)), buffer(64, (2, 4))];
        let (offsets, bytes, live) = place(&buffers, 64);
        assert_eq!(offsets, [64, 64, 128]);
        assert_eq!((bytes, live), (192, 192));
    }

    #[test]
    fn living_together_means_lying_apart() {
        let buffers: Vec<Buffer> =
            (0..40).map(|i| buffer(1 + i * 37 % 500, (i as u32 % 7, i as u32 % 7 + 3))).collect();
        let (offsets, ..) = place(&buffers, 0);
        for i in 0..buffers.len() {
            for j in 0..i {
                let apart = offsets[i] + buffers[i].bytes <= offsets[j]
                    || offsets[j] + buffers[j].bytes <= offsets[i];
                assert!(apart || !overlap(buffers[i].live, buffers[j].live), "{i} and {j}");
            }
        }
    }
}
