//! A plan written out: every launch and copy of one run, with its addresses.

use super::{End, Item, Memory, Part, Plan};

/// What an item does in one turn of the loops around it. Addresses of launches are bytes from the
/// start of the device's arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Runs all grid points of some kernels, in any order.
    Launch(Vec<Call>),
    /// Copies bytes; the ranges do not overlap.
    Copy {
        /// Source.
        from: Spot,
        /// Destination.
        to: Spot,
        /// Length.
        bytes: u64,
    },
}

/// A kernel with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index in [`Plan::kernels`].
    pub kernel: u32,
    /// Where each argument lies.
    pub buffers: Vec<u64>,
    /// Int arguments.
    pub scalars: Vec<u64>,
}

/// A byte of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which memory.
    pub memory: Memory,
    /// Bytes from the start of its arena.
    pub offset: u64,
}

impl End {
    /// The end in the given turns, outermost loop first.
    pub fn at(&self, turns: &[u64]) -> Spot {
        Spot { memory: self.memory, offset: self.address.at(turns) }
    }
}

impl Plan {
    /// Gives everything that a run does to `each`, in the order of the text.
    pub fn commands(&self, mut each: impl FnMut(Command)) {
        commands(&self.items, &mut Vec::new(), &mut each);
    }
}

fn commands(items: &[Item], turns: &mut Vec<u64>, each: &mut impl FnMut(Command)) {
    for item in items {
        match item {
            Item::Launch { parts, .. } => {
                let call = |part: &Part| Call {
                    kernel: part.kernel,
                    buffers: part.buffers.iter().map(|a| a.at(turns)).collect(),
                    scalars: part.scalars.iter().map(|depth| turns[*depth as usize]).collect(),
                };
                each(Command::Launch(parts.iter().map(call).collect()));
            }
            Item::Copy { from, to, bytes, .. } => {
                each(Command::Copy { from: from.at(turns), to: to.at(turns), bytes: *bytes });
            }
            Item::Loop { first, count, reversed, body, .. } => {
                for i in 0..*count {
                    turns.push(first + if *reversed { count - 1 - i } else { i });
                    commands(body, turns, each);
                    turns.pop();
                }
            }
        }
    }
}
