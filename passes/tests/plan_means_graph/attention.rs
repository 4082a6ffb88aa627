//! Kernels of attention: masks, scores, grouped queries, axes in any order, both forms of the
//! backward.

use gigac_ir::graph::{Builder, Graph, Op, Role};
use gigac_ir::kernel::Reduction;
use gigac_passes::decompose::decompose;
use gigac_passes::differentiate::differentiate;
use gigac_passes::simplify::simplify;

use crate::check;

/// Attention with trained operands, by the pieces that differ.
struct Case {
    /// `B`, `T`, `S`, `G`, `R`, `K`, `E` and their sizes.
    axes: &'static str,
    /// Axes of q, k and v.
    q: &'static str,
    k: &'static str,
    v: &'static str,
    /// Captured values: a declaration in front, the definition, and the argument.
    captured: &'static str,
    arguments: &'static str,
    /// The score `%90` of the raw product `%50`.
    score: &'static str,
}

const SIZES: &str = "B = 2, T = 37, S = 37, G = 2, R = 3, K = 5, E = 4";

impl Default for Case {
    fn default() -> Self {
        Self {
            axes: SIZES,
            q: "B, T, G, K",
            k: "B, S, G, K",
            v: "B, S, G, K",
            captured: "",
            arguments: "",
            score: "%51 = real[0.4]\n%90 = mul %50, %51",
        }
    }
}

impl Case {
    /// The sum of squares of both results, before it is differentiated.
    fn graph(&self) -> Graph {
        let Self { axes, q, k, v, captured, arguments, score } = self;
        let (declared, defined) = captured.split_once('|').unwrap_or_default();
        let text = format!(
            "graph attention {{
  axes {axes}
  param q[{q}] param k[{k}] param v[{v}] {declared}
  %0 = param[q]
  %1 = param[k]
  %2 = param[v]
  {defined}
  %10, %11 = attend[S, K] %0, %1, %2 score(%50{arguments}) {{
    {score}
    give %90
  }}
  %12 = mul %10, %10
  %13 = mul %11, %11
  result output out = %10
  result output lse = %11
  result output squares = %12
  result output more = %13
}}"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        graph.verify().unwrap_or_else(|e| panic!("{e:?} in\n{text}"));
        graph
    }

    /// The loss over all elements of both results.
    fn loss(&self) -> Graph {
        let mut forward = self.graph();
        forward.roles.clear();
        let results = std::mem::take(&mut forward.root.results);
        let mut b = Builder::new(forward);
        for (i, value) in [results[2], results[3]].into_iter().enumerate() {
            let axes = b.ty(value).axes.clone();
            let sum = b.op(Op::Reduce { op: Reduction::Sum, axes }, &[value]).expect("a sum");
            b.result(Role::LossTerm(i as u32), sum);
        }
        b.finish()
    }

    /// Checks forward and joint; says how many kernels attention has backward.
    fn check(&self) -> usize {
        check(&decompose(simplify(self.graph())));
        let joint = decompose(simplify(differentiate(&self.loss(), 1)));
        let attends = joint.root.nodes.iter().filter(|n| n.region.is_some()).count();
        assert_eq!(attends, 2, "attention has kernels");
        let plan = check(&joint);
        let names = plan.kernels.iter().filter(|k| k.origin.starts_with("d q"));
        names.count()
    }
}

const CAUSAL: &str = "%51 = real[0.4]
    %52 = mul %50, %51
    %53 = pos[S]
    %54 = pos[T]
    %55 = le %53, %54
    %56 = real[-inf]
    %90 = where %55, %52, %56";

#[test]
fn plain() {
    assert_eq!(Case::default().check(), 1);
}

#[test]
fn causal() {
    assert_eq!(Case { score: CAUSAL, ..Case::default() }.check(), 1);
    let long = "B = 2, T = 100, S = 100, G = 2, K = 3";
    Case { axes: long, score: CAUSAL, ..Case::default() }.check();
}

/// With few heads, two kernels share out positions as well.
#[test]
fn few_heads() {
    let case = Case { q: "T, G, K", k: "S, G, K", v: "S, G, K", score: CAUSAL, ..Case::default() };
    assert_eq!(case.check(), 2);
}

