//! The reduced problem of one layer: which stacks to keep, at what price.
//!
//! A forward loop computes values by **makers** (launches, or whole inner loops) and keeps some of
//! them in **stacks** for the reversed loop. A stack that is not kept is computed again there: by
//! its maker, which needs what it reads, and so on down to what is kept or lies outside the loops.
//! A maker that runs again makes all that it makes, so its price counts once. A maker whose values
//! nobody wants on the way forward any more does not run there.
//!
//! A stack may also be kept in the host's memory. Copies there and back share one link; where they
//! run beside kernels, a turn takes longer by what they take more than its kernels.

/// What a maker reads, beside what is always at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The value of a stack: at hand in the reversed loop when it is kept, else computed again.
    Stack(usize),
    /// What a carried value was, of which a stack holds a copy: lost unless that is kept, since it
    /// comes from the layer before.
    Copy(usize),
    /// Something that another maker makes and no stack holds.
    Maker(usize),
    /// Something that the reversed loop cannot have.
    Lost,
}

/// A launch or an inner loop of the forward loop's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Maker {
    /// Seconds of one turn.
    pub seconds: f64,
    /// What it needs to run in the reversed loop.
    pub needs: Vec<Need>,
    /// Makers whose values it reads on the way forward.
    pub reads: Vec<usize>,
    /// Whether the way forward needs it whatever is kept.
    pub wanted: bool,
}

/// A stack that may be dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// What it holds, for people.
    pub name: String,
    /// Bytes of a layer.
    pub bytes: u64,
    /// What makes it.
    pub maker: usize,
    /// Seconds of copying a layer's to the host, or back.
    pub copy: f64,
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// The makers, in the order in which they run.
    pub makers: Vec<Maker>,
    /// The stacks.
    pub stacks: Vec<Stack>,
    /// Seconds of a turn of the reversed loop when everything is kept.
    pub back: f64,
    /// Whether copies run beside kernels.
    pub beside: bool,
}

/// A set of stacks: those of a layer that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kept(Vec<bool>);

impl Kept {
    /// All of so many.
    pub fn all(stacks: usize) -> Self {
        Self(vec![true; stacks])
    }

    /// Those for which a condition holds.
    pub fn only(stacks: usize, holds: impl FnMut(usize) -> bool) -> Self {
        Self((0..stacks).map(holds).collect())
    }

    /// Whether a stack is kept.
    pub fn has(&self, stack: usize) -> bool {
        self.0[stack]
    }

    /// Keeps a stack, or drops it.
    pub fn set(&mut self, stack: usize, keep: bool) {
        self.0[stack] = keep;
    }

    /// The same without one.
    #[must_use]
    pub fn without(&self, stack: usize) -> Self {
        let mut kept = self.clone();
        kept.0[stack] = false;
        kept
    }

    /// None of so many.
    pub fn none(stacks: usize) -> Self {
        Self(vec![false; stacks])
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|kept| **kept).count()
    }

    /// How many stacks there are, kept or not.
    pub fn stacks(&self) -> usize {
        self.0.len()
    }
}

impl Problem {
    /// Bytes of a layer that keeps these stacks.
    pub fn bytes(&self, kept: &Kept) -> u64 {
        let stacks = self.stacks.iter().enumerate();
        stacks.filter(|(i, _)| kept.has(*i)).map(|(_, s)| s.bytes).sum()
    }

    /// The makers that run again in the reversed loop when these stacks are kept, in their order;
    /// none when something is lost.
    pub fn again(&self, kept: &Kept) -> Option<Vec<usize>> {
        let dropped = (0..self.stacks.len()).filter(|i| !kept.has(*i));
        self.closure(kept, dropped.map(|i| self.stacks[i].maker).collect())
    }

    /// The makers that must run for one stack that is not kept, in their order.
    pub fn again_for(&self, kept: &Kept, stack: usize) -> Option<Vec<usize>> {
        self.closure(kept, vec![self.stacks[stack].maker])
    }

    fn closure(&self, kept: &Kept, mut open: Vec<usize>) -> Option<Vec<usize>> {
        let mut runs = vec![false; self.makers.len()];
        while let Some(maker) = open.pop() {
            if std::mem::replace(&mut runs[maker], true) {
                continue;
            }
            for need in &self.makers[maker].needs {
                match *need {
                    Need::Stack(stack) | Need::Copy(stack) if kept.has(stack) => {}
                    Need::Stack(stack) => open.push(self.stacks[stack].maker),
                    Need::Maker(other) => open.push(other),
                    Need::Copy(_) | Need::Lost => return None,
                }
            }
        }
        Some((0..self.makers.len()).filter(|i| runs[*i]).collect())
    }

    /// Whether each maker still runs on the way forward.
    pub fn forward(&self, kept: &Kept) -> Vec<bool> {
        let mut runs = vec![false; self.makers.len()];
        let wanted = (0..self.makers.len()).filter(|i| self.makers[*i].wanted);
        let makes = (0..self.stacks.len()).filter(|i| kept.has(*i));
        let mut open: Vec<usize> = wanted.chain(makes.map(|i| self.stacks[i].maker)).collect();
        while let Some(maker) = open.pop() {
            if !std::mem::replace(&mut runs[maker], true) {
                open.extend(&self.makers[maker].reads);
            }
        }
        runs
    }

