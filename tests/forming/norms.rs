//! Norms: one kernel forward, and on the way back one that makes the cotangent of `x`, beside the gradients of
//! the gain and the bias, however the norm is written.

use super::support::{BF16, LOSS, X, layers, with, writers};

/// RMSNorm with a gain `g`.
const RMS: &[&str] = &[
    "rms_norm(x, g; D)",
    "g * (x * (sum(x ^ 2; D) / D + 1e-5) ^ (-1/2))",
    "x / sqrt(dot(x, x; D) / D + 1e-5) * g",
    "let r = 1 / sqrt(mean(x * x; D) + 1e-5)
  x * r * g",
    "sqrt(D) * x / max(sqrt(sum(x * x; D)), 1e-6) * g",
    "x / (sqrt(mean(x * x; D)) + 1e-6) * g",
    "let y = f32(x)
  y * (mean(y ^ 2; D) + 1e-6) ^ -0.5 * (1 + g)",
    "let one = where(pos(D) < D, 1, 0)
  x / sqrt(dot(x * x, f32(one); D) / D + 1e-5) * g",
    "x * g / sqrt(sum(x * x / D; D) + 1e-5)",
    "let y = x / sqrt(D)
  x / sqrt(sum(y * y; D) + 1e-5) * g",
    "x * exp(-0.5 * log(mean(x * x; D) + 1e-5)) * g",
    "let s = sum(x * x; D) * (1 / D)
  g * x * (s + 1e-5) ^ (-1/2)",
    "x * sqrt(1 / (mean(x ^ 2; D) + 1e-5)) * g",
    "x * (mean(abs(x) ^ 2; D) + 1e-5) ^ -0.5 * g",
    "x * (dot(x / D, x; D) + 1e-5) ^ (-1/2) * g",
    "x * (sqrt(D) / sqrt(sum(x * x; D) + D * 1e-5)) * g",
    "x / max(sqrt(mean(x ^ 2; D)), 1e-6) * g",
    "let m = stop(max(max(abs(x); D), 1e-6))
  let y = x / m
  y / sqrt(mean(y * y; D) + 1e-6) * g",
    "(x / sqrt(mean(x * x; D) + 1e-5) * g) * sqrt(1 + 1e-5)",
    "let y = x / sqrt(mean(x * x; D) + 1e-5)
  y + y * g",
    "let y = x / sqrt(mean(x * x; D) + 1e-5)
  where(g == 0, 0, y * g)",
    "x / (mean(x * x; D) + 1e-5) ^ 0.5 * g",
    "2 * g * x / sqrt(4 * mean(x * x; D) + 4e-5)",
];

/// LayerNorm with a gain `g` and a bias `b`.
const LAYER: &[&str] = &[
    "layer_norm(x, g, b; D)",
    "let m = sum(x; D) / D
  let v = sum(x ^ 2; D) / D - m ^ 2
  (x - m) * (v + 1e-5) ^ (-1/2) * g + b",
    "let m = mean(x; D)
  let v = mean((x - m) ^ 2; D)
  let r = 1 / sqrt(v + 1e-5)
  g * (x * r - m * r) + b",
    "let c = x - mean(x; D)
  c / (sqrt(mean(c * c; D)) + 1e-6) * g + b",
    "let c = x - mean(x; D)
  let c = c - mean(c; D)
  c / sqrt(mean(c * c; D) + 1e-5) * g + b",
    "let one = where(pos(D) < D, 1, 0)
  let c = x - dot(x, f32(one); D) / D
  c / sqrt(dot(c, c; D) / D + 1e-5) * g + b",
    "let m = mean(x; D)
  let v = max(mean(x * x; D) - m * m, 0)
  (x - m) / sqrt(v + 1e-5) * g + b",
    "let c = x - mean(x; D)
  c / sqrt(sum(c * c; D) / (D - 1) + 1e-5) * g + b",
    "let c = x - mean(x; D)
  c * g / sqrt(mean(c ^ 2; D) + 1e-5) + b",
    "let y = f32(x)
  let c = y - sum(y / D; D)
  c * (mean(c * c; D) + 1e-5) ^ -0.5 * (1 + g) + b",
    "b + g * ((x - mean(x; D)) / sqrt(mean((x - mean(x; D)) ^ 2; D) + 1e-5))",
    "let c = x - mean(x; D)
  let s = sqrt(D) / sqrt(sum(c * c; D) + 1e-5)
  g * c * s + b",
    "let c = x - mean(x; D)
  c / max(sqrt(mean(c ^ 2; D)), 1e-5) * g + b",
    "let c = x - stop(mean(x; D)) - (mean(x; D) - stop(mean(x; D)))
  c / sqrt(mean(c * c; D) + 1e-5) * g + b",
    "let c = D * x - sum(x; D)
  c / sqrt(mean(c * c; D) + D * D * 1e-5) * g + b",
    "let c = x - mean(x; D)
  let v = mean(x * c; D)
  c / sqrt(v + 1e-5) * g + b",
    "let c = x - mean(x; D)
  let h = c / sqrt(mean(c * c; D) + 1e-5)
  h + h * g + b",
    "let y = x / 8
  let c = y - mean(y; D)
  c * (mean(c * c; D) + 1e-6) ^ (-1/2) * g + b",
    "let (m, q) = (mean(x; D), mean(x ^ 2; D))
  let s = sqrt(max(q - m ^ 2, 1e-5))
  (x - m) / s * g + b",
    "let c = x - mean(x; D)
  c * exp(-log(mean(c * c; D) + 1e-5) / 2) * g + b",
];

