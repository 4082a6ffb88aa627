//! Products that share an operand become one kernel, however a layer is said: small models in the
//! language through all passes, with every kernel interpreted before and after.

use gigac_frontend::{Mode, Source};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::kernel::{Arithmetic, Kernel, Stmt};
use gigac_ir::train::Settings;
use gigac_passes::driver::Alone;
use gigac_passes::form::{Formed, Unit};
use gigac_passes::options::Options;
use gigac_passes::outcome::of_graph;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, position};

/// A program before and after the pass.
struct Program {
    graph: gigac_ir::graph::Graph,
    formed: Formed,
    merged: Formed,
}

/// A program of a decoder whose `layer` makes the next `x`.
fn program(layer: &str, purpose: Purpose) -> Program {
    let text = format!(
        "model siblings
axes B = 2, T = 5, S = T, V = 11, D = 16, F = 20, H = 4, K = D / H, G = H / 2, J = 2, C = 3, E = 2, L = 2
param embed[V, D], head[V, D] ~ normal(0.3)
layer block(x[B, T, D]) repeat L {{
  param n[D] = 1
  let h = rms_norm(x, n; D)
  {layer}
}}
input tokens[B, T] : token(V), targets[B, T] : token(V)
let x = block(embed[V = tokens])
loss mean(cross_entropy(dot(x, head; D), targets; V))
"
    );
    let source = Source::new("siblings.giga", text.clone());
    let none = |name: &str| Err(format!("there is no `{name}`"));
    let mode = |training| {
        gigac_frontend::compile(&source, &none, &[], Mode { training })
            .unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
            .graph
    };
    let (training, evaluating) = (mode(true), mode(false));
    let settings = Settings::default();
    let source = pipeline::Source {
        training: &training,
        evaluating: &evaluating,
        settings: &settings,
        micro: 1,
        prefix: "",
    };
    let until =
        |end: usize| pipeline::compile(source, purpose, &Options::default(), end, &mut Alone);
    let formed = |end| match until(end) {
        Stage::Formed(formed) => formed,
        _ => panic!("the pass before makes kernels"),
    };
    let graph = match until(position("form")) {
        Stage::Graph(graph) => graph,
        _ => panic!("`form` takes a graph"),
    };
    let at = position("merge");
    Program { graph, formed: formed(at), merged: formed(at + 1) }
}

/// How many sums the loop of each kernel carries that multiplies for a layer on the way forward, and
/// on the way back; attention and sums of products are left out.
fn siblings(formed: &Formed) -> [Vec<usize>; 2] {
    [false, true].map(|reversed| {
        let of_layers = formed.units.iter().filter_map(|unit| match unit {
            Unit::Repeat(l) if l.reversed == reversed => Some(l),
            _ => None,
        });
        let bodies = of_layers.flat_map(|l| l.segments.iter().flat_map(|s| &s.body));
        let launched = bodies.filter_map(|unit| match unit {
            Unit::Launch(launch) if !launch.origin.starts_with("attend") => {
                Some(&formed.kernels[launch.kernel])
            }
            _ => None,
        });
        let mut sums: Vec<usize> = launched.filter_map(sums).collect();
        sums.sort_unstable();
        sums
    })
}

/// The sums of products that a kernel carries through its one loop.
fn sums(kernel: &Kernel) -> Option<usize> {
    let mut loops = kernel.body.iter().filter_map(|stmt| match stmt {
        Stmt::Loop { carried, .. } => Some(carried.len()),
        _ => None,
    });
    let (first, second) = (loops.next(), loops.next());
    let multiplies = kernel.to_string().contains("= dot ");
    first.filter(|_| multiplies && second.is_none())
}

