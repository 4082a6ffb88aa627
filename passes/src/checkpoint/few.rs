//! Exact assignments for few layers, where fractions of a layer are too much.
//!
//! Layer after layer takes a choice. Of the assignments so far only those go on that no other equals
//! or beats in both bytes and seconds, and that can still become better than what is known: what
//! the other layers take at least is the linear relaxation of what is left. So nearly all of them
//! end early, and what is left at the end is the best assignment of any number of choices. When
//! more than [`WIDTH`] go on, those that promise least are dropped, and the least that they
//! promised is the bound.

use super::mix::{Layers, Mixes, Share};

/// Layers in all loops together up to which assignments are tried.
pub(super) const FEW: u64 = 16;
/// Assignments that go on from one layer to the next.
const WIDTH: usize = 4096;
/// What counts as fewer seconds, as a part of them: sums in another order differ by rounding.
const FEWER: f64 = 1e-9;

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The best assignment, when it takes fewer seconds than what is known.
    pub(super) better: Option<Mixes>,
    /// No assignment takes fewer seconds.
    pub(super) bound: f64,
}

/// Looks for an assignment within so many bytes that takes fewer seconds than one that is known.
pub(super) fn search(loops: &[Layers], bytes: u64, known: f64) -> Found {
    search_within(loops, bytes, known, WIDTH)
}

/// An assignment to the layers so far.
struct Partial {
    bytes: u64,
    seconds: f64,
    /// With what the other layers take at least.
    least: f64,
    /// The choice of the last layer, and the assignment to those before it.
    choice: usize,
    before: usize,
}

fn search_within(loops: &[Layers], bytes: u64, known: f64, width: usize) -> Found {
    let each: Vec<usize> =
        (0..loops.len()).flat_map(|i| std::iter::repeat_n(i, loops[i].count as usize)).collect();
    let limit = known * (1.0 - FEWER);
    let (mut dropped, mut start) = (f64::INFINITY, 0);
    let mut all = vec![Partial { bytes: 0, seconds: 0.0, least: 0.0, choice: 0, before: 0 }];
    for (layer, which) in each.iter().enumerate() {
        let rest = Relaxed::of(loops, &each[layer + 1..]);
        let one = &loops[*which];
        let mut next = Vec::new();
        for (before, partial) in all.iter().enumerate().skip(start) {
            for (choice, taken) in one.choices.list.iter().enumerate() {
                let now = partial.bytes + taken.bytes;
                let seconds = partial.seconds + one.runs as f64 * taken.seconds;
                let Some(more) = bytes.checked_sub(now).and_then(|left| rest.seconds(left)) else {
                    continue;
                };
                let least = seconds + more;
                if least < limit {
                    next.push(Partial { bytes: now, seconds, least, choice, before });
                }
            }
        }
        let mut next = undominated(next);
        if next.len() > width {
            next.sort_by(|a, b| a.least.total_cmp(&b.least));
            dropped = next[width..].iter().map(|p| p.least).fold(dropped, f64::min);
            next.truncate(width);
        }
        start = all.len();
        all.extend(next);
    }
    let whole = (start..all.len()).min_by(|a, b| all[*a].seconds.total_cmp(&all[*b].seconds));
    let better = whole.map(|last| mixes(loops, &each, &all, last));
    let seconds = better.as_ref().map_or(known, |b| b.seconds);
    Found { better, bound: dropped.min(seconds) }
}

fn undominated(mut all: Vec<Partial>) -> Vec<Partial> {
    all.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.seconds.total_cmp(&b.seconds)));
    let mut least = f64::INFINITY;
    all.retain(|p| {
        p.seconds < least && {
            least = p.seconds;
            true
        }
    });
    all
}

/// The choices that lead to an assignment to all layers.
fn mixes(loops: &[Layers], each: &[usize], all: &[Partial], last: usize) -> Mixes {
    let mut taken: Vec<Vec<u64>> = loops.iter().map(|l| vec![0; l.choices.list.len()]).collect();
    let mut at = last;
    for which in each.iter().rev() {
        taken[*which][all[at].choice] += 1;
        at = all[at].before;
    }
    let shares = |counts: &Vec<u64>| {
        let some = counts.iter().enumerate().filter(|(_, layers)| **layers > 0);
        some.map(|(choice, layers)| Share { choice, layers: *layers }).collect()
    };
    Mixes::of(loops, taken.iter().map(shares).collect())
}

/// The linear relaxation of some layers: corners of the least seconds against bytes.
struct Relaxed {
    /// Bytes and seconds, from the least bytes on.
    corners: Vec<(f64, f64)>,
}

impl Relaxed {
    fn of(loops: &[Layers], layers: &[usize]) -> Self {
        let mut first = (0.0, 0.0);
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for which in layers {
            let one = &loops[*which];
            let (list, hull) = (&one.choices.list, one.choices.hull());
            let runs = one.runs as f64;
            first.0 += list[hull[0]].bytes as f64;
            first.1 += runs * list[hull[0]].seconds;
            for pair in hull.windows(2) {
                let (from, to) = (&list[pair[0]], &list[pair[1]]);
                steps.push(((to.bytes - from.bytes) as f64, runs * (from.seconds - to.seconds)));
            }
        }
        steps.sort_by(|a, b| (b.1 / b.0).total_cmp(&(a.1 / a.0)));
        let mut corners = vec![first];
        for (cost, gain) in steps {
            let (bytes, seconds) = corners[corners.len() - 1];
            corners.push((bytes + cost, seconds - gain));
        }
        Self { corners }
    }

    /// The least seconds within so many bytes; none when they are too few.
    fn seconds(&self, bytes: u64) -> Option<f64> {
        let bytes = bytes as f64;
        let next = self.corners.partition_point(|(b, _)| *b <= bytes);
        let (from, before) = *self.corners.get(next.checked_sub(1)?)?;
        let Some((to, after)) = self.corners.get(next) else { return Some(before) };
        Some(before + (after - before) * (bytes - from) / (to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::mix::tests::{brute_force, layers};
    use super::*;

    const POINTS: &[(u64, f64)] = &[(1, 9.0), (3, 5.0), (4, 4.5), (8, 1.0), (11, 0.0)];

    #[test]
    fn the_best_assignment_of_any_number_of_choices() {
        let dear = Layers { runs: 3, ..layers(2, &[(2, 7.0), (4, 3.0), (9, 0.0)]) };
        let cases = [vec![layers(5, POINTS)], vec![layers(3, POINTS), dear]];
        for loops in cases {
            for bytes in 0..=60 {
                let exact = brute_force(&loops, bytes);
                let found = search(&loops, bytes, 1e3);
                assert_eq!(found.better.as_ref().map(|b| b.seconds), exact, "{bytes}");
                let Some(exact) = exact else { continue };
                assert_eq!(found.bound, exact);
                let better = found.better.expect("one was found");
                assert!(better.bytes <= bytes);
                // When it is known, nothing is better, and that is proved.
                let again = search(&loops, bytes, exact);
                assert_eq!((again.better, again.bound), (None, exact));
            }
        }
    }

    #[test]
    fn what_is_dropped_lowers_the_bound() {
        let loops = [layers(5, POINTS)];
        for bytes in 5..=55 {
            let exact = brute_force(&loops, bytes).expect("the least bytes are 5");
            for width in 1..4 {
                let found = search_within(&loops, bytes, 46.0, width);
                assert!(found.bound <= exact + 1e-9, "{bytes} {width}");
                assert!(found.better.is_none_or(|b| b.seconds >= exact - 1e-9));
            }
        }
    }
}
