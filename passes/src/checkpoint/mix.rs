//! Which layers take which choice: the least seconds for a number of bytes.
//!
//! Layers of one loop are alike, so only how many take a choice matters; those that take the same
//! become a segment. **The best mixture of two choices is found exactly**, by trying all pairs of
//! choices, for each of which the number of layers follows from the bytes. The **bound** is the
//! linear relaxation, in which a fraction of a layer may take a choice: the lower convex hull of the
//! choices. No assignment of choices to layers, of any number of choices, is below it. Of many layers
//! the two are close. Where layers are few, `few` finds the best assignment of all.
//!
//! Several loops share the bytes: fronts of bytes and seconds are merged one loop after another.

use super::choices::Choices;
use super::few::{self, FEW};

/// Numbers of layers that are tried for a pair of choices when several loops share the bytes.
const COUNTS: u64 = 32;
/// Points of a front that are kept when fronts are merged.
const POINTS: usize = 1024;

/// The loops of a program, as far as choosing goes.
#[derive(Clone, Debug)]
pub struct Layers {
    /// What a layer can do.
    pub choices: Choices,
    /// Number of layers.
    pub count: u64,
    /// How often the loop runs in a step.
    pub runs: u64,
}

/// Layers of a loop that take the same choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The choice.
    pub choice: usize,
    /// How many layers take it.
    pub layers: u64,
}

/// Two choices for the layers of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mix {
    /// A choice with fewer bytes.
    less: usize,
    /// A choice with more bytes, or the same.
    more: usize,
    /// Layers that take `more`.
    count: u64,
}

/// Mixtures for all loops.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixes {
    /// For each loop, from the choice of the least bytes on.
    pub list: Vec<Vec<Share>>,
    /// Bytes of all stacks.
    pub bytes: u64,
    /// Seconds that a step takes longer than when everything is kept.
    pub seconds: f64,
}

impl Mixes {
    /// Shares of the layers of each loop, with their bytes and seconds.
    pub(super) fn of(loops: &[Layers], list: Vec<Vec<Share>>) -> Self {
        let (mut bytes, mut seconds) = (0, 0.0);
        for (one, shares) in loops.iter().zip(&list) {
            let (b, s) = one.price(shares);
            bytes += b;
            seconds += s;
        }
        Self { list, bytes, seconds }
    }
}

impl Layers {
    /// Bytes and seconds of shares of the layers.
    fn price(&self, shares: &[Share]) -> (u64, f64) {
        let (mut bytes, mut seconds) = (0, 0.0);
        for share in shares {
            let choice = &self.choices.list[share.choice];
            bytes += share.layers * choice.bytes;
            seconds += share.layers as f64 * choice.seconds;
        }
        (bytes, self.runs as f64 * seconds)
    }

    fn shares(&self, mix: Mix) -> [Share; 2] {
        [
            Share { choice: mix.less, layers: self.count - mix.count },
            Share { choice: mix.more, layers: mix.count },
        ]
    }

    /// The best mixture of at most two choices within so many bytes.
    fn best(&self, bytes: u64) -> Option<Mix> {
        let list = &self.choices.list;
        let mut best: Option<(f64, u64, Mix)> = None;
        for less in 0..list.len() {
            let least = self.count * list[less].bytes;
            let Some(left) = bytes.checked_sub(least) else { break };
            for more in less..list.len() {
                let step = list[more].bytes - list[less].bytes;
                let count = left.checked_div(step).map_or(self.count, |n| n.min(self.count));
                let mix = Mix { less, more, count };
                let (bytes, seconds) = self.price(&self.shares(mix));
                let better = best.is_none_or(|(s, b, _)| (seconds, bytes) < (s, b));
                if better {
                    best = Some((seconds, bytes, mix));
                }
            }
        }
        best.map(|(.., mix)| mix)
    }

    /// Mixtures of which none is worse than another in both bytes and seconds.
    fn front(&self) -> Vec<(u64, f64, Mix)> {
        let list = &self.choices.list;
        let mut all = Vec::new();
        for less in 0..list.len() {
            for more in less + 1..list.len() {
                for n in 0..=self.count.min(COUNTS) {
                    let mix =
                        Mix { less, more, count: self.count * n / self.count.clamp(1, COUNTS) };
                    let (bytes, seconds) = self.price(&self.shares(mix));
                    all.push((bytes, seconds, mix));
                }
            }
        }
        if list.len() == 1 {
            let mix = Mix { less: 0, more: 0, count: self.count };
            let (bytes, seconds) = self.price(&self.shares(mix));
            all.push((bytes, seconds, mix));
        }
        undominated(all)
    }
}