/// Kernels compute the bits that they computed before, and what the graph says.
fn check_meaning(step: &Program, layer: &str) {
    let bindings = Bindings::example(&step.graph);
    let expected =
        of_graph(&step.graph, interpret(&step.graph, &bindings).expect("the graph runs"));
    for kernel in &step.merged.kernels {
        kernel.verify().unwrap_or_else(|e| panic!("{layer}\n{kernel}\n{e:?}"));
    }
    for arithmetic in [Arithmetic::F64, Arithmetic::F32] {
        let before = step.formed.interpret(&bindings, arithmetic);
        let after = step.merged.interpret(&bindings, arithmetic);
        for ((before, after), expected) in before.iter().zip(&after).zip(&expected) {
            let bits = |data: &[f64]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&before.data), bits(&after.data), "{layer}: {}", before.name);
            if arithmetic == Arithmetic::F64 {
                // The gradient of a bias of keys is 0 but for roundings.
                let far = expected.difference(after, 1e-6).relative;
                assert!(far <= 1e-9, "{layer}: {}: {far}", after.name);
            }
        }
    }
}

/// Attention of queries, keys and values from `h`, behind some declarations. Queries may have heads
/// that keys lack.
fn attention(projections: &str) -> String {
    let [stored, heads] = match projections.contains("G*J*K") {
        true => ["G*J*K", "G, J, K"],
        false => ["H*K", "H, K"],
    };
    format!(
        "param wo[D, {stored}] ~ normal(0.3)
  {projections}
  x + dot(attend(q, k[T -> S], v[T -> S], causal(T, S); S, K), wo; {heads})"
    )
}

/// Ways to make queries, keys and values: how many products of `h` forward come together, and how
/// many gradients of weights.
const PROJECTIONS: &[(&str, [&[usize]; 2])] = &[
    // As most say it.
    (
        "param wq[H*K, D], wk[H*K, D], wv[H*K, D] ~ normal(0.3)
  let (q, k, v) = (dot(h, wq; D), dot(h, wk; D), dot(h, wv; D))",
        [&[1, 3], &[1, 1, 3]],
    ),
    // The weight first, its axes the other way round.
    (
        "param wq[D, H*K], wk[D, H*K], wv[D, H*K] ~ normal(0.3)
  let (q, k, v) = (dot(wq, h; D), dot(wk, h; D), dot(wv, h; D))",
        [&[1, 3], &[1, 1, 3]],
    ),
    // Keys alone by rows of `h`: those lie otherwise than queries and values, and stand alone.
    (
        "param wq[D, H*K], wk[D, H*K], wv[D, H*K] ~ normal(0.3)
  let (q, k, v) = (dot(wq, h; D), dot(h, wk; D), dot(wv, h; D))",
        [&[1, 1, 2], &[1, 1, 3]],
    ),
    // Axes of their own.
    (
        "param wq[H, K, D], wk[H, K, D], wv[H, K, D] ~ normal(0.3)
  let (v, k, q) = (dot(h, wv; D), dot(h, wk; D), dot(h, wq; D))",
        [&[1, 3], &[1, 1, 3]],
    ),
    // Biases.
    (
        "param wq[H*K, D], wk[H*K, D], wv[H*K, D], bq[H*K], bk[H*K], bv[H*K] ~ normal(0.3)
  let (q, k, v) = (dot(h, wq; D) + bq, dot(h, wk; D) + bk, bv + dot(h, wv; D))",
        [&[1, 3], &[1, 1, 3]],
    ),
    // Rotated, and scaled beforehand.
    (
        "param wq[H*K, D], wk[H*K, D], wv[H*K, D] ~ normal(0.3)
  let q = rope(dot(h, wq; D) / sqrt(K); T, K)
  let k = rope(dot(h, wk; D); T, K)
  let v = dot(h, wv; D)",
        [&[1, 3], &[1, 1, 3]],
    ),
    // Norms of queries and keys stand between.
    (
        "param wq[H*K, D], wk[H*K, D], wv[H*K, D] ~ normal(0.3), nq[K], nk[K] = 1
  let q = rms_norm(dot(h, wq; D), nq; K)
  let k = rms_norm(dot(h, wk; D), nk; K)
  let v = dot(h, wv; D)",
        [&[1, 3], &[1, 1, 3]],
    ),
    // One weight, taken apart before the products.
    (
        "param w[C*H*K, D] ~ normal(0.3)
  let (q, k, v) = (dot(h, w[C = 0]; D), dot(h, w[C = 1]; D), dot(h, w[C = 2]; D))",
        [&[1, 3], &[1, 1, 3]],
    ),
    // One weight, taken apart behind one product, which is one kernel as it is.
    (
        "param w[C*H*K, D] ~ normal(0.3)
  let a = dot(h, w; D)
  let (q, k, v) = (a[C = 0], a[C = 1], a[C = 2])",
        [&[1, 1], &[1, 1, 1, 1]],
    ),
    // Fewer heads of keys and values: those two have the same columns, and so have their gradients.
    (
        "param wq[G*J*K, D], wk[G*K, D], wv[G*K, D] ~ normal(0.3)
  let (q, k, v) = (dot(h, wq; D), dot(h, wk; D), dot(h, wv; D))",
        [&[1, 1, 2], &[1, 1, 1, 2]],
    ),
    // Keys that are values too.
    (
        "param wq[H*K, D], wk[H*K, D] ~ normal(0.3)
  let (q, k) = (dot(h, wq; D), dot(h, wk; D))
  let v = k",
        [&[1, 2], &[1, 1, 2]],
    ),
];

