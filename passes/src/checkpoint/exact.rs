//! The best assignment of choices to layers, of any number of choices and for any number of layers.
//!
//! Layers of a loop are alike, so an assignment is an integer programme: how many layers of each
//! loop take each choice, within the bytes that all loops share, so that the seconds are the least.
//! Its linear relaxation has a **dual**: a price of a byte. At that price every choice has a **reduced
//! cost**, what a layer loses that takes it instead of the best one. The best one is free; in the
//! loop where the bytes run out two are, the ends of the **edge** of the hull that is crossed there.
//!
//! Beyond the relaxation an assignment takes the reduced costs of its layers and the price of the
//! bytes that it leaves. So one that beats what is known has few layers off the free choices, and
//! cheap ones. Such **entries** are listed from the least cost on; how many layers take either end of
//! the edge then follows from the bytes. When the next cost reaches what is known, what is known is
//! the best (reduced-cost fixing: S. Martello, P. Toth, *Knapsack Problems*, 1990, 2.2.3).
//!
//! Nothing is added to an entry when another one stands for it: it leaves at least as many bytes for
//! no higher cost, whole steps along the edge apart. It may need more layers of either end than
//! there are. So first both ends are taken to have as many layers as one likes, which gives a bound
//! that is nearly always reached (the group relaxation: R. Gomory, *On the relation between integer
//! and noninteger solutions to linear programs*, 1965); if it is not, one end is, then none.
//!
//! The list does not grow with the number of layers. After [`ENTRIES`] the search ends, and the bound
//! is what the next entry costs at least.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use super::mix::{Layers, Mixes, Share};

/// Entries that are listed at most.
const ENTRIES: usize = 1 << 16;
/// Kinds of layers by which entries are remembered; those of others stand for none.
const KINDS: usize = 128;
/// What counts as fewer seconds, as a part of them: sums in another order differ by rounding.
const FEWER: f64 = 1e-9;

/// The least seconds of all loops within so many bytes, and a bound below those of any assignment;
/// none when even the least bytes are more.
pub(super) fn solve(loops: &[Layers], bytes: u64) -> Option<(Mixes, f64)> {
    let (mixes, bound) = solve_within(loops, bytes, ENTRIES)?;
    // What layers keep unasked they might not keep: at most so many bytes could be spent otherwise.
    let unasked: u64 = loops.iter().map(|one| one.count * one.choices.unasked).sum();
    if unasked == 0 {
        return Some((mixes, bound));
    }
    let (_, bound) = solve_within(loops, bytes + unasked, ENTRIES)?;
    Some((mixes, bound))
}

fn solve_within(loops: &[Layers], bytes: u64, entries: usize) -> Option<(Mixes, f64)> {
    let mut search = Search::new(loops, bytes)?;
    let mut least = f64::NEG_INFINITY;
    for counts in COUNTS {
        least = least.max(search.run(counts, entries));
        if least >= search.limit() {
            break;
        }
    }
    let mixes = search.mixes();
    let proven = least >= search.limit();
    let bound = if proven { mixes.seconds } else { search.free.bound + least };
    Some((mixes, bound))
}

/// The free choices of every loop.
struct Free {
    /// By loop: the free choice, with the fewer bytes where two are.
    base: Vec<usize>,
    /// The loop where the bytes run out, and its other free choice.
    edge: Option<(usize, usize)>,
    /// Seconds that a byte is worth.
    price: f64,
    /// Bytes that are left when all layers take the base.
    left: u64,
    /// Seconds of the relaxation.
    bound: f64,
}

impl Free {
    fn of(loops: &[Layers], bytes: u64) -> Option<Self> {
        let hulls: Vec<Vec<usize>> = loops.iter().map(|one| one.choices.hull()).collect();
        let mut base: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
        let mut left = bytes;
        let mut steps: Vec<(f64, usize, usize)> = Vec::new();
        for (i, (one, hull)) in loops.iter().zip(&hulls).enumerate() {
            left = left.checked_sub(one.count * one.bytes(hull[0]))?;
            // No step is worth more than the one before it, but for rounding.
            let mut most = f64::INFINITY;
            for pair in hull.windows(2) {
                let gain = one.seconds(pair[0]) - one.seconds(pair[1]);
                most = most.min(gain / (one.bytes(pair[1]) - one.bytes(pair[0])) as f64);
                steps.push((most, i, pair[1]));
            }
        }
        // Sorting keeps the order of equals.
        steps.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut edge, mut price) = (None, 0.0);
        for (worth, i, more) in steps {
            let cost = loops[i].count * (loops[i].bytes(more) - loops[i].bytes(base[i]));
            let Some(rest) = left.checked_sub(cost) else {
                (edge, price) = (Some((i, more)), worth);
                break;
            };
            left = rest;
            base[i] = more;
        }
        let all = loops.iter().zip(&base).map(|(one, base)| one.count as f64 * one.seconds(*base));
        let bound = all.sum::<f64>() - price * left as f64;
        Some(Self { base, edge, price, left, bound })
    }
}