fn undominated<T>(mut all: Vec<(u64, f64, T)>) -> Vec<(u64, f64, T)> {
    all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best: Vec<(u64, f64, T)> = Vec::new();
    for point in all {
        if best.last().is_none_or(|last| point.1 < last.1) {
            best.push(point);
        }
    }
    best
}

/// The least seconds of all loops within so many bytes, and a bound below those of any assignment;
/// none when even the least bytes are more.
pub fn solve(loops: &[Layers], bytes: u64) -> Option<(Mixes, f64)> {
    let (mixes, relaxed) = (best(loops, bytes)?, bound(loops, bytes)?);
    if loops.iter().map(|l| l.count).sum::<u64>() > FEW {
        return Some((mixes, relaxed));
    }
    let found = few::search(loops, bytes, mixes.seconds);
    // What is kept unasked is in no choice: only the relaxation knows of it.
    let all = loops.iter().all(|l| l.choices.unasked == 0);
    let bound = if all { relaxed.max(found.bound) } else { relaxed };
    Some((found.better.unwrap_or(mixes), bound))
}

/// The least seconds of all loops within so many bytes; none when even the least bytes are more.
/// Exact among mixtures of two choices for one loop.
fn best(loops: &[Layers], bytes: u64) -> Option<Mixes> {
    let (last, others) = loops.split_last()?;
    let mut fronts = vec![(0_u64, 0.0_f64, Vec::new())];
    for one in others {
        let front = one.front();
        let merged = fronts.iter().flat_map(|(bytes, seconds, list)| {
            front.iter().map(move |(b, s, mix)| {
                let list: Vec<Mix> = list.iter().copied().chain([*mix]).collect();
                (bytes + b, seconds + s, list)
            })
        });
        fronts = thin(undominated(merged.collect()));
    }
    let whole = fronts.into_iter().filter_map(|(used, _, mut list)| {
        list.push(last.best(bytes.checked_sub(used)?)?);
        let shares = loops.iter().zip(&list).map(|(one, mix)| {
            one.shares(*mix).into_iter().filter(|share| share.layers > 0).collect()
        });
        Some(Mixes::of(loops, shares.collect()))
    });
    whole.min_by(|a, b| a.seconds.total_cmp(&b.seconds).then(a.bytes.cmp(&b.bytes)))
}

/// Evenly spaced points of a front, both ends among them.
fn thin<T: Clone>(front: Vec<T>) -> Vec<T> {
    if front.len() <= POINTS {
        return front;
    }
    (0..POINTS).map(|i| front[i * (front.len() - 1) / (POINTS - 1)].clone()).collect()
}

