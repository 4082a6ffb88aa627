//! The choices of a layer: pairs of bytes kept and seconds added, of which none is worse than
//! another in both.
//!
//! All sets of stacks are tried, `2ⁿ` for `n` that can be dropped at all, up to `MOST`; beyond
//! that the smallest stacks stay kept, and a bound says what this can cost.

use super::problem::{Kept, Problem};

/// Stacks that are chosen among: 262,144 sets.
const MOST: usize = 18;

/// What a layer can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The stacks that it keeps.
    pub kept: Kept,
    /// Bytes of one layer.
    pub bytes: u64,
    /// Seconds that a turn takes longer than when everything is kept.
    pub seconds: f64,
}

/// All choices that are worth taking, from the least bytes to the least seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    /// By bytes, ascending; seconds descend.
    pub list: Vec<Choice>,
    /// Bytes of stacks that were kept without being asked, because there are too many.
    pub unasked: u64,
}

/// The choices of a problem.
pub fn choices(problem: &Problem) -> Choices {
    let count = problem.stacks.len();
    let fixed = problem.fixed();
    let mut free: Vec<usize> = (0..count).filter(|i| !fixed.has(*i)).collect();
    free.sort_by_key(|i| (std::cmp::Reverse(problem.stacks[*i].bytes), *i));
    let unasked = free.split_off(free.len().min(MOST));
    let unasked = unasked.iter().map(|i| problem.stacks[*i].bytes).sum();
    // Sets in binary, each of which differs from the one before in few stacks.
    let mut kept = Kept::all(count);
    let mut sets = Vec::new();
    for set in 0..1_u32 << free.len() {
        for (bit, stack) in free.iter().enumerate().take(set.trailing_zeros() as usize + 1) {
            kept.set(*stack, set >> bit & 1 == 0);
        }
        if let Some(seconds) = problem.seconds(&kept) {
            sets.push((problem.bytes(&kept), seconds, set));
        }
    }
    let choice = |(bytes, seconds, set): (u64, f64, u32)| {
        let dropped = |stack: usize| {
            free.iter().position(|f| *f == stack).is_some_and(|bit| set >> bit & 1 == 1)
        };
        Choice { kept: Kept::only(count, |stack| !dropped(stack)), bytes, seconds }
    };
    Choices { list: undominated(sets).into_iter().map(choice).collect(), unasked }
}

/// Those that no other equals or beats in both bytes and seconds; of equals the first.
fn undominated(mut all: Vec<(u64, f64, u32)>) -> Vec<(u64, f64, u32)> {
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
        Problem { makers, stacks }
    }

    #[test]
    fn no_set_is_better() {
        let problem = chain(9);
        let found = choices(&problem);
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
        problem.stacks.iter_mut().for_each(|s| s.bytes *= 1000);
        (19..23).for_each(|i| problem.stacks[i].bytes = 1);
        let found = choices(&problem);
        assert_eq!(found.unasked, 4);
        assert!(found.list.iter().all(|c| (19..23).all(|i| c.kept.has(i))));
    }

    #[test]
    fn the_hull_lies_below_all_choices() {
        let found = choices(&chain(9));
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
