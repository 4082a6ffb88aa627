//! The choices of a layer: pairs of bytes kept and seconds added, of which none is worse than
//! another in both.
//!
//! All sets of stacks are tried, `2ⁿ` for `n` that can be dropped at all, up to `MOST`. Beyond that the smaller
//! stacks are asked where that can matter: only a set of the larger ones that none beats, were the
//! smaller ones free, is tried with all sets of them, up to `MORE` in all. What is left stays kept,
//! and a bound says what this can cost. With offloading every
//! stack that is kept may be kept on the host: `3ⁿ` sets, up to `SETS`; beyond that the smallest
//! stay on the device.

use super::problem::{Kept, Problem};

/// Stacks that are chosen among: 262,144 sets.
const MOST: usize = 18;
/// Sets with smaller stacks dropped too that are tried.
const MORE: usize = 1 << 18;
/// Ways to keep, drop and offload stacks that are tried.
const SETS: u64 = 1 << 19;

/// What a layer can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The stacks that it keeps.
    pub kept: Kept,
    /// Those of them that it keeps on the host.
    pub host: Kept,
    /// Bytes of one layer on the device.
    pub bytes: u64,
    /// Seconds that a turn takes longer than when everything is kept.
    pub seconds: f64,
}

/// All choices that are worth taking, from the least bytes to the least seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    /// By bytes, ascending; seconds descend.
    pub list: Vec<Choice>,
    /// Bytes of stacks that were not asked everything, because there are too many.
    pub unasked: u64,
}

/// Bytes, seconds, and the sets of stacks that are dropped and that are on the host.
type Way = (u64, f64, (u32, u32));

/// The choices of a problem, with or without the host's memory.
pub fn choices(problem: &Problem, offload: bool) -> Choices {
    among(problem, offload, MOST)
}

/// The choices, all sets of so many stacks being tried.
fn among(problem: &Problem, offload: bool, most: usize) -> Choices {
    let count = problem.stacks.len();
    let fixed = problem.fixed();
    let mut largest: Vec<usize> = (0..count).collect();
    largest.sort_by_key(|i| (std::cmp::Reverse(problem.stacks[*i].bytes), *i));
    let mut free: Vec<usize> = largest.iter().copied().filter(|i| !fixed.has(*i)).collect();
    let mut smaller = free.split_off(most.min(free.len()));
    let moving = if offload { offered(&largest, &free) } else { Vec::new() };
    let moves = Moves::of(problem, &moving);
    // Sets in binary, each of which differs from the one before in few stacks.
    let mut kept = Kept::all(count);
    let mut sets = Vec::new();
    for set in 0..1_u32 << free.len() {
        for (bit, stack) in free.iter().enumerate().take(set.trailing_zeros() as usize + 1) {
            kept.set(*stack, set >> bit & 1 == 0);
        }
        let Some(seconds) = problem.seconds(&kept) else { continue };
        let (all, ways) = (problem.bytes(&kept), problem.ways(&kept).expect("nothing is lost"));
        for host in subsets(moves.mask(&kept)) {
            let (bytes, copies) = moves.sums[host as usize];
            sets.push((all - bytes, seconds + problem.seen(copies, ways), (set, host)));
        }
    }
    if !offload {
        smaller.truncate(u32::BITS as usize - 1 - free.len());
        let asked = ask(problem, &free, &smaller, &mut sets);
        free.extend(&smaller[..asked]);
    }
    let choice = |(bytes, seconds, (set, host)): Way| {
        let has = |list: &[usize], bits: u32, stack: usize| {
            list.iter().position(|f| *f == stack).is_some_and(|bit| bits >> bit & 1 == 1)
        };
        let kept = Kept::only(count, |stack| !has(&free, set, stack));
        let host = Kept::only(count, |stack| has(&moving, host, stack));
        Choice { kept, host, bytes, seconds }
    };
    let list = undominated(sets).into_iter().map(choice).collect();
    let asked = |i: &usize| (fixed.has(*i) || free.contains(i)) && (!offload || moving.contains(i));
    let unasked = largest.iter().filter(|i| !asked(i)).map(|i| problem.stacks[*i].bytes).sum();
    Choices { list, unasked }
}