/// No assignment of choices to layers within so many bytes takes fewer seconds; none when there is
/// no assignment.
fn bound(loops: &[Layers], bytes: u64) -> Option<f64> {
    let mut left = bytes as f64;
    let mut seconds = 0.0;
    let mut least = 0.0;
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for one in loops {
        let (list, count) = (&one.choices.list, one.count as f64);
        // The most bytes take the least seconds, as far as choices go.
        let fastest = list[list.len() - 1].seconds;
        let known = one.choices.unasked == 0;
        least += if known { one.runs as f64 * count * fastest } else { f64::NEG_INFINITY };
        let hull = one.choices.hull();
        let first = &list[hull[0]];
        // What is kept unasked might not be kept.
        left -= count * first.bytes.saturating_sub(one.choices.unasked) as f64;
        seconds += one.runs as f64 * count * first.seconds;
        for pair in hull.windows(2) {
            let (from, to) = (&list[pair[0]], &list[pair[1]]);
            let gain = one.runs as f64 * count * (from.seconds - to.seconds);
            steps.push((count * (to.bytes - from.bytes) as f64, gain));
        }
    }
    if left < 0.0 {
        return None;
    }
    // Each loop's steps are the cheaper the earlier they come, so that sorting keeps their order.
    steps.sort_by(|a, b| (b.1 / b.0).total_cmp(&(a.1 / a.0)));
    for (cost, gain) in steps {
        let part = (left / cost).min(1.0);
        seconds -= part * gain;
        left -= part * cost;
    }
    Some(seconds.max(least))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::choices::Choice;
    use super::super::problem::Kept;
    use super::*;

    pub(crate) fn layers(count: u64, points: &[(u64, f64)]) -> Layers {
        let choice = |(bytes, seconds): &(u64, f64)| Choice {
            kept: Kept::all(0),
            bytes: *bytes,
            seconds: *seconds,
        };
        let list = points.iter().map(choice).collect();
        Layers { choices: Choices { list, unasked: 0 }, count, runs: 1 }
    }

    /// The least seconds over all assignments of choices to layers, by trying them all.
    pub(crate) fn brute_force(loops: &[Layers], bytes: u64) -> Option<f64> {
        let each: Vec<&Layers> =
            loops.iter().flat_map(|l| std::iter::repeat_n(l, l.count as usize)).collect();
        fn go(each: &[&Layers], bytes: u64) -> Option<f64> {
            let Some((first, rest)) = each.split_first() else { return Some(0.0) };
            let tries = first.choices.list.iter().filter_map(|c| {
                let after = go(rest, bytes.checked_sub(c.bytes)?)?;
                Some(after + first.runs as f64 * c.seconds)
            });
            tries.min_by(f64::total_cmp)
        }
        go(&each, bytes)
    }

    const POINTS: &[(u64, f64)] = &[(1, 9.0), (3, 5.0), (4, 4.5), (8, 1.0), (11, 0.0)];

    #[test]
    fn mixtures_are_exact_or_within_the_bound() {
        for count in 1..=5 {
            let loops = [layers(count, POINTS)];
            for bytes in 0..=11 * count + 2 {
                let exact = brute_force(&loops, bytes);
                let found = best(&loops, bytes);
                assert_eq!(exact.is_some(), found.is_some());
                assert_eq!(exact.is_some(), bound(&loops, bytes).is_some());
                let (Some(exact), Some(found)) = (exact, found) else { continue };
                let bound = bound(&loops, bytes).unwrap();
                assert!(found.bytes <= bytes);
                assert!(bound <= exact + 1e-9 && exact <= found.seconds + 1e-9);
                // A third choice gains at most what one layer has to gain.
                assert!(found.seconds - exact <= 4.5, "{count} {bytes}");
                if count <= 2 {
                    assert_eq!(found.seconds, exact, "two layers take at most two choices");
                }
            }
        }
    }

    #[test]
    fn two_choices_are_the_best_two() {
        let one = layers(6, POINTS);
        for bytes in 6..=70 {
            let all = (0..5).flat_map(|less| {
                (less..5).flat_map(move |more| (0..=6).map(move |count| Mix { less, more, count }))
            });
            let prices = all.map(|mix| one.price(&one.shares(mix))).filter(|(b, _)| *b <= bytes);
            let least = prices.map(|(_, s)| s).min_by(f64::total_cmp).unwrap();
            assert_eq!(best(std::slice::from_ref(&one), bytes).unwrap().seconds, least);
        }
    }

    #[test]
    fn loops_share_the_bytes() {
        let cheap = layers(2, &[(1, 2.0), (5, 0.0)]);
        let dear = Layers { runs: 3, ..layers(2, &[(2, 7.0), (4, 3.0), (9, 0.0)]) };
        let loops = [cheap, dear];
        for bytes in 0..=30 {
            let exact = brute_force(&loops, bytes);
            let found = best(&loops, bytes);
            assert_eq!(found.as_ref().map(|m| m.seconds), exact, "{bytes}");
            if let Some(exact) = exact {
                assert!(bound(&loops, bytes).unwrap() <= exact + 1e-9);
            }
        }
    }

    #[test]
    fn depth_does_not_matter_to_the_work() {
        let deep = layers(1 << 40, POINTS);
        let half = best(std::slice::from_ref(&deep), 6 << 40).unwrap();
        let bound = bound(std::slice::from_ref(&deep), 6 << 40).unwrap();
        assert!((half.seconds - bound) / bound < 1e-9);
    }
}