/// A layer that takes another choice than the free ones.
struct Other {
    layers: usize,
    choice: usize,
    /// Reduced cost.
    cost: f64,
    /// Bytes beyond those of the base.
    bytes: i128,
}

/// An entry: layers that take other choices, the last one `other`, those before it another entry's.
struct Entry {
    before: Option<u32>,
    other: u32,
    needs: Needs,
}

/// Of the heap's entries the one with the least cost is the greatest; of equals the first.
struct Next {
    cost: f64,
    at: u32,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        other.cost.total_cmp(&self.cost).then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

/// An assignment: an entry, and how many layers take the edge's other end.
struct Known {
    at: Option<u32>,
    more: u64,
    /// Seconds beyond the relaxation.
    excess: f64,
}

/// Which ends of the edge have no more layers than there are.
#[derive(Clone, Copy)]
struct Counts {
    /// The one with the more bytes.
    more: bool,
    /// The one with the fewer bytes.
    base: bool,
}

/// From the loosest bound on.
const COUNTS: [Counts; 4] = [
    Counts { more: false, base: false },
    Counts { more: true, base: false },
    Counts { more: false, base: true },
    Counts { more: true, base: true },
];

/// What an entry's layers need, all together.
#[derive(Clone)]
struct Needs {
    /// Bytes beyond those of the base.
    bytes: i128,
    /// For each loop the layers that take other choices.
    layers: Vec<i128>,
    cost: f64,
}

/// The entries so far that no other one stands for: for each kind of layers that they need, by
/// bytes, their costs less the price of these bytes, which descend.
#[derive(Default)]
struct Seen(Vec<(Vec<i128>, BTreeMap<u64, f64>)>);

impl Seen {
    /// Whether another entry stands for this one; else remembers it.
    fn covers(&mut self, layers: Vec<i128>, bytes: u64, worth: f64) -> bool {
        let stands = |(needs, front): &(Vec<i128>, BTreeMap<u64, f64>)| {
            let fewer = needs.iter().zip(&layers).all(|(a, b)| a <= b);
            fewer && front.range(..=bytes).next_back().is_some_and(|(_, w)| *w <= worth)
        };
        if self.0.iter().any(stands) {
            return true;
        }
        let known = self.0.iter().position(|(needs, _)| *needs == layers);
        if known.is_none() && self.0.len() >= KINDS {
            return false;
        }
        let at = known.unwrap_or_else(|| {
            self.0.push((layers, BTreeMap::new()));
            self.0.len() - 1
        });
        let front = &mut self.0[at].1;
        let worse: Vec<u64> =
            front.range(bytes..).take_while(|(_, w)| **w >= worth).map(|(b, _)| *b).collect();
        for bytes in worse {
            front.remove(&bytes);
        }
        front.insert(bytes, worth);
        false
    }
}

struct Search<'l> {
    loops: &'l [Layers],
    free: Free,
    /// By reduced cost.
    others: Vec<Other>,
    entries: Vec<Entry>,
    heap: BinaryHeap<Next>,
    best: Known,
}

impl<'l> Search<'l> {
    fn new(loops: &'l [Layers], bytes: u64) -> Option<Self> {
        let free = Free::of(loops, bytes)?;
        let mut others = Vec::new();
        for (layers, one) in loops.iter().enumerate() {
            let base = free.base[layers];
            for choice in 0..one.choices.list.len() {
                if choice == base || free.edge == Some((layers, choice)) {
                    continue;
                }
                let bytes = i128::from(one.bytes(choice)) - i128::from(one.bytes(base));
                let seconds = one.seconds(choice) - one.seconds(base);
                let cost = (seconds + free.price * bytes as f64).max(0.0);
                others.push(Other { layers, choice, cost, bytes });
            }
        }
        others.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let best = Known { at: None, more: 0, excess: f64::INFINITY };
        let (entries, heap) = (Vec::new(), BinaryHeap::new());
        Some(Self { loops, free, others, entries, heap, best })
    }