    /// Seconds that a turn takes longer, both ways together, than when everything is kept; none
    /// when something is lost.
    pub fn seconds(&self, kept: &Kept) -> Option<f64> {
        Some(self.again_seconds(kept)? - self.saved_seconds(kept))
    }

    /// Seconds of what a turn of the reversed loop makes again; none when something is lost. Never less
    /// when more is dropped.
    pub fn again_seconds(&self, kept: &Kept) -> Option<f64> {
        Some(self.again(kept)?.iter().map(|m| self.makers[*m].seconds).sum())
    }

    /// Seconds of what a turn of the forward loop need not run any more. Never less when more is dropped.
    pub fn saved_seconds(&self, kept: &Kept) -> f64 {
        let makers = self.makers.iter().zip(self.forward(kept));
        makers.filter(|(_, runs)| !runs).map(|(maker, _)| maker.seconds).sum()
    }

    /// Seconds of the kernels of a turn of the forward loop and of one of the reversed loop; none
    /// when something is lost.
    pub fn ways(&self, kept: &Kept) -> Option<(f64, f64)> {
        let again: f64 = self.again(kept)?.iter().map(|m| self.makers[*m].seconds).sum();
        let forward = self.makers.iter().zip(self.forward(kept)).filter(|(_, runs)| *runs);
        Some((forward.map(|(maker, _)| maker.seconds).sum(), self.back + again))
    }

    /// Seconds that copies of so many seconds one way add to a turn of either loop, with kernels of
    /// so many seconds.
    pub fn seen(&self, copies: f64, (forward, back): (f64, f64)) -> f64 {
        if self.beside {
            (copies - forward).max(0.0) + (copies - back).max(0.0)
        } else {
            2.0 * copies
        }
    }

    /// Seconds that a turn takes longer when some of the stacks that are kept are kept on the host;
    /// none when something is lost.
    pub fn seconds_with(&self, kept: &Kept, host: &Kept) -> Option<f64> {
        let stacks = self.stacks.iter().enumerate().filter(|(i, _)| host.has(*i));
        let copies = stacks.map(|(_, stack)| stack.copy).sum();
        Some(self.seconds(kept)? + self.seen(copies, self.ways(kept)?))
    }

    /// The stacks that can never be dropped: not even when all others are kept.
    pub fn fixed(&self) -> Kept {
        let all = Kept::all(self.stacks.len());
        Kept::only(self.stacks.len(), |i| self.again(&all.without(i)).is_none())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A maker that the way forward wants.
    pub(crate) fn maker(seconds: f64, needs: &[Need], reads: &[usize]) -> Maker {
        Maker { seconds, needs: needs.to_vec(), reads: reads.to_vec(), wanted: true }
    }

    pub(crate) fn stack(bytes: u64, maker: usize) -> Stack {
        Stack { name: format!("s{maker}"), bytes, maker, copy: bytes as f64 / 8.0 }
    }

    /// `x → norm → product → activation`, where the carried input, as a copy that the last maker
    /// leaves, and all results are kept.
    fn chain() -> Problem {
        Problem {
            makers: vec![
                maker(0.0, &[Need::Copy(0)], &[]),
                maker(1.0, &[Need::Copy(0)], &[]),
                maker(10.0, &[Need::Maker(1)], &[1]),
                maker(2.0, &[Need::Stack(1)], &[2]),
            ],
            stacks: vec![stack(4, 0), stack(16, 2), stack(16, 3)],
            back: 30.0,
            beside: true,
        }
    }

    #[test]
    fn what_is_dropped_is_computed_from_what_is_kept() {
        let problem = chain();
        let all = Kept::all(3);
        assert_eq!(problem.seconds(&all), Some(0.0));
        assert_eq!(problem.bytes(&all), 36);
        // The activation from the kept product; the product from the input, by way of the norm.
        assert_eq!(problem.seconds(&all.without(2)), Some(2.0));
        assert_eq!(problem.seconds(&all.without(1)), Some(11.0));
        // Both: the activation reads the product that was made again, which counts once.
        let neither = all.without(1).without(2);
        assert_eq!(problem.seconds(&neither), Some(13.0));
        assert_eq!(problem.again(&neither), Some(vec![1, 2, 3]));
        // The input comes from the layer before: its own copy cannot be made of itself.
        assert_eq!(problem.seconds(&all.without(0)), None);
        assert_eq!(problem.fixed(), Kept::only(3, |i| i == 0));
    }

    #[test]
    fn copies_are_seen_when_they_take_longer_than_kernels() {
        let mut problem = chain();
        let (all, host) = (Kept::all(3), Kept::all(3).without(0));
        assert_eq!(problem.ways(&all), Some((13.0, 30.0)));
        // Four seconds of copies beside thirteen and thirty.
        assert_eq!(problem.seconds_with(&all, &host), Some(0.0));
        problem.stacks[1].copy = 20.0;
        assert_eq!(problem.seconds_with(&all, &host), Some(9.0));
        problem.beside = false;
        assert_eq!(problem.seconds_with(&all, &host), Some(44.0));
    }

    #[test]
    fn what_only_the_way_back_reads_moves_there() {
        let mut problem = chain();
        problem.makers[3].wanted = false;
        // Its time moves from one way to the other.
        assert_eq!(problem.seconds(&Kept::all(3).without(2)), Some(0.0));
        assert_eq!(problem.forward(&Kept::all(3).without(2)), [true, true, true, false]);
    }
}
