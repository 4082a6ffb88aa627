//! The positions of a plan's flat order: what the numbers of [`PlanBuffer::live`] stand for.
//!
//! Every launch and every copy takes a position, and a loop one at its beginning and one at its
//! end. Position 0 is before everything, position 1 the beginning of the program.
//!
//! [`PlanBuffer::live`]: super::PlanBuffer::live

use super::{Item, Plan};

/// The first position of an item is the one after this.
pub const BEGINNING: u32 = 1;

/// What happens at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A launch of these kernels.
    Launch(Vec<u32>),
    /// A copy.
    Copy,
    /// A loop begins, or its turn ends.
    Loop,
}

/// A position of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The position.
    pub position: u32,
    /// What happens.
    pub what: What,
    /// Names of the axes of the loops around it, outermost first.
    pub loops: Vec<String>,
}

/// All positions of a plan from the beginning of its program on, in order.
pub fn moments(plan: &Plan) -> Vec<Moment> {
    let mut list = List { position: BEGINNING, loops: Vec::new(), moments: Vec::new() };
    list.items(&plan.items);
    list.moments
}

struct List {
    position: u32,
    loops: Vec<String>,
    moments: Vec<Moment>,
}

impl List {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Launch { parts, .. } => {
                    self.next(What::Launch(parts.iter().map(|part| part.kernel).collect()));
                }
                Item::Copy { .. } => self.next(What::Copy),
                Item::Loop { axis, body, .. } => {
                    self.loops.push(axis.clone());
                    self.next(What::Loop);
                    self.items(body);
                    self.next(What::Loop);
                    self.loops.pop();
                }
            }
        }
    }

    fn next(&mut self, what: What) {
        self.position += 1;
        let (position, loops) = (self.position, self.loops.clone());
        self.moments.push(Moment { position, what, loops });
    }
}