    /// Looks at entries until none can become the best. No assignment costs less beyond the
    /// relaxation than what comes back.
    fn run(&mut self, counts: Counts, most: usize) -> f64 {
        let most = self.entries.len() + most;
        self.heap.clear();
        let mut seen = Seen::default();
        let mut least = self.complete(None, &self.none(), counts);
        self.push(None, 0);
        while let Some(Next { cost, at }) = self.heap.pop() {
            if cost >= self.limit() {
                break;
            }
            if self.entries.len() >= most {
                return least.min(cost);
            }
            let Entry { before, other, ref needs } = self.entries[at as usize];
            let needs = needs.clone();
            // The same with another last layer, and with one more like it.
            self.push(before, other + 1);
            let (layers, bytes) = self.in_steps(&needs, counts);
            let worth = cost - self.free.price * bytes as f64;
            if self.there_are(&needs, counts) && !seen.covers(layers, bytes, worth) {
                least = least.min(self.complete(Some(at), &needs, counts));
                self.push(Some(at), other);
            }
        }
        least.min(self.best.excess)
    }

    /// What costs so much beyond the relaxation is not better than what is known.
    fn limit(&self) -> f64 {
        self.best.excess - FEWER * (self.free.bound + self.best.excess)
    }

    /// Lists an entry with one layer more than another, unless it cannot become the best.
    fn push(&mut self, before: Option<u32>, other: u32) {
        let Some(more) = self.others.get(other as usize) else { return };
        let mut needs =
            before.map_or_else(|| self.none(), |b| self.entries[b as usize].needs.clone());
        needs.bytes += more.bytes;
        needs.layers[more.layers] += 1;
        needs.cost += more.cost;
        let cost = needs.cost;
        if cost < self.limit() {
            let at = self.entries.len() as u32;
            self.entries.push(Entry { before, other, needs });
            self.heap.push(Next { cost, at });
        }
    }

    fn none(&self) -> Needs {
        Needs { bytes: 0, layers: vec![0; self.loops.len()], cost: 0.0 }
    }

    /// The layers of an entry that take other choices.
    fn taken(&self, at: Option<u32>) -> impl Iterator<Item = &Other> {
        let entry = |at: u32| &self.entries[at as usize];
        let all = std::iter::successors(at.map(entry), move |e| e.before.map(entry));
        all.map(|entry| &self.others[entry.other as usize])
    }

    /// Bytes of a step along the edge; more than there are when there is none.
    fn step(&self) -> i128 {
        let step = |(i, end): (usize, usize)| {
            self.loops[i].bytes(end) - self.loops[i].bytes(self.free.base[i])
        };
        self.free.edge.map_or(u64::MAX, step).into()
    }

    /// Whether the loops have so many layers, as far as they are counted.
    fn there_are(&self, needs: &Needs, counts: Counts) -> bool {
        let edge = self.free.edge.filter(|_| !(counts.more && counts.base)).map(|(i, _)| i);
        let mut loops = self.loops.iter().zip(&needs.layers).enumerate();
        loops.all(|(i, (one, n))| Some(i) == edge || *n <= one.count.into())
    }

    /// What is counted: layers of each loop, and of either end of the edge, when a step is a layer
    /// that goes from one end to the other; and the bytes that are no whole step.
    fn in_steps(&self, needs: &Needs, counts: Counts) -> (Vec<i128>, u64) {
        let steps = needs.bytes.div_euclid(self.step());
        let mut layers = needs.layers.clone();
        if let Some((i, _)) = self.free.edge {
            layers[i] = if counts.base { layers[i] - steps } else { 0 };
            layers.extend(counts.more.then_some(steps));
        }
        (layers, needs.bytes.rem_euclid(self.step()) as u64)
    }

    /// Gives the free choices to the layers that take no other one. Keeps what comes of it when it
    /// is the best, and gives its excess when only some layers are counted.
    fn complete(&mut self, at: Option<u32>, needs: &Needs, counts: Counts) -> f64 {
        let (left, step) = (i128::from(self.free.left) - needs.bytes, self.step());
        let excess = |more: i128| needs.cost + self.free.price * (left - more * step) as f64;
        // Layers that may take the edge's other end.
        let rest = |(i, _): (usize, usize)| i128::from(self.loops[i].count) - needs.layers[i];
        let any = left.div_euclid(step);
        let real = any.min(self.free.edge.map_or(0, rest));
        if real >= 0 && excess(real) < self.best.excess {
            self.best = Known { at, more: real as u64, excess: excess(real) };
        }
        let more = if counts.base { real } else { any };
        if counts.more && more < 0 { f64::INFINITY } else { excess(more) }
    }

