//! Grouped queries: heads that are repeated explicitly.
//!
//! A key head read by several query heads, `k[G = pos(H) // R]`, is a broadcast along a new axis,
//! merged with `G`. The merge then moves outwards through everything, until the output: the scores
//! have the axes `G` and `R`, and keys and values are read as they are.

use std::borrow::Cow;

use egg::Id;
use gigac_ir::graph::AxisId;
use gigac_ir::pointwise::{POINTWISE, Pointwise, PointwiseDef};

use super::Set::Exact;
use super::{Match, Right, Rule, When, is, terms_of, text};
use crate::fuse::facts::{Terms, broadcast, known, listed};
use crate::fuse::term::{Head, Term};

use Right::{Build, Text};
use When::{Apart, Has, Lacks, Number};

const RULES: &[Rule] = &[
    rule!(Exact, "repeat-heads", "(gather ?g ?x ?e)" => Build(repeat_heads), [],
        "heads read several times are heads along another axis"),
    rule!(Exact, "merge-of-sum", "(sum ?S (merge ?f ?d ?x))" => text("(merge ?f ?d (sum ?S ?x))"),
        [Apart("?S", "?d")], "sums along other axes"),
    rule!(Exact, "merge-of-largest", "(largest ?S (merge ?f ?d ?x))"
        => text("(merge ?f ?d (largest ?S ?x))"), [Apart("?S", "?d")], "maxima along other axes"),
    rule!(Exact, "merge-of-softmax", "(softmax ?S (merge ?f ?d ?x))"
        => text("(merge ?f ?d (softmax ?S ?x))"), [Apart("?S", "?d")], "rows of other axes"),
    rule!(Exact, "merge-of-loose", "(loose ?S (merge ?f ?d ?x))"
        => text("(merge ?f ?d (loose ?S ?x))"), [Apart("?S", "?d")], "rows of other axes"),
    rule!(Exact, "merge-of-sunk", "(sunk ?S (merge ?f ?d ?x) ?z)"
        => text("(merge ?f ?d (sunk ?S ?x (split ?d ?f ?z)))"),
        [Apart("?S", "?d"), Has("?z", "?d"), Lacks("?z", "?f")], "a sink of each head"),
    rule!(Exact, "merge-of-where", "(where ?c (merge ?f ?d ?x) ?k)"
        => text("(merge ?f ?d (where ?c ?x ?k))"), [Number("?k"), Lacks("?k", "?d"), Lacks("?k", "?f"), Lacks("?c", "?d"), Lacks("?c", "?f")],
        "a mask for all heads"),
    rule!(Exact, "merge-of-where-split", "(where ?c (merge ?f ?d ?x) ?k)"
        => text("(merge ?f ?d (where (split ?d ?f ?c) ?x ?k))"),
        [Number("?k"), Lacks("?k", "?d"), Lacks("?k", "?f"), Has("?c", "?d"), Lacks("?c", "?f")], "a mask of each head"),
    rule!(Exact, "split-of-map", "(split ?d ?f ?x)" => Build(split_of_map), [],
        "masks, positions and constants of heads are split like the heads"),
];

/// The rules of this file: those above, and one for each function of reals and operand.
pub(super) fn rules() -> Vec<Rule> {
    let functions = POINTWISE.iter().flat_map(of_function);
    RULES.iter().map(Rule::clone).chain(functions).collect()
}