#[test]
fn grouped_queries() {
    let case = Case {
        axes: "B = 2, T = 21, S = 37, G = 2, R = 3, K = 5, E = 4",
        q: "B, T, G, R, K",
        v: "B, S, G, E",
        score: CAUSAL,
        ..Case::default()
    };
    assert_eq!(case.check(), 1);
    let few = Case { q: "T, G, R, K", k: "S, G, K", v: "S, G, E", ..case };
    assert_eq!(few.check(), 2);
}

/// Rows without keys, and a window that moves away from the first tiles.
#[test]
fn windows() {
    let score = "%51 = pos[S]
    %52 = pos[T]
    %53 = sub %52, %51
    %54 = int[6]
    %55 = lt %53, %54
    %56 = int[2]
    %57 = ge %53, %56
    %58 = and %55, %57
    %59 = real[-inf]
    %90 = where %58, %50, %59";
    let axes = "B = 2, T = 90, S = 70, G = 2, K = 3";
    Case { axes, score, ..Case::default() }.check();
}

/// The bias and the slopes are trained: the cotangent of the whole score is stored.
#[test]
fn bias_and_slopes() {
    let score = "%51 = pos[S]
    %52 = pos[T]
    %53 = sub %51, %52
    %54 = real %53
    %55 = mul %61, %54
    %56 = add %50, %55
    %57 = add %56, %60
    %58 = le %51, %52
    %59 = real[-inf]
    %90 = where %58, %57, %59";
    let case = Case {
        captured: "param bias[G, T, S] param slope[G] | %20 = param[bias]\n%21 = param[slope]",
        arguments: ", %60 = %20, %61 = %21",
        score,
        ..Case::default()
    };
    assert_eq!(case.check(), 1);
    let few = Case { q: "T, G, K", k: "S, G, K", v: "S, G, K", ..case };
    assert_eq!(few.check(), 2);
}

/// A soft cap, documents, and a mask by adding −∞.
#[test]
fn caps_and_documents() {
    let score = "%51 = real[1.5]
    %52 = div %50, %51
    %53 = tanh %52
    %54 = mul %53, %51
    %55 = eq %60, %61
    %56 = real[0.0]
    %57 = real[-inf]
    %58 = where %55, %56, %57
    %90 = add %54, %58";
    let case = Case {
        captured: "input mine: int(0, 3)[B, T] from data input theirs: int(0, 3)[B, S] from data
            | %20 = input[mine]\n%21 = input[theirs]",
        arguments: ", %60 = %20, %61 = %21",
        score,
        ..Case::default()
    };
    assert_eq!(case.check(), 1);
}

/// Inner axes and columns of two axes each; operands that lie in other orders.
#[test]
fn several_axes() {
    let case = Case {
        axes: "B = 2, T = 20, S = 33, G = 2, K = 3, E = 2",
        q: "G, K, B, T",
        k: "B, G, S, K",
        v: "E, S, K, B, G",
        score: CAUSAL,
        ..Case::default()
    };
    case.check();
}

/// A score that does not depend on the product.
#[test]
fn score_of_a_bias_alone() {
    let case = Case {
        captured: "param bias[G, S] | %20 = param[bias]",
        arguments: ", %60 = %20",
        score: "%90 = broadcast[B, T] %60",
        ..Case::default()
    };
    case.check();
}

/// Axes that kernels do not take are decomposed: values that vary along the queries, no axis of
/// queries, one query, heads without columns.
#[test]
fn odd_axes_are_decomposed() {
    let case = |q, v| Case { q, v, ..Case::default() };
    let one = "B = 2, T = 1, S = 37, G = 2, K = 5";
    for case in [
        case("B, T, G, K", "B, S, T, K"),
        case("B, G, K", "B, S, G, K"),
        case("B, T, G, K", "B, S, G"),
        Case { axes: one, ..Case::default() },
    ] {
        let graph = decompose(simplify(case.graph()));
        assert!(graph.root.nodes.iter().all(|n| n.region.is_none()));
        check(&graph);
    }
}
