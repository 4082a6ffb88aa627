//! The order of samples: a pure function of seed and position, with no table.
//!
//! A pass over the data visits every window once, in an order given by a keyed permutation (a
//! Feistel network whose round function is Philox). Each pass shifts the windows by another
//! offset, so that their borders do not always fall on the same tokens.

use gigac_ir::philox::philox;

/// Rounds of the network: four make it indistinguishable from random with an ideal function.
const ROUNDS: u32 = 6;
/// Tells the randomness of the order from that of weights.
const TAG: u32 = 0x6f72_6472;

/// Windows of one length over a text of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Tokens from the start of one window to the next.
    length: u64,
    /// Windows of one pass.
    count: u64,
    /// Largest offset of the first window.
    slack: u64,
    key: [u32; 2],
}

impl Windows {
    /// Windows of `length + 1` tokens, overlapping by one, over `tokens`; absent when none fits.
    pub fn new(tokens: u64, length: u64, seed: u32, phase: u32) -> Option<Self> {
        let room = tokens.checked_sub(length + 1)?;
        let slack = room.min(length - 1);
        let count = (tokens - 1 - slack) / length;
        Some(Self { length, count, slack, key: [seed, TAG.wrapping_add(phase)] })
    }

    /// Where the `sample`-th window of the run begins.
    pub fn start(&self, sample: u64) -> u64 {
        let (pass, index) = (sample / self.count, sample % self.count);
        let [shift, ..] = philox(self.key, [pass as u32, (pass >> 32) as u32, 0, ROUNDS]);
        let window = permute(index, self.count, |half, round| {
            let [word, ..] = philox(self.key, [pass as u32, (pass >> 32) as u32, half, round]);
            word
        });
        u64::from(shift) % (self.slack + 1) + window * self.length
    }
}

/// A permutation of `0 .. count`: walks a Feistel network over the next even power of two until
/// it lands inside.
fn permute(index: u64, count: u64, function: impl Fn(u32, u32) -> u32) -> u64 {
    let half = (64 - (count - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1_u64 << half) - 1;
    let mut at = index;
    loop {
        let (mut left, mut right) = (at >> half, at & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (u64::from(function(right as u32, round)) & mask));
        }
        at = left << half | right;
        if at < count {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_pass_visits_every_window_once() {
        for tokens in [10, 11, 17, 100, 1_000, 4_097] {
            let windows = Windows::new(tokens, 8, 3, 0).unwrap();
            for pass in 0..3 {
                let starts: BTreeSet<u64> = (pass * windows.count..(pass + 1) * windows.count)
                    .map(|s| windows.start(s))
                    .collect();
                assert_eq!(starts.len() as u64, windows.count);
                assert!(starts.iter().all(|s| s + 9 <= tokens), "{tokens}: {starts:?}");
                let first = starts.first().unwrap();
                assert!(starts.iter().all(|s| (s - first).is_multiple_of(8)));
            }
        }
    }

    #[test]
    fn order_depends_on_seed_pass_and_phase() {
        let order = |seed, phase, pass: u64| -> Vec<u64> {
            let windows = Windows::new(10_000, 10, seed, phase).unwrap();
            (0..50).map(|i| windows.start(pass * windows.count + i)).collect()
        };
        assert_eq!(order(1, 0, 0), order(1, 0, 0));
        assert_ne!(order(1, 0, 0), order(2, 0, 0));
        assert_ne!(order(1, 0, 0), order(1, 1, 0));
        assert_ne!(order(1, 0, 0), order(1, 0, 1));
    }

    #[test]
    fn too_short_a_text_has_none() {
        assert!(Windows::new(8, 8, 0, 0).is_none());
        assert_eq!(Windows::new(9, 8, 0, 0).unwrap().start(5), 0);
    }
}