    /// The best assignment.
    fn mixes(&self) -> Mixes {
        let bases = self.loops.iter().zip(&self.free.base);
        let mut taken: Vec<BTreeMap<usize, u64>> =
            bases.map(|(one, base)| BTreeMap::from([(*base, one.count)])).collect();
        let mut take = |layers: usize, choice: usize, count: u64| {
            *taken[layers].entry(self.free.base[layers]).or_default() -= count;
            *taken[layers].entry(choice).or_default() += count;
        };
        self.taken(self.best.at).for_each(|other| take(other.layers, other.choice, 1));
        if let Some((layers, end)) = self.free.edge {
            take(layers, end, self.best.more);
        }
        let shares = |counts: BTreeMap<usize, u64>| {
            let some = counts.into_iter().filter(|(_, layers)| *layers > 0);
            some.map(|(choice, layers)| Share { choice, layers }).collect()
        };
        Mixes::of(self.loops, taken.into_iter().map(shares).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mix::tests::layers;
    use super::*;

    const POINTS: &[(u64, f64)] = &[(1, 9.0), (3, 5.0), (4, 4.5), (8, 1.0), (11, 0.0)];

    /// The least seconds over all assignments of choices to layers, by trying them all.
    fn brute_force(loops: &[Layers], bytes: u64) -> Option<f64> {
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

    #[test]
    fn the_best_assignment_of_any_number_of_choices() {
        let cheap = layers(2, &[(1, 2.0), (5, 0.0)]);
        let dear = Layers { runs: 3, ..layers(2, &[(2, 7.0), (4, 3.0), (9, 0.0)]) };
        let mut cases: Vec<Vec<Layers>> = (1..=5).map(|n| vec![layers(n, POINTS)]).collect();
        cases.push(vec![cheap, dear.clone()]);
        cases.push(vec![dear, layers(3, POINTS)]);
        cases.push(vec![layers(2, POINTS), layers(2, POINTS)]);
        cases.push(vec![layers(3, &[(7, 1.0)])]);
        for loops in cases {
            for bytes in 0..=60 {
                let exact = brute_force(&loops, bytes);
                let found = solve(&loops, bytes);
                assert_eq!(found.as_ref().map(|(m, _)| m.seconds), exact, "{bytes}");
                let Some((mixes, bound)) = found else { continue };
                assert_eq!(bound, mixes.seconds, "{bytes}");
                assert!(mixes.bytes <= bytes);
                for (one, shares) in loops.iter().zip(&mixes.list) {
                    assert_eq!(shares.iter().map(|s| s.layers).sum::<u64>(), one.count);
                }
            }
        }
    }

    /// Choices such as layers have: sums of few kinds of bytes and seconds.
    fn any_loops() -> impl Strategy<Value = Vec<Layers>> {
        let parts = prop::collection::vec((1..9_u64, 1..30_u32), 1..5);
        let one = (parts, 1..4_u64, 1..3_u64, 0..3_u64).prop_map(|(parts, count, runs, always)| {
            let sets = (0..1_u32 << parts.len()).map(|set| {
                let kept = |i: usize| set >> i & 1 == 1;
                let sum = parts.iter().enumerate();
                sum.fold((always, 0.0), |(bytes, seconds), (i, (b, s))| match kept(i) {
                    true => (bytes + b, seconds),
                    false => (bytes, seconds + f64::from(*s)),
                })
            });
            let mut points: Vec<(u64, f64)> = sets.collect();
            points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let mut least = f64::INFINITY;
            points.retain(|(_, seconds)| {
                let better = *seconds < least;
                least = least.min(*seconds);
                better
            });
            Layers { runs, ..layers(count, &points) }
        });
        prop::collection::vec(one, 1..3)
    }

    proptest! {
        #[test]
        fn nothing_is_better(loops in any_loops(), bytes in 0..90_u64, entries in 1..40_usize) {
            let exact = brute_force(&loops, bytes);
            let found = solve(&loops, bytes);
            prop_assert_eq!(found.as_ref().map(|(m, _)| m.seconds), exact);
            // A search that ends early knows a bound.
            let Some((mixes, bound)) = solve_within(&loops, bytes, entries) else { return Ok(()) };
            let exact = exact.expect("there is an assignment");
            prop_assert!(bound <= exact * (1.0 + FEWER) && exact <= mixes.seconds, "{} {}", bound, exact);
            prop_assert!(mixes.bytes <= bytes);
        }
    }

    #[test]
    fn what_is_kept_unasked_lowers_the_bound() {
        let mut one = layers(5, POINTS);
        let (_, known) = solve(std::slice::from_ref(&one), 30).unwrap();
        one.choices.unasked = 2;
        let (mixes, bound) = solve(std::slice::from_ref(&one), 30).unwrap();
        let more = brute_force(std::slice::from_ref(&one), 40).unwrap();
        assert_eq!((mixes.seconds, bound), (known, more));
    }

    #[test]
    fn depth_does_not_matter_to_the_work() {
        let mut entries = Vec::new();
        for count in [40, 4000] {
            let deep = [layers(count, POINTS)];
            let mut search = Search::new(&deep, 6 * count + 2).unwrap();
            for counts in COUNTS {
                search.run(counts, ENTRIES);
            }
            entries.push(search.entries.len());
        }
        assert!(0 < entries[0] && entries[1] <= entries[0], "{entries:?}");
    }
}
