//! Chunking keeps the meaning, and no value as large as the logits stays outside a chunk, however
//! the loss is spelt.

use std::collections::BTreeMap;

use gigac_ir::graph::{Graph, InputId, Op, ParamId, Region, Slot};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_passes::chunk::{Limits, chunk};
use gigac_passes::{differentiate, simplify};

const LIMITS: Limits = Limits { least_elements: 64, expansion: 4, least_rows: 4 };

/// A loss over the logits `%4`, with hidden values `%2`, head `%1` and targets `%3`.
fn graph(loss: &str, [samples, tokens]: [u64; 2]) -> Graph {
    let text = format!(
        "graph spelling {{
  axes B = {samples}, T = {tokens}, D = 3, V = 16
  param hidden[B, T, D] = 1
  param head[V, D] = 1
  input targets: int(0, 16)[B, T] from data
  %0 = param[hidden]
  %1 = param[head]
  %2 = tanh %0
  %3 = input[targets]
  %4 = dot[D] %2, %1
{loss}
}}"
    );
    let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph
}

/// Numbers that look random: the fractional parts of multiples of an irrational.
fn numbers(seed: usize, count: u64) -> Vec<f64> {
    (0..count).map(|i| ((seed + 1) as f64 * 0.754_877 + i as f64 * 0.569_840_29).fract()).collect()
}

fn bindings(graph: &Graph) -> Bindings {
    let params = graph.params.iter().enumerate().map(|(i, param)| {
        let data = numbers(i, graph.elements(&param.axes()));
        ((ParamId(i as u32), Slot::Weight), data)
    });
    let count = graph.elements(&graph.inputs[0].ty.axes) as u32;
    let targets = (0..count).map(|i| f64::from(i * 7 % 16)).collect();
    let inputs = BTreeMap::from([(InputId(0), targets)]);
    Bindings { params: params.collect(), inputs, ..Bindings::default() }
}

/// Elements of the largest value that some node outside all repeats computes.
fn largest_outside(graph: &Graph, region: &Region) -> u64 {
    let computed = region.nodes.iter().filter(|n| !matches!(n.op, Op::Repeat { .. }));
    let results = computed.flat_map(|n| &n.results);
    results.map(|v| graph.elements(&graph.ty(*v).axes)).max().unwrap_or(0)
}

fn check(name: &str, loss: &str, sizes: [u64; 2]) -> Graph {
    let joint = simplify::simplify(differentiate::differentiate(&graph(loss, sizes), 1));
    let cut = simplify::simplify(chunk(joint.clone(), &LIMITS));
    cut.verify().unwrap_or_else(|e| panic!("{name}: {e:?}\n{cut}"));
    let bindings = bindings(&joint);
    let (before, after) = (interpret(&joint, &bindings), interpret(&cut, &bindings));
    let (before, after) = (before.expect("it runs"), after.expect("it runs"));
    for ((role, _), (a, b)) in joint.results().zip(before.iter().zip(&after)) {
        let b = b.arranged(&a.axes, &a.sizes);
        for (x, y) in a.data.iter().zip(&b.data) {
            assert!((x - y).abs() <= 1e-12 * (1.0 + x.abs()), "{name}, {role:?}: {x} and {y}");
        }
    }
    cut
}