/// Ways to say a gated unit of `h`.
const GATES: &[&str] = &[
    "let (a, u) = (dot(h, gate; D), dot(h, up; D))
  x + dot(silu(a) * u, down; F)",
    "let u = dot(up, h; D)
  x + dot(down, u * silu(dot(h, gate; D)); F)",
    "let (a, u) = (dot(h, gate; D), dot(h, up; D))
  dot(gelu(a) * u, down; F) + x",
    "x + dot(swiglu(dot(h, gate; D), dot(h, up; D)), down; F)",
    "x + dot(gelu_tanh(dot(h, gate; D)) * dot(h, up; D), down; F)",
    "let (a, u) = (dot(h, gate; D), dot(h, up; D))
  x + dot(max(a, 0) ^ 2 * u, down; F)",
    "let (a, u) = (dot(h, gate; D), dot(h, up; D))
  x + dot(a / (1 + exp(-a)) * u, down; F)",
    "param ba[F], bu[F] ~ normal(0.3)
  let (a, u) = (dot(h, gate; D) + ba, dot(h, up; D) + bu)
  x + dot(silu(a) * u, down; F)",
    "let (a, u) = (dot(h, gate; D), dot(h, up; D))
  0.5 * (x + dot(tanh(a) * (u + 1), down; F))",
    "param w[E*F, D] ~ normal(0.3)
  x + dot(silu(dot(h, w[E = 0]; D)) * dot(h, w[E = 1]; D), down; F)",
];

/// A layer with the weights that a gated unit names.
fn gated(unit: &str) -> String {
    let weights =
        if unit.contains("gate;") { "gate[F, D], up[F, D], down[D, F]" } else { "down[D, F]" };
    format!("param {weights} ~ normal(0.3)\n  {unit}")
}

#[test]
fn queries_keys_and_values_are_one_kernel_however_they_are_said() {
    for (projections, [forward, back]) in PROJECTIONS {
        let layer = attention(projections);
        let step = program(&layer, Purpose::Step);
        assert_eq!(siblings(&step.merged)[0], *forward, "{layer}");
        let found = &siblings(&step.merged)[1];
        assert_eq!(found, back, "{layer}");
        check_meaning(&step, &layer);
    }
}

#[test]
fn gate_and_up_are_one_kernel_however_they_are_said() {
    for gate in GATES {
        let layer = gated(gate);
        let step = program(&layer, Purpose::Step);
        let [forward, back] = siblings(&step.merged);
        assert_eq!(forward, [1, 2], "{layer}");
        // The gradients of gate and up; that of down, and what reaches the activation.
        assert_eq!(back, [1, 1, 2], "{layer}");
        check_meaning(&step, &layer);
    }
}

/// Without a way back nobody reads the gate.
#[test]
fn a_gate_that_nobody_reads_is_not_stored() {
    for (purpose, gates) in [(Purpose::Evaluate, 1), (Purpose::Step, 3)] {
        let layer = gated(GATES[0]);
        let program = program(&layer, purpose);
        let mut pairs = program.merged.kernels.iter().filter(|k| sums(k) == Some(2));
        let pair = pairs.next().expect("gate and up are one kernel").to_string();
        assert_eq!(pair.matches("store ").count(), gates, "{pair}");
        check_meaning(&program, &layer);
    }
}
