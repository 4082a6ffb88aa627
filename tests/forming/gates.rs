//! Activations: they and their derivatives are computed where products are, however they are written.

use super::support::{HIDDEN, LOSS, layers, products, show, step, writers};

/// Ways to say a gated MLP, of its two products `a` and `u`.
const GATED: &[&str] = &[
    "x + dot(silu(a) * u, down; F)",
    "x + dot(down, swiglu(a, u); F)",
    "x + dot(a / (1 + exp(-a)) * u, down; F)",
    "dot(u * a * (1 / (1 + exp(-a))), down; F) + x",
    "let s = exp(a) / (1 + exp(a))
  x + dot(a * s * u, down; F)",
    "x + 0.5 * dot((a + a * tanh(a / 2)) * u, down; F)",
    "x + dot(a * u * sigmoid(a), down; F)",
    "x + dot(gelu(a) * u, down; F)",
    "x + dot(gelu_tanh(a) * u, down; F)",
    "x + dot(a * sigmoid(1.702 * a) * u, down; F)",
    "x + dot(max(a, 0) ^ 2 * u, down; F)",
    "x + dot(relu(a) * u, down; F)",
    "x + dot(sigmoid(a) * u, down; F)",
    "x + dot(u * tanh(a), down; F)",
    "let g = min(a, 7)
  let l = clamp(u, -7, 7)
  x + dot(g * sigmoid(1.702 * g) * (l + 1), down; F)",
    "x + dot(a * tanh(log(1 + exp(a))) * u, down; F)",
    "x + dot(a * clamp(a + 3, 0, 6) / 6 * u, down; F)",
    "x + dot(log(1 + exp(a)) * u, down; F)",
    "x + dot((max(a, 0) + log(1 + exp(-abs(a)))) * u, down; F)",
    "x + dot(a * u, down; F)",
    "x + dot(max(a, 0) * max(u, 0), down; F)",
    "x + dot(a / (1 + abs(a)) * u, down; F)",
    "x + dot(where(a > 0, a, 0.2 * a) * u, down; F)",
    "x + dot(0.5 * (1 + erf((a - 0.7) / 0.4)) * u, down; F)",
    "let s = where(a > 0, 1 / (1 + exp(-a)), exp(a) / (1 + exp(a)))
  x + dot(u * (s * a), down; F)",
    "x + 0.5 * dot(silu(a) * u, down; F)",
    "(x + dot(silu(a) * u, down; F)) * sqrt(1/2)",
    "x + dot(dropout(silu(a) * u, 0.1), down; F)",
];

/// The same of one weight, whose rows or columns are gates and ups: `y` has the axis `C` of two.
const JOINED: &[(&str, &str)] = &[
    ("gu[C*F, D]", "swiglu(y[C = 0], y[C = 1])"),
    ("gu[F*C, D]", "swiglu(y[C = 0], y[C = 1])"),
    ("gu[D, C*F]", "y[C = 1] * silu(y[C = 0])"),
    ("gu[D, F*C]", "y[C = 0] * gelu_tanh(y[C = 1])"),
    (
        "gu[C*F, D]",
        "min(y[C = 0], 7) * sigmoid(1.702 * min(y[C = 0], 7)) * (clamp(y[C = 1], -7, 7) + 1)",
    ),
];

/// Ways to say an MLP of one product with a bias, `a`.
const UNGATED: &[&str] = &[
    "x + dot(gelu_tanh(a), wd; F) + bd",
    "x + (dot(gelu(a), wd; F) + bd)",
    "bd + dot(wd, a / 2 * (1 + erf(a * 2 ^ (-1/2))); F) + x",
    "x + dot(where(a > 0, a, 0.01 * a), wd; F) + bd",
    "x + 0.5 * (dot(relu(a) * relu(a), wd; F) + bd)",
    "x + dot(where(a > 0, a, exp(a) - 1), wd; F) + bd",
    "x + dot(1.0507 * where(a > 0, a, 1.67326 * (exp(a) - 1)), wd; F) + bd",
    "x + dot(a + sin(a) ^ 2, wd; F) + bd",
    "x + dot(a * clamp(a / 6 + 0.5, 0, 1), wd; F) + bd",
    "x + dot(a * tanh(log(1 + exp(a))), wd; F) + bd",
    "x + dot(dropout(gelu(a), 0.1), wd; F) + bd",
    "h + dot(gelu(a), wd; F) + bd",
];