/// The same of what a head is, between two products.
const HEADS: &[&str] = &[
    "rms_norm(y, k; K)",
    "y / sqrt(mean(y * y; K) + 1e-6) * (1 + k)",
    "layer_norm(y, k, 0; K)",
    "y * k / (sqrt(sum(y ^ 2; K) / K) + 1e-6)",
    "y / sqrt(sum(y * y; K) + 1e-6) * k",
    "(y - mean(y; K)) * (mean((y - mean(y; K)) ^ 2; K) + 1e-5) ^ -0.5 * k",
];

/// What layers launch, forward and back, and how often the way back writes something like `x`.
fn launched(declarations: &str, layer: &str) -> [usize; 3] {
    let formed = with(declarations, layer, LOSS);
    let [forward, back] = layers(&formed);
    [forward.len(), back.len(), writers(&formed, &back, X).len()]
}

/// All spellings as functions `norm`, with their parameters, and the lists that they are from.
fn spellings() -> impl Iterator<Item = (&'static [&'static str], &'static str, String)> {
    let of = |list: &'static [&'static str], arguments: &'static str| {
        let function = move |norm| format!("fn norm(x, {arguments}; D) {{\n  {norm}\n}}");
        list.iter().map(move |norm| (list, arguments, function(norm)))
    };
    of(RMS, "g").chain(of(LAYER, "g, b"))
}

/// Declarations of a gain and a bias, as far as they are asked for.
fn declared(arguments: &str) -> &'static str {
    if arguments == "g" { "param g[D] = 1" } else { "param g[D] = 1, b[D] = 0" }
}

#[test]
fn there_are_ten_spellings_of_each() {
    assert!(RMS.len() >= 10 && LAYER.len() >= 10);
}

#[test]
fn a_norm_is_one_kernel_and_so_is_the_cotangent_behind_it() {
    for train in ["", BF16] {
        for (_, arguments, norm) in spellings() {
            let layer = format!("{}\n  norm(x, {arguments}; D)", declared(arguments));
            let counts = launched(&format!("{train}\n{norm}"), &layer);
            // Beside the cotangent stand the gradients of gain and bias, in two steps.
            assert_eq!(counts, [1, 3, 1], "{train}{norm}");
        }
    }
}

/// In front of a product, and behind a residual, every spelling takes what the first one does.
#[test]
fn between_products_a_norm_takes_as_much_as_the_plain_one() {
    let mut plain: Vec<(&[&str], [usize; 3])> = Vec::new();
    let mut failures = Vec::new();
    for (list, arguments, norm) in spellings() {
        let layer = format!(
            "{}, wi[F, D], wo[D, F], wu[D2, D] ~ normal(0.02)
  let y = x + dot(x, wu; D)[D2 -> D]
  let h = norm(y, {arguments}; D)
  y + dot(relu(dot(h, wi; D)), wo; F)",
            declared(arguments)
        );
        let counts = launched(&format!("axes D2 = D\n{norm}"), &layer);
        match plain.iter().find(|(other, _)| *other == list) {
            Some((_, expected)) if counts != *expected => {
                failures.push(format!("{counts:?} instead of {expected:?}: {norm}"));
            }
            Some(_) => {}
            None => plain.push((list, counts)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Forward: the residual's product, the norm, and two products.
    assert!(plain.iter().all(|(_, counts)| counts[0] == 4), "{plain:?}");
}

#[test]
fn the_norm_of_a_head_is_one_kernel() {
    let layer = |norm: &str| {
        format!(
            "param k[K] = 1, wi[H*K, D], wo[D, H*K] ~ normal(0.02)
  let y = dot(x, wi; D)
  let n = {norm}
  x + dot(n, wo; H, K)"
        )
    };
    let expected = launched("", &layer(HEADS[0]));
    assert_eq!(expected[0], 3, "two products and a norm");
    for norm in HEADS {
        assert_eq!(launched("", &layer(norm)), expected, "{norm}");
    }
}