/// Drops smaller stacks too, where no set is known that beats whatever can come of it. Gives how many of
/// them were asked, from the largest on.
fn ask(problem: &Problem, free: &[usize], smaller: &[usize], sets: &mut Vec<Way>) -> usize {
    let keeping = |dropped: u32, stacks: &[usize]| {
        let bit = |stack: usize| stacks.iter().position(|s| *s == stack);
        Kept::only(problem.stacks.len(), |i| bit(i).is_none_or(|bit| dropped >> bit & 1 == 0))
    };
    if smaller.is_empty() {
        return 0;
    }
    // At the least a set costs what runs again with the smaller stacks kept, less what need not run
    // forward with all of them dropped.
    let all: Vec<usize> = free.iter().chain(smaller).copied().collect();
    let rest = ((1_u32 << smaller.len()) - 1) << free.len();
    let least = |&(bytes, _, (set, _)): &Way| {
        let [kept, bare] = [set, set | rest].map(|dropped| keeping(dropped, &all));
        let again = problem.again_seconds(&kept).expect("sets that lose something are not listed");
        (bytes, again - problem.saved_seconds(&bare), set)
    };
    let least: Vec<(u64, f64, u32)> = sets.iter().map(least).collect();
    let known = undominated(sets.clone());
    let beaten = |bytes: u64, seconds: f64| {
        let below = known.partition_point(|(b, ..)| *b <= bytes);
        below > 0 && known[below - 1].1 <= seconds
    };
    for asked in (1..=smaller.len()).rev() {
        let bytes: u64 = smaller[..asked].iter().map(|i| problem.stacks[*i].bytes).sum();
        let open = least.iter().filter(|(all, seconds, _)| !beaten(all - bytes, *seconds));
        let open: Vec<u32> = open.map(|(_, _, set)| *set).collect();
        if open.len() << asked > MORE {
            continue;
        }
        for set in open {
            for more in 1..1_u32 << asked {
                let dropped = set | more << free.len();
                let kept = keeping(dropped, &all);
                if let Some(seconds) = problem.seconds(&kept) {
                    sets.push((problem.bytes(&kept), seconds, (dropped, 0)));
                }
            }
        }
        return asked;
    }
    0
}

/// Those of the stacks, from the largest on, that may be moved to the host.
fn offered(stacks: &[usize], free: &[usize]) -> Vec<usize> {
    let mut sets = 1_u64 << free.len();
    let fits = |stack: &usize| {
        // Dropped or kept in two memories; or just kept in two.
        sets = if free.contains(stack) { sets / 2 * 3 } else { sets * 2 };
        sets <= SETS
    };
    stacks.iter().copied().take_while(fits).collect()
}

/// All subsets of a set of bits, the empty one last.
fn subsets(all: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(all), move |set| (*set > 0).then(|| (set - 1) & all))
}

/// The stacks that may be moved to the host.
struct Moves {
    stacks: Vec<usize>,
    /// Bytes and seconds of copying, by set.
    sums: Vec<(u64, f64)>,
}

impl Moves {
    fn of(problem: &Problem, stacks: &[usize]) -> Self {
        let mut sums = vec![(0, 0.0)];
        for set in 1..1_usize << stacks.len() {
            let stack = &problem.stacks[stacks[set.trailing_zeros() as usize]];
            let (bytes, copies) = sums[set & (set - 1)];
            sums.push((bytes + stack.bytes, copies + stack.copy));
        }
        Self { stacks: stacks.to_vec(), sums }
    }

    /// Those of a set.
    fn mask(&self, kept: &Kept) -> u32 {
        let stacks = self.stacks.iter().enumerate().filter(|(_, stack)| kept.has(**stack));
        stacks.map(|(bit, _)| 1 << bit).sum()
    }
}

/// Those that no other equals or beats in both bytes and seconds; of equals the first.
fn undominated<T: Copy + Ord>(mut all: Vec<(u64, f64, T)>) -> Vec<(u64, f64, T)> {
    all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut least = f64::INFINITY;
    all.retain(|(_, seconds, _)| {
        let better = *seconds < least;
        least = least.min(*seconds);
        better
    });
    all
}

impl Choices {
    /// Indices of the corners of the lower convex hull: mixtures of neighbouring ones are the best
    /// that any mixture can do.
    pub fn hull(&self) -> Vec<usize> {
        let mut hull: Vec<usize> = Vec::new();
        for next in 0..self.list.len() {
            while let [.., a, b] = hull[..] {
                // `b` stays a corner when the way from it falls less steeply than the way to it.
                if self.slope(a, b) < self.slope(b, next) {
                    break;
                }
                hull.pop();
            }
            hull.push(next);
        }
        hull
    }