/// Gated MLPs with more to learn, or with something behind the last product, and the launches of the way back:
/// one or two more than `GATED` have.
const MORE: &[(&str, usize)] = &[
    ("param scale[D] = 1\n  x + scale * dot(silu(a) * u, down; F)", 11),
    ("param alpha[] = 1\n  x + alpha * dot(silu(a) * u, down; F)", 11),
    ("param beta[] = 1\n  x + dot(a * sigmoid(beta * a) * u, down; F)", 11),
    ("param ba[F], bu[F] = 0\n  x + dot(silu(a + ba) * (u + bu), down; F)", 11),
    ("param bd[D] = 0\n  x + (dot(swiglu(u, a), down; F) + bd)", 10),
    ("x + dropout(dot(silu(a) * u, down; F), 0.1)", 10),
    ("x + tanh(dot(silu(a) * u, down; F))", 10),
    ("let y = dot(silu(a) * u, down; F)\n  x + y * sigmoid(y)", 10),
];

const GATES: &str = "param n[D] = 1, gate[F, D], up[F, D], down[D, F] ~ normal(0.02)
  let h = rms_norm(x, n; D)
  let (a, u) = (dot(h, gate; D), dot(h, up; D))";
const PLAIN: &str = "param n[D] = 1, wi[F, D], wd[D, F] ~ normal(0.02), bi[F], bd[D] = 0
  let h = rms_norm(x, n; D)
  let a = dot(h, wi; D) + bi";

/// Layers with the number of their products and of the launches of the way back.
fn mlps() -> impl Iterator<Item = (String, usize, usize)> {
    let gated = GATED.iter().map(|act| (format!("{GATES}\n  {act}"), 3, 9));
    let ungated = UNGATED.iter().map(|act| (format!("{PLAIN}\n  {act}"), 2, 10));
    let more = MORE.iter().map(|(act, behind)| (format!("{GATES}\n  {act}"), 3, *behind));
    gated.chain(ungated).chain(more)
}

#[test]
fn activations_and_their_derivatives_are_epilogues() {
    assert!(GATED.len() >= 10);
    for (layer, most, behind) in mlps() {
        let formed = step(&layer, LOSS);
        let [forward, back] = layers(&formed);
        let multiply = forward.iter().filter(|l| products(&formed, l) > 0).count();
        assert_eq!(multiply, most, "{}", show(&formed, &forward));
        assert_eq!(forward.len(), most + 1, "a norm and products:\n{}", show(&formed, &forward));
        // The activation itself is computed again; its derivative is no kernel of its own.
        let alone = writers(&formed, &back, HIDDEN);
        assert!(alone.len() <= 1, "{}", show(&formed, &alone));
        assert!(back.len() <= behind, "{} launches\n{layer}\n{}", back.len(), show(&formed, &back));
    }
}

/// One product makes gates and ups: what multiplies them reads both once, and so does its derivative.
#[test]
fn gates_and_ups_of_one_weight_take_one_pass_more() {
    for (weight, act) in JOINED {
        let formed = step(
            &format!(
                "axes C = 2
  param n[D] = 1, {weight}, down[D, F] ~ normal(0.02)
  let y = dot(rms_norm(x, n; D), gu; D)
  x + dot({act}, down; F)"
            ),
            LOSS,
        );
        let [forward, back] = layers(&formed);
        assert_eq!(forward.len(), 4, "norm, product, gate, product:\n{}", show(&formed, &forward));
        assert!(back.len() <= 9, "{act}\n{}", show(&formed, &back));
        assert!(writers(&formed, &back, HIDDEN).len() <= 1, "{act}\n{}", show(&formed, &back));
    }
}