/// `f(merge(x), y)` as `merge(f(x, y))`, with `y` split where it has the axis.
fn of_function(def: &PointwiseDef) -> Vec<Rule> {
    use Pointwise as P;
    let f = def.name;
    let of = |name: &str, left: String, right: String, when: &'static [When]| Rule {
        name: format!("merge-of-{f}{name}").into(),
        set: Exact,
        reason: "functions of heads",
        left: left.into(),
        right: Text(right.into()),
        when: Cow::Borrowed(when),
    };
    match def.op {
        P::Exp | P::Log | P::Sqrt | P::Tanh | P::Neg | P::Stop => {
            vec![of("", format!("({f} (merge ?f ?d ?x))"), format!("(merge ?f ?d ({f} ?x))"), &[])]
        }
        P::Add | P::Mul | P::Sub | P::Div => {
            let lacks: &[When] = &[Lacks("?y", "?d"), Lacks("?y", "?f")];
            let has: &[When] = &[Has("?y", "?d"), Lacks("?y", "?f")];
            let mut rules = Vec::new();
            for (name, x, y) in [("", "?x", "?y"), ("-second", "?y", "?x")] {
                // The order of sums and products is another rule's business.
                if name.is_empty() || matches!(def.op, P::Sub | P::Div) {
                    let operand = |v: &str| match v {
                        "?x" => "(merge ?f ?d ?x)".to_owned(),
                        y => y.to_owned(),
                    };
                    let left = format!("({f} {} {})", operand(x), operand(y));
                    let split = |v: &str| match v {
                        "?y" => "(split ?d ?f ?y)".to_owned(),
                        x => x.to_owned(),
                    };
                    let plain = format!("(merge ?f ?d ({f} {x} {y}))");
                    let parted = format!("(merge ?f ?d ({f} {} {}))", split(x), split(y));
                    rules.push(of(name, left.clone(), plain, lacks));
                    rules.push(of(&format!("{name}-split"), left, parted, has));
                }
            }
            rules
        }
        _ => Vec::new(),
    }
}

/// `x[G = pos(H) // R]` is `x` repeated along a new slow-last axis of `R`, `x[G = pos(H) % n]` along
/// a slow one, when these are all positions of `G`.
fn repeat_heads(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (g, x, e) = (listed(terms, m.at("?g"))[0], m.at("?x"), m.at("?e"));
    let heads = match known(terms, e).axes[..] {
        [heads] if !known(terms, x).has(heads) => heads,
        _ => return None,
    };
    let (groups, count) = (terms.analysis.graph.size(g), terms.analysis.graph.size(heads));
    if groups < 2 || count % groups != 0 || count == groups {
        return None;
    }
    let copies = count / groups;
    let slow_last = is_position(terms, e, Pointwise::FloorDiv, heads, copies);
    let slow_first = is_position(terms, e, Pointwise::Mod, heads, groups);
    if !slow_last && !slow_first {
        return None;
    }
    let copy = terms.analysis.part(heads, copies);
    let factors = if slow_last { [g, copy] } else { [copy, g] };
    let spread = broadcast(terms, x, &[copy]);
    let (factors, heads) = (terms.add(Term::axes(&factors)), terms.add(Term::axes(&[heads])));
    Some(terms.add(Term::new(Head::Merge, &[factors, heads, spread])))
}

/// Whether a class is `function(pos(axis), number)`.
fn is_position(terms: &Terms, e: Id, function: Pointwise, axis: AxisId, number: u64) -> bool {
    let list = terms.lookup(Term::axes(&[axis]));
    let pos = list.and_then(|l| terms.lookup(Term::new(Head::Pos, &[l])));
    terms[e].iter().any(|t| {
        t.head == Head::Map(function)
            && pos == Some(terms.find(t.children[0]))
            && is(known(terms, t.children[1]), number as f64)
    })
}

/// `f(x, y)[D -> H*K]` as `f(x[D -> H*K], y[D -> H*K])`.
fn split_of_map(terms: &mut Terms, m: &Match) -> Option<Id> {
    let (d, f, x) = (m.at("?d"), m.at("?f"), m.at("?x"));
    let axis = listed(terms, d)[0];
    let term = terms_of(terms, x).into_iter().find(|t| matches!(t.head, Head::Map(_)))?;
    let operands: Vec<Id> = term
        .children
        .iter()
        .map(|y| match known(terms, *y).has(axis) {
            true => terms.add(Term::new(Head::Split, &[d, f, *y])),
            false => *y,
        })
        .collect();
    Some(terms.add(Term::new(term.head, &operands)))
}
