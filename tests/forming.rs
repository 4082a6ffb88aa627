//! What becomes of the parts of a decoder: models in the language through all passes, and the
//! launches that are left of them.

use std::collections::{BTreeMap, BTreeSet};

use gigac_frontend::{Mode, Source};
use gigac_ir::graph::{ParamId, Role};
use gigac_ir::kernel::Access;
use gigac_ir::train::Settings;
use gigac_passes::driver::Alone;
use gigac_passes::form::{Formed, Launch, Unit};
use gigac_passes::options::Options;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE, position};

/// The formed training step of a model: `layer` makes the next `x`.
fn step(layer: &str, loss: &str) -> Formed {
    let text = format!(
        "model parts
axes B = 2, T = 1024, S = T, V = 1024, D = 64, F = 256, H = 4, K = D / H, L = 3
param embed[V, D], head[V, D] ~ normal(0.02)
layer block(x[B, T, D]) repeat L {{
  {layer}
}}
input tokens[B, T] : token(V), targets[B, T] : token(V)
let x = block(embed[V = tokens])
let logits = dot(x, head; D)
{loss}
"
    );
    let source = Source::new("parts.giga", text.clone());
    let none = |name: &str| Err(format!("there is no `{name}`"));
    let mode = |training| {
        gigac_frontend::compile(&source, &none, &[], Mode { training })
            .unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
            .graph
    };
    let (training, evaluating) = (mode(true), mode(false));
    let settings = Settings { clip: Some(1.0), ..Settings::default() };
    let source = pipeline::Source {
        training: &training,
        evaluating: &evaluating,
        settings: &settings,
        micro: 1,
        prefix: "",
    };
    let end = position("form") + 1;
    assert!(end < PIPELINE.len());
    match pipeline::compile(source, Purpose::Step, &Options::default(), end, &mut Alone) {
        Stage::Formed(formed) => formed,
        _ => unreachable!("`form` forms"),
    }
}

/// A loss that takes little.
const LOSS: &str = "loss mean(cross_entropy(logits, targets; V))";

/// The launches of a part of the program, loops inside included.
fn launches(units: &[Unit]) -> Vec<&Launch> {
    let mut found = Vec::new();
    for unit in units {
        match unit {
            Unit::Launch(launch) => found.push(launch),
            Unit::Repeat(l) => found.extend(l.segments.iter().flat_map(|s| launches(&s.body))),
        }
    }
    found
}

/// What the layers launch on the way forward, and on the way back.
fn layers(formed: &Formed) -> [Vec<&Launch>; 2] {
    [false, true].map(|reversed| {
        let loops = formed.units.iter().filter_map(|unit| match unit {
            Unit::Repeat(l) if l.reversed == reversed => Some(l),
            _ => None,
        });
        let named = loops.filter(|l| formed.graph.axes[l.axis.index()].name == "L");
        named.flat_map(|l| l.segments.iter().flat_map(|s| launches(&s.body))).collect()
    })
}

fn show(formed: &Formed, launches: &[&Launch]) -> String {
    let text = |l: &&Launch| formed.kernels[l.kernel].to_string();
    launches.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// How many products a launch computes.
fn products(formed: &Formed, launch: &Launch) -> usize {
    formed.kernels[launch.kernel].to_string().matches("= dot ").count()
}

/// Launches of a layer that multiply no matrices and write something of a size.
fn writers<'f>(formed: &Formed, layer: &[&'f Launch], elements: u64) -> Vec<&'f Launch> {
    let writes = |launch: &&&Launch| {
        let mut buffers = formed.kernels[launch.kernel].buffers.iter();
        let large = buffers.any(|b| b.access != Access::Read && b.elements == elements);
        large && products(formed, launch) == 0
    };
    layer.iter().filter(writes).copied().collect()
}

/// Elements of `x`, and of what is between the products of an MLP.
const X: u64 = 2 * 1024 * 64;
const HIDDEN: u64 = 4 * X;

