//! Searches over terms: spellings of attention meet in one class.

use std::collections::HashMap;

use egg::{EGraph, Id, Pattern, Subst, Var};
use gigac_ir::graph::{AxisId, DType, Graph, Type, ValueId};

use super::facts::{Context, Terms};
use super::search::{Searched, Stop, rewrites, saturate};
use super::term::{Head, Term};

/// Scores in different ways.
const SCORES: &[&str] = &[
    "(where (le (pos ?S) (pos ?T)) (mul (dot ?K ?q ?k) 0.5) -inf)",
    "(where (le (pos ?S) (pos ?T)) (dot ?K (mul 0.5 ?q) ?k) -inf)",
    "(where (le (pos ?S) (pos ?T)) (div (dot ?K ?k ?q) 2.0) -inf)",
    "(mul 0.5 (where (le (pos ?S) (pos ?T)) (dot ?K ?q ?k) -inf))",
    "(div (where (gt (pos ?S) (pos ?T)) -inf (dot ?K ?q ?k)) 2.0)",
    "(add (mul (dot ?K ?q ?k) 0.5) (where (ge (pos ?T) (pos ?S)) 0.0 -inf))",
    "(sub (mul (dot ?K ?q ?k) 0.5) (where (not (lt (pos ?T) (pos ?S))) 0.0 inf))",
    "(add (log (where (le (pos ?S) (pos ?T)) 1.0 0.0)) (mul 0.5 (dot ?K ?q ?k)))",
    "(where (ge (sub (pos ?T) (pos ?S)) 0) (dot ?K (mul ?q 0.25) (mul ?k 2.0)) -inf)",
    "(where (lt (pos ?S) (add (pos ?T) 1)) (where (ge (pos ?S) 0) (mul (dot ?K ?q ?k) 0.5) -inf) -inf)",
    "(mul (where (and (le (pos ?S) (pos ?T)) (lt (pos ?S) 8)) (mul (dot ?K ?q ?k) 0.5) -inf) 1.0)",
];

/// Ways to weigh values by a score `?x`.
const WEIGHTS: &[&str] = &[
    "(dot ?S (div (exp ?x) (sum ?S (exp ?x))) ?v)",
    "(dot ?S ?v (div (exp (sub ?x (largest ?S ?x))) (sum ?S (exp (sub ?x (largest ?S ?x))))))",
    "(div (dot ?S (exp (sub ?x (stop (largest ?S ?x)))) ?v) (sum ?S (exp (sub ?x (stop (largest ?S ?x))))))",
    "(mul (dot ?S (exp ?x) ?v) (div 1.0 (sum ?S (exp ?x))))",
    "(dot ?S (exp (sub ?x (add (log (sum ?S (exp (sub ?x (largest ?S ?x))))) (largest ?S ?x)))) ?v)",
    "(dot ?S (exp (sub (sub ?x (largest ?S ?x)) (log (sum ?S (exp (sub ?x (largest ?S ?x))))))) ?v)",
    "(dot ?S (div (exp (sub ?x (where (eq (largest ?S ?x) -inf) 0.0 (largest ?S ?x)))) \
      (max (sum ?S (exp (sub ?x (where (eq (largest ?S ?x) -inf) 0.0 (largest ?S ?x))))) 0.5)) ?v)",
    "(dot ?S (div (exp ?x) (where (eq (sum ?S (exp ?x)) 0.0) 1.0 (sum ?S (exp ?x)))) ?v)",
];

/// An e-graph with queries, keys and values, and the variables that stand for them.
fn start() -> (Terms, Subst) {
    let mut graph = Graph::new("spellings");
    let axes = [("B", 2), ("T", 8), ("S", 8), ("H", 2), ("K", 4)];
    let [b, t, s, h, k] = axes.map(|(name, size)| graph.add_axis(name, size));
    let mut terms = EGraph::new(Context::new(graph));
    let mut subst = Subst::default();
    let mut bind = |name: &str, id: Id| {
        subst.insert(name.parse::<Var>().expect("a variable"), id);
    };
    for (name, axis) in [("?T", t), ("?S", s), ("?K", k)] {
        bind(name, terms.add(Term::axes(&[axis])));
    }
    let values: [(&str, &[AxisId]); 3] =
        [("?q", &[b, t, h, k]), ("?k", &[b, s, h, k]), ("?v", &[b, s, h, k])];
    for (i, (name, axes)) in values.into_iter().enumerate() {
        let value = ValueId(i as u32);
        let ty = Type { dtype: DType::F32, axes: axes.to_vec() };
        terms.analysis.types.insert(value, ty);
        bind(name, terms.add(Term::leaf(Head::Value(value))));
    }
    (terms, subst)
}

fn add(terms: &mut Terms, subst: &Subst, text: &str) -> Id {
    let pattern: Pattern<Term> = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    terms.add_instantiation(&pattern.ast, subst)
}

/// Attention with each score and the first weights, and with the first score and each weights.
fn spellings(terms: &mut Terms, subst: &Subst) -> Vec<Id> {
    let mut ids = Vec::new();
    for (i, score) in SCORES.iter().enumerate() {
        for weight in if i == 0 { WEIGHTS } else { &WEIGHTS[6..7] } {
            let mut subst = subst.clone();
            let score = add(terms, &subst, score);
            subst.insert("?x".parse().expect("a variable"), score);
            ids.push(add(terms, &subst, weight));
        }
    }
    ids
}

#[test]
fn spellings_of_attention_meet_in_one_class() {
    let (mut terms, subst) = start();
    let ids = spellings(&mut terms, &subst);
    assert!(ids.len() >= 18);
    let Searched { terms, stop, .. } = saturate(terms, &rewrites(false), 10_000, 40);
    assert_eq!(stop, Stop::Saturated);
    let nodes = terms.total_number_of_nodes();
    assert!(nodes < 10_000, "{nodes} nodes");
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(terms.find(*id), terms.find(ids[0]), "spelling {i} of {nodes} nodes");
    }
}

#[test]
fn exact_rules_unite_no_other_order_of_sums() {
    let (mut terms, subst) = start();
    let before = add(&mut terms, &subst, "(mul 0.3 (dot ?K ?q ?k))");
    let after = add(&mut terms, &subst, "(dot ?K (mul 0.3 ?q) ?k)");
    let searched = saturate(terms, &rewrites(true), 10_000, 40);
    assert_ne!(searched.terms.find(before), searched.terms.find(after));
}

#[test]
fn limits_stop_a_search() {
    let limited = |nodes, iterations| {
        let (mut terms, subst) = start();
        spellings(&mut terms, &subst);
        saturate(terms, &rewrites(false), nodes, iterations).stop
    };
    assert_eq!(limited(100, 40), Stop::Nodes);
    assert_eq!(limited(10_000, 2), Stop::Iterations);
}

/// A rule that gives an axis the name of another that the value has is broken, and the analysis
/// says so.
#[test]
#[should_panic(expected = "already has axis `S`")]
fn crossing_axes_are_an_error() {
    let (mut terms, subst) = start();
    let crossing = "(rename ?T ?S (le (pos ?S) (pos ?T)))";
    add(&mut terms, &subst, crossing);
}

/// The same terms in the same order make the same e-graph.
#[test]
fn searches_are_deterministic() {
    let run = || {
        let (mut terms, subst) = start();
        spellings(&mut terms, &subst);
        let searched = saturate(terms, &rewrites(false), 10_000, 40);
        let classes: HashMap<Id, Vec<Term>> =
            searched.terms.classes().map(|c| (c.id, c.nodes.clone())).collect();
        (classes, searched.applied)
    };
    assert!(run() == run());
}