const SPELLINGS: &[(&str, &str)] = &[
    (
        "log-sum-exp less the choice",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = log %6\n  %8 = gather[V] %4, %3
  %9 = sub %7, %8\n  %10 = reduce[sum: B, T] %9\n  result term 0 = %10",
    ),
    (
        "log of the softmax, chosen",
        "  %5 = reduce[max: V] %4\n  %6 = stop %5\n  %7 = sub %4, %6\n  %8 = exp %7
  %9 = reduce[sum: V] %8\n  %10 = div %8, %9\n  %11 = log %10\n  %12 = gather[V] %11, %3
  %13 = neg %12\n  %14 = reduce[sum: B, T] %13\n  result term 0 = %14",
    ),
    (
        "one-hot times log-probabilities, one sum over all",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = log %6\n  %8 = sub %4, %7\n  %9 = pos[V]
  %10 = eq %9, %3\n  %11 = real %10\n  %12 = mul %11, %8\n  %13 = neg %12
  %14 = reduce[sum: V, B, T] %13\n  result term 0 = %14",
    ),
    (
        "soft-cap, masked tokens and a z-loss over their number",
        "  %5 = real[0.5]\n  %6 = mul %4, %5\n  %7 = tanh %6\n  %8 = exp %7\n  %9 = reduce[sum: V] %8
  %10 = log %9\n  %11 = gather[V] %7, %3\n  %12 = sub %10, %11\n  %13 = mul %10, %10
  %14 = add %12, %13\n  %15 = int[4]\n  %16 = ge %3, %15\n  %17 = real[0.0]
  %18 = where %16, %14, %17\n  %19 = reduce[sum: B, T] %18\n  %20 = real %16
  %21 = reduce[sum: B, T] %20\n  result term 0 = %19\n  result per 0 = %21",
    ),
    (
        "weights by position",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = log %6\n  %8 = gather[V] %4, %3
  %9 = sub %7, %8\n  %10 = pos[T]\n  %11 = real %10\n  %12 = mul %9, %11
  %13 = reduce[sum: B, T] %12\n  result term 0 = %13",
    ),
    (
        "logarithm of the chosen probability",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = div %5, %6\n  %8 = gather[V] %7, %3
  %9 = log %8\n  %10 = neg %9\n  %11 = reduce[sum: B, T] %10\n  result term 0 = %11",
    ),
    (
        "gradients through the maximum",
        "  %5 = reduce[max: V] %4\n  %6 = sub %4, %5\n  %7 = exp %6\n  %8 = reduce[sum: V] %7
  %9 = log %8\n  %10 = add %9, %5\n  %11 = gather[V] %4, %3\n  %12 = sub %10, %11
  %13 = reduce[sum: B, T] %12\n  result term 0 = %13",
    ),
    (
        "a sum of what is left where the position is the target",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = log %6\n  %8 = pos[V]\n  %9 = eq %8, %3
  %10 = real[0.0]\n  %11 = where %9, %4, %10\n  %12 = reduce[sum: V] %11\n  %13 = sub %7, %12
  %14 = reduce[sum: B, T] %13\n  result term 0 = %14",
    ),
    (
        "label smoothing",
        "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = log %6\n  %8 = gather[V] %4, %3
  %9 = real[0.9]\n  %10 = mul %8, %9\n  %11 = reduce[sum: V] %4\n  %12 = real[0.00625]
  %13 = mul %11, %12\n  %14 = sub %7, %10\n  %15 = sub %14, %13
  %16 = reduce[sum: B, T] %15\n  result term 0 = %16",
    ),
    (
        "a temperature, and what is hard counts more",
        "  %5 = real[2.0]\n  %6 = div %4, %5\n  %7 = exp %6\n  %8 = reduce[sum: V] %7\n  %9 = div %7, %8
  %10 = gather[V] %9, %3\n  %11 = log %10\n  %12 = real[1.0]\n  %13 = sub %12, %10
  %14 = mul %13, %13\n  %15 = mul %14, %11\n  %16 = neg %15
  %17 = reduce[sum: B, T] %16\n  result term 0 = %17",
    ),
];

#[test]
fn every_spelling_is_cut_and_keeps_its_meaning() {
    // Of one sample of thirteen tokens three chunks of four are cut, and one token is left.
    for [samples, tokens] in [[2, 6], [1, 13], [1, 11]] {
        for (name, loss) in SPELLINGS {
            let cut = check(name, loss, [samples, tokens]);
            let largest = largest_outside(&cut, &cut.root);
            let few = samples * tokens * 16 / 2;
            assert!(largest < few, "{name}: {largest} elements outside the chunks\n{cut}");
        }
    }
}

#[test]
fn a_loss_that_needs_all_logits_at_once_stays_whole() {
    // Each token's weight depends on the mean of all losses, so no chunk can end before all begin.
    let loss = "  %5 = exp %4\n  %6 = reduce[sum: V] %5\n  %7 = reduce[sum: B, T] %6
  %8 = mul %5, %7\n  %9 = reduce[sum: V, B, T] %8\n  result term 0 = %9";
    let cut = check("coupled tokens", loss, [2, 6]);
    assert_eq!(largest_outside(&cut, &cut.root), 2 * 6 * 16, "{cut}");
}

#[test]
fn chunks_do_not_depend_on_where_the_product_stands() {
    let text = "graph micro {
  axes M = 2, T = 8, D = 2, V = 16
  param head[V, D] = 1
  input hidden: f32[M, T, D] from data
  %0 = param[head]
  %1 = input[hidden]
  %2 = real[0.0]
  %3 = repeat[M] turn %4 carry(%5 = %2) stack(%6 = %1) {
    %7 = dot[D] %6, %0
    %8 = exp %7
    %9 = reduce[sum: T, V] %8
    %10 = add %5, %9
    next %10
  }
  result output sum = %3
}";
    let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{e:?}"));
    let cut = chunk(graph, &LIMITS);
    cut.verify().unwrap_or_else(|e| panic!("{e:?}"));
    let body = cut.root.nodes.iter().find_map(|n| n.region.as_ref()).expect("the repeat");
    assert!(body.nodes.iter().any(|n| n.region.is_some()), "no chunks inside the repeat:\n{cut}");
}
