//! Scores of several parts: `dot(q, k; K) + dot(r, s; J)` is the product of queries and keys whose
//! parts lie end to end, so that attention with a part of its own for positions is attention.
//!
//! Only sums inside the scores of a softmax are looked at: elsewhere a product of joined operands is no
//! gain over two that add up.

use std::collections::HashMap;

use egg::Id;
use gigac_ir::graph::{AxisId, Op};
use gigac_ir::pointwise::Pointwise;

use super::attend::inside;
use super::facts::{Terms, known, listed};
use super::term::{Head, Term};

/// A product of queries, which have no keys, with keys.
#[derive(Clone, Copy)]
struct Part {
    q: Id,
    k: Id,
    inner: AxisId,
}

/// Adds the product of joined operands to every class that is a sum of two products inside a score.
pub(crate) fn join(terms: &mut Terms) {
    let mut axes: HashMap<[AxisId; 2], AxisId> = HashMap::new();
    // A sum of three parts is one of two, of which one is a sum.
    while let Some((class, parts)) = next(terms) {
        let inner = parts.map(|p| p.inner);
        let joined = *axes.entry(inner).or_insert_with(|| joined(terms, inner));
        let pieces = inner.map(Some).to_vec();
        let cat = Head::Other(terms.analysis.number(&Op::Cat { pieces, to: joined }));
        let [q, k] = [parts.map(|p| p.q), parts.map(|p| p.k)]
            .map(|operands| terms.add(Term::new(cat.clone(), &operands)));
        let list = terms.add(Term::axes(&[joined]));
        let product = terms.add(Term::new(Head::Dot, &[list, q, k]));
        terms.union(class, product);
        terms.rebuild();
    }
}

/// An axis as long as two together.
fn joined(terms: &mut Terms, inner: [AxisId; 2]) -> AxisId {
    let graph = &mut terms.analysis.graph;
    let name = format!("{}.joined", graph.axes[inner[0].index()].name);
    let size = inner.iter().map(|a| graph.size(*a)).sum();
    graph.add_axis(&name, size)
}

/// A class in a score that is the sum of two products and no product yet.
fn next(terms: &Terms) -> Option<(Id, [Part; 2])> {
    let softmax = |t: &&Term| matches!(t.head, Head::Softmax | Head::Sunk);
    terms.classes().flat_map(|class| class.iter().filter(softmax)).find_map(|softmax| {
        let [keys] = *listed(terms, softmax.children[0]) else { return None };
        let score = terms.find(softmax.children[1]);
        let mut classes = inside(terms, score).into_iter();
        classes.find_map(|class| Some((class, sum(terms, class, score, keys)?)))
    })
}

fn sum(terms: &Terms, class: Id, score: Id, keys: AxisId) -> Option<[Part; 2]> {
    let facts = known(terms, class);
    if facts.axes != known(terms, score).axes || part(terms, class, keys).is_some() {
        return None;
    }
    terms[class].iter().filter(|t| t.head == Head::Map(Pointwise::Add)).find_map(|add| {
        let parts = [0, 1].map(|i| part(terms, add.children[i], keys));
        let [Some(a), Some(b)] = parts else { return None };
        // The joined axis is new; those that are joined may stand nowhere else.
        let [inner, other] = [a.inner, b.inner];
        let apart = inner == other
            || [a.q, a.k].iter().all(|x| !known(terms, *x).has(other))
                && [b.q, b.k].iter().all(|x| !known(terms, *x).has(inner));
        apart.then_some([a, b])
    })
}

/// A class as a product of queries and keys over one axis.
fn part(terms: &Terms, class: Id, keys: AxisId) -> Option<Part> {
    terms[class].iter().filter(|t| t.head == Head::Dot).find_map(|dot| {
        let [inner] = *listed(terms, dot.children[0]) else { return None };
        let [q, k] = [dot.children[1], dot.children[2]].map(|x| terms.find(x));
        (!known(terms, q).has(keys) && known(terms, k).has(keys)).then_some(Part { q, k, inner })
    })
}
