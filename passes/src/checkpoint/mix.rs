//! Which layers take which choice. Layers of one loop are alike, so only how many take a choice
//! matters; those that take the same become a segment.

use super::choices::Choices;

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

    /// Bytes of a layer that takes a choice.
    pub(super) fn bytes(&self, choice: usize) -> u64 {
        self.choices.list[choice].bytes
    }

    /// Seconds that a layer which takes a choice adds to a step.
    pub(super) fn seconds(&self, choice: usize) -> f64 {
        self.runs as f64 * self.choices.list[choice].seconds
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::choices::Choice;
    use super::super::problem::Kept;
    use super::*;

    pub(crate) fn layers(count: u64, points: &[(u64, f64)]) -> Layers {
        let choice = |(bytes, seconds): &(u64, f64)| Choice {
            kept: Kept::all(0),
            host: Kept::none(0),
            bytes: *bytes,
            seconds: *seconds,
        };
        let list = points.iter().map(choice).collect();
        Layers { choices: Choices { list, unasked: 0 }, count, runs: 1 }
    }
}