    /// Seconds per byte from one choice to another, negative.
    fn slope(&self, from: usize, to: usize) -> f64 {
        let (from, to) = (&self.list[from], &self.list[to]);
        (to.seconds - from.seconds) / (to.bytes - from.bytes) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::tests::{maker, stack};
    use super::super::problem::{Need, Problem};
    use super::*;

    /// A chain of products of growing price, each kept.
    fn chain(length: usize) -> Problem {
        let mut makers = vec![maker(0.0, &[Need::Copy(0)], &[])];
        let mut stacks = vec![stack(8, 0)];
        for i in 1..=length {
            makers.push(maker(1.0 + (i * 7 % 5) as f64, &[Need::Stack(i - 1)], &[i - 1]));
            stacks.push(stack(8 + (i * 5 % 7) as u64 * 8, i));
        }
        Problem { makers, stacks, back: 20.0, beside: true }
    }

    #[test]
    fn no_set_is_better() {
        let problem = chain(9);
        let found = choices(&problem, false);
        assert_eq!(found.unasked, 0);
        assert_eq!(found.list.first().map(|c| c.bytes), Some(8), "only the input");
        assert_eq!(found.list.last().map(|c| c.seconds), Some(0.0), "everything");
        for pair in found.list.windows(2) {
            assert!(pair[0].bytes < pair[1].bytes && pair[0].seconds > pair[1].seconds);
        }
        for set in 0..1_u32 << problem.stacks.len() {
            let kept = Kept::only(problem.stacks.len(), |i| set >> i & 1 == 1);
            let Some(seconds) = problem.seconds(&kept) else { continue };
            let bytes = problem.bytes(&kept);
            let beaten = found.list.iter().any(|c| c.bytes <= bytes && c.seconds <= seconds);
            assert!(beaten, "{kept:?}");
        }
    }

    #[test]
    fn too_many_stacks_keep_the_smallest() {
        let mut problem = chain(22);
        problem.stacks.iter_mut().for_each(|s| {
            s.bytes *= 1000;
            s.copy = 0.0;
        });
        (19..23).for_each(|i| problem.stacks[i].bytes = 1);
        let found = choices(&problem, true);
        assert_eq!(found.unasked % 1000, 4);
        assert!(found.list.iter().all(|c| (19..23).all(|i| c.kept.has(i))));
    }

    /// Smaller stacks that are asked where it matters lose nothing, makers that move to the way back
    /// included.
    #[test]
    fn smaller_stacks_are_asked() {
        for (length, wanted) in [(9, true), (11, true), (9, false), (11, false)] {
            let mut problem = chain(length);
            problem.makers.iter_mut().skip(3).step_by(2).for_each(|m| m.wanted = wanted);
            // The second of them makes a small stack beside a large one.
            problem.stacks.push(stack(1, 2));
            let all = choices(&problem, false);
            let some = among(&problem, false, 6);
            assert_eq!((all.unasked, some.unasked), (0, 0));
            let points = |c: &Choices| -> Vec<(u64, f64)> {
                c.list.iter().map(|c| (c.bytes, c.seconds)).collect()
            };
            assert_eq!(points(&all), points(&some));
        }
    }

    /// Every stack kept, dropped or kept on the host, by trying everything.
    #[test]
    fn no_way_to_offload_is_better() {
        for (beside, slow) in [(true, 1.0), (true, 9.0), (false, 1.0)] {
            let mut problem = chain(5);
            problem.beside = beside;
            problem.stacks.iter_mut().for_each(|s| s.copy *= slow);
            let found = choices(&problem, true);
            assert_eq!(found.unasked, 0);
            let count = problem.stacks.len();
            for set in 0..3_u32.pow(count as u32) {
                let state = |i: usize| set / 3_u32.pow(i as u32) % 3;
                let kept = Kept::only(count, |i| state(i) > 0);
                let host = Kept::only(count, |i| state(i) == 2);
                let Some(seconds) = problem.seconds_with(&kept, &host) else { continue };
                let bytes = problem.bytes(&kept) - problem.bytes(&host);
                let as_good = |c: &Choice| c.bytes <= bytes && c.seconds <= seconds + 1e-9;
                assert!(found.list.iter().any(as_good), "{kept:?} {host:?}");
            }
            for choice in &found.list {
                let seconds = problem.seconds_with(&choice.kept, &choice.host).expect("lost");
                assert!((seconds - choice.seconds).abs() < 1e-9);
                let host = problem.bytes(&choice.host);
                assert_eq!(choice.bytes, problem.bytes(&choice.kept) - host);
            }
        }
    }

    #[test]
    fn the_hull_lies_below_all_choices() {
        let found = choices(&chain(9), false);
        let hull = found.hull();
        assert_eq!((hull.first(), hull.last()), (Some(&0), Some(&(found.list.len() - 1))));
        for pair in hull.windows(2) {
            for choice in &found.list {
                let (a, b) = (&found.list[pair[0]], &found.list[pair[1]]);
                let slope = (b.seconds - a.seconds) / (b.bytes - a.bytes) as f64;
                let line = a.seconds + slope * (choice.bytes as f64 - a.bytes as f64);
                assert!(choice.seconds >= line - 1e-9);
            }
        }
    }
}