/// Ways to say a norm with a gain, and some with a bias.
const NORMS: &[&str] = &[
    "rms_norm(x, g; D) + b",
    "layer_norm(x, g, b; D)",
    "g * (x * (sum(x ^ 2; D) / D + 1e-5) ^ (-1/2)) + b",
    "b + x / sqrt(dot(x, x; D) / D + 1e-5) * (1 + g)",
    "let r = 1 / sqrt(mean(x * x; D) + 1e-5)
  x * r * g + b",
    "sqrt(D) * x / max(sqrt(sum(x * x; D)), 1e-6) * g + b",
    "let m = sum(x; D) / D
  let v = sum(x ^ 2; D) / D - m ^ 2
  (x - m) * (v + 1e-5) ^ (-1/2) * g + b",
    "let m = mean(x; D)
  let v = mean((x - m) ^ 2; D)
  let r = 1 / sqrt(v + 1e-5)
  g * (x * r - m * r) + b",
];

#[test]
fn a_norm_is_one_kernel_and_so_is_the_cotangent_behind_it() {
    for norm in NORMS {
        let formed = step(&format!("param g[D], b[D] = 1\n  {norm}"), LOSS);
        let [forward, back] = layers(&formed);
        assert_eq!(forward.len(), 1, "{}", show(&formed, &forward));
        // Beside it stand the gradients of gain and bias, and one number for each row.
        let large = writers(&formed, &back, X);
        assert_eq!(large.len(), 1, "{norm}\n{}", show(&formed, &large));
        assert!(back.len() <= 3, "{norm}\n{}", show(&formed, &back));
    }
}

/// Ways to say a gated MLP, of its two products `a` and `u`.
const ACTIVATIONS: &[&str] = &[
    "x + dot(silu(a) * u, down; F)",
    "x + dot(down, swiglu(a, u); F)",
    "x + dot(a / (1 + exp(-a)) * u, down; F)",
    "dot(u * a * (1 / (1 + exp(-a))), down; F) + x",
    "let s = exp(a) / (1 + exp(a))
  x + dot(a * s * u, down; F)",
    "x + 0.5 * dot((a + a * tanh(a / 2)) * u, down; F)",
    "x + dot(gelu(a) * u, down; F)",
    "x + dot(max(a, 0) ^ 2 * u, down; F)",
];

/// Ways to say an MLP of one product with a bias, `a`.
const UNGATED: &[&str] = &[
    "x + dot(gelu_tanh(a), wd; F) + bd",
    "x + (dot(gelu(a), wd; F) + bd)",
    "bd + dot(wd, a / 2 * (1 + erf(a * 2 ^ (-1/2))); F) + x",
    "x + dot(where(a > 0, a, 0.01 * a), wd; F) + bd",
    "x + 0.5 * (dot(relu(a) * relu(a), wd; F) + bd)",
    "x + dot(where(a > 0, a, exp(a) - 1), wd; F) + bd",
];

#[test]
fn activations_and_their_derivatives_are_epilogues() {
    let gated = "param n[D] = 1, gate[F, D], up[F, D], down[D, F] ~ normal(0.02)
  let h = rms_norm(x, n; D)
  let (a, u) = (dot(h, gate; D), dot(h, up; D))";
    let plain = "param n[D] = 1, wi[F, D], wd[D, F] ~ normal(0.02), bi[F], bd[D] = 0
  let h = rms_norm(x, n; D)
  let a = dot(h, wi; D) + bi";
    let swiglu = ACTIVATIONS.iter().map(|act| (format!("{gated}\n  {act}\n"), 3));
    let gelu = UNGATED.iter().map(|act| (format!("{plain}\n  {act}\n"), 2));
    for (layer, most) in swiglu.chain(gelu) {
        let formed = step(&layer, LOSS);
        let [forward, back] = layers(&formed);
        let multiply = forward.iter().filter(|l| products(&formed, l) > 0).count();
        assert_eq!(multiply, most, "{}", show(&formed, &forward));
        assert_eq!(forward.len(), most + 1, "a norm and products:\n{}", show(&formed, &forward));
        // The activation itself is computed again; its derivative is no kernel of its own.
        let alone = writers(&formed, &back, HIDDEN);
        assert!(alone.len() <= 1, "{}", show(&formed, &alone));
    }
}

