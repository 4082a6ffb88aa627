//! Whether every row keeps a key: whether in each row along an axis some element is above −inf.
//!
//! A *witness* is a place in the row, given by a position along another axis: the query's own
//! position, the first, or the last. What a value is there follows from what it is made of:
//! `pos(S)` becomes `pos(T)`, a copy of a value with its axis renamed becomes the value, and a
//! comparison of something with itself is decided.

use std::collections::HashMap;

use egg::Id;
use gigac_ir::graph::AxisId;
use gigac_ir::pointwise::Pointwise;

use super::facts::{Terms, known, listed};
use super::range::{self, Range};
use super::term::{Head, Term};

/// Whether every row of `x` along `axis` has an element that is not −inf.
pub(crate) fn alive(terms: &Terms, x: Id, axis: AxisId) -> bool {
    let facts = known(terms, x);
    if !facts.range.minus && !facts.range.nan {
        return true;
    }
    let size = terms.analysis.graph.size(axis);
    let positions = facts.axes.iter().copied().filter(|a| *a != axis);
    let same = positions.filter(|a| terms.analysis.graph.size(*a) == size).map(Place::Axis);
    let ends = [Place::At(0), Place::At(size.saturating_sub(1) as i64)];
    size > 0
        && same.chain(ends).any(|place| {
            let mut witness = Witness { terms, axis, place, known: HashMap::new() };
            let there = witness.value(x).range;
            !there.minus && !there.nan
        })
}

/// A place in a row.
#[derive(Clone, Copy)]
enum Place {
    /// The position along another axis of the same size.
    Axis(AxisId),
    /// A fixed position.
    At(i64),
}

/// What a value is at the place.
#[derive(Clone, Copy)]
struct There {
    /// The class of that value, when the e-graph has it.
    class: Option<Id>,
    range: Range,
}

struct Witness<'t> {
    terms: &'t Terms,
    axis: AxisId,
    place: Place,
    /// What is known of classes; those being looked at count as what they are anywhere.
    known: HashMap<Id, There>,
}

impl Witness<'_> {
    /// The value of a class at the place.
    fn value(&mut self, class: Id) -> There {
        let class = self.terms.find(class);
        let facts = known(self.terms, class);
        if !facts.has(self.axis) {
            return There { class: Some(class), range: facts.range };
        }
        if let Some(known) = self.known.get(&class) {
            return *known;
        }
        let mut found = There { class: None, range: facts.range };
        self.known.insert(class, found);
        for term in self.terms[class].iter() {
            let Some(there) = self.term(term) else { continue };
            found.class = found.class.or(there.class);
            found.range = found.range.both(there.range);
        }
        self.known.insert(class, found);
        found
    }

    fn term(&mut self, term: &Term) -> Option<There> {
        match &term.head {
            Head::Map(function) => Some(self.map(*function, &term.children)),
            Head::Pos => Some(self.position()),
            Head::Rename => {
                let place = [0, 1].map(|i| listed(self.terms, term.children[i])[0]);
                let same = matches!(self.place, Place::Axis(a) if place == [a, self.axis]);
                same.then(|| self.itself(term.children[2]))
            }
            Head::Broadcast => Some(self.value(term.children[1])),
            _ => None,
        }
    }

    fn itself(&self, class: Id) -> There {
        let range = known(self.terms, class).range;
        There { class: Some(self.terms.find(class)), range }
    }

    fn position(&self) -> There {
        match self.place {
            Place::At(i) => There {
                class: self.terms.lookup(Term::leaf(Head::Int(i))),
                range: Range::of(i as f64),
            },
            Place::Axis(axis) => {
                let list = self.terms.lookup(Term::axes(&[axis]));
                let pos = list.and_then(|l| self.terms.lookup(Term::new(Head::Pos, &[l])));
                let last = self.terms.analysis.graph.size(axis) as f64 - 1.0;
                There { class: pos, range: Range::within(0.0, last) }
            }
        }
    }

    fn map(&mut self, function: Pointwise, operands: &[Id]) -> There {
        let values: Vec<There> = operands.iter().map(|x| self.value(*x)).collect();
        let ranges: Vec<Range> = values.iter().map(|v| v.range).collect();
        let same = match &values[..] {
            [a, b, ..] => a.class.is_some() && a.class == b.class,
            _ => false,
        };
        let classes = values.iter().map(|v| v.class).collect::<Option<Vec<Id>>>();
        let class = classes.and_then(|c| self.terms.lookup(Term::map(function, &c)));
        let range = range::apply(function, &ranges, same);
        match class {
            Some(class) => {
                There { class: Some(class), range: range.both(known(self.terms, class).range) }
            }
            None => There { class, range },
        }
    }
}