#[test]
fn what_projections_of_one_value_give_back_is_summed_in_registers() {
    let formed = step(
        "param n[D] = 1, wq[H*K, D], wk[H*K, D], wv[H*K, D], wo[D, H*K] ~ normal(0.02)
  let h = rms_norm(x, n; D)
  let q = rope(dot(h, wq; D); T, K)
  let k = rope(dot(h, wk; D); T, K)[T -> S]
  let v = dot(h, wv; D)[T -> S]
  x + dot(attend(q, k, v, causal(T, S); S, K), wo; H, K)",
        LOSS,
    );
    let [forward, back] = layers(&formed);
    let counts: Vec<usize> = back.iter().map(|l| products(&formed, l)).collect();
    let attends = |l: &&&Launch| l.origin.starts_with("attend");
    let attention: Vec<usize> = back.iter().filter(attends).map(|l| products(&formed, l)).collect();
    assert_eq!(attention, [5], "one kernel of attention:\n{}", show(&formed, &back));
    assert_eq!(counts.iter().filter(|c| **c == 3).count(), 1, "{counts:?}");
    // Queries and keys are rotated once each. On the way back their cotangents are, and one kernel
    // over rows makes the cotangent of `x`, and `h` again on its way.
    assert_eq!(writers(&formed, &forward, X).len(), 3, "{}", show(&formed, &forward));
    let large = writers(&formed, &back, X);
    assert_eq!(large.len(), 2 + 1, "{}", show(&formed, &large));
}

#[test]
fn the_optimizer_passes_once_over_each_parameter() {
    let formed = step("param w[D, F], u[F, D] ~ normal(0.02)\n  x + dot(dot(x, w; D), u; F)", LOSS);
    let mut updated: BTreeMap<ParamId, BTreeSet<usize>> = BTreeMap::new();
    let all = launches(&formed.units);
    for (role, value) in formed.graph.results() {
        let Role::Update(param, _) = role else { continue };
        let writes = |l: &&Launch| {
            let buffers = &formed.kernels[l.kernel].buffers;
            let mut arguments = l.arguments.iter().zip(buffers);
            arguments.any(|(v, b)| *v == value && b.access != Access::Read)
        };
        let makers = all.iter().enumerate().filter(|(_, l)| writes(l)).map(|(i, _)| i);
        updated.entry(*param).or_default().extend(makers);
    }
    assert_eq!(updated.len(), 4);
    for (param, makers) in updated {
        let makers: Vec<&Launch> = makers.into_iter().map(|i| all[i]).collect();
        assert_eq!(makers.len(), 1, "{param:?}\n{}", show(&formed, &makers));
    }
}

/// Ways to say the loss.
const LOSSES: &[&str] = &[
    "loss mean(cross_entropy(logits, targets; V))",
    "loss mean(logsumexp(logits; V) - logits[V = targets])",
    "loss mean(log(sum(exp(logits); V)) - logits[V = targets])",
    "let m = max(logits; V)
loss mean(log(sum(exp(logits - m); V)) + m - logits[V = targets])",
    "loss mean(-log(softmax(logits; V)[V = targets]))",
    "let p = softmax(logits; V)
loss mean(-log(p[V = targets] + 1e-9))",
    "loss mean(-sum(where(targets == pos(V), logits - logsumexp(logits; V), 0); V))",
    "loss mean(logsumexp(logits; V) - 0.9 * logits[V = targets] - 0.1 * mean(logits; V))",
    "loss mean(cross_entropy(softcap(logits, 30), targets; V))",
    "loss mean(cross_entropy(logits, targets; V) + 1e-4 * logsumexp(logits; V) ^ 2)",
    "let keep = targets > 7
loss sum(where(keep, cross_entropy(logits, targets; V), 0)) per sum(keep)",
    "let z = logits - stop(max(logits; V))
let logp = z - log(sum(exp(z); V))
loss -mean(logp[V = targets])",
    "let logp = log(softmax(logits; V))
loss -sum(where(pos(V) == targets, logp, 0)) / (B * T)",
    "let hot = where(pos(V) == targets, 0.9, 0.1 / V)
loss -sum(hot * (logits - logsumexp(logits; V))) / (B * T)",
    "let nll = cross_entropy(logits, targets; V)
loss mean((1 - exp(-nll)) ^ 2 * nll)",
    "let p = exp(logits) / sum(exp(logits); V)
loss mean(log(1 / p[V = targets]))",
    "loss mean(cross_entropy(logits / sqrt(D), targets; V))
metric certainty = mean(max(softmax(logits; V); V))",
];

#[test]
fn logits_are_never_stored_however_the_loss_is_said() {
    for loss in LOSSES {
        let formed = step("x", loss);
        for launch in launches(&formed.units) {
            for value in &launch.arguments {
                let elements = formed.graph.elements(&formed.graph.ty(*value).axes);
                assert!(elements < 2 * 1024 * 1024, "{loss}\n{}", formed.kernels[launch.kernel]);
            }
        }
    }
}
