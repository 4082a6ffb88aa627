//! Attention in all forms that models write, from their text to PTX.

use std::fmt::Write;

use gigac_ir::kernel::Kernel;

use crate::{check, is_attention, kernels_of};

/// A form of attention: axes of the model, parameters and inputs of it, and the lines of the layer that give `a` from `q`, `k`
/// and `v`.
struct Variant {
    axes: &'static str,
    declared: &'static str,
    lines: &'static str,
}

/// The kernels of a training step in bf16.
fn kernels(Variant { axes, declared, lines }: &Variant) -> Vec<Kernel> {
    let (inputs, params): (Vec<&str>, Vec<&str>) =
        declared.lines().partition(|line| line.trim().starts_with("input"));
    let mut text = format!("model variant\naxes {axes}, S = T, V = 16, D = 16, L = 2\n");
    writeln!(text, "{}\nparam embed[V, D], head[V, D] ~ normal(0.5)", inputs.join("\n"))
        .expect("strings take all");
    write!(
        text,
        "layer block(x[B, T, D]) repeat L {{
  param wq[H*K, D], wk[H*K, D], wv[H*K, D], wo[D, H*K] ~ normal(0.5)
  {}
  let (q, k, v) = (dot(x, wq; D), dot(x, wk; D)[T -> S], dot(x, wv; D)[T -> S])
  {lines}
  x + dot(a, wo; H, K)
}}
input tokens[B, T] : token(V), targets[B, T] : token(V)
let x = block(embed[V = tokens])
output logits = dot(x, head; D)
loss mean(cross_entropy(logits, targets; V))
train {{
  optimizer  adamw(beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1)
  schedule   constant(0.003)
  precision  bf16
}}
",
        params.join("\n  ")
    )
    .expect("strings take all");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("variant.giga");
    std::fs::write(&path, text).expect("the folder can be written to");
    kernels_of(&path, &[])
}

/// Checks all kernels; `attention`: how many of them are attention.
fn check_all(variant: &Variant, attention: usize) {
    let kernels = kernels(variant);
    let found = kernels.iter().filter(|k| is_attention(k)).count();
    assert_eq!(found, attention, "{}", variant.lines);
    kernels.iter().for_each(check);
}

const PLAIN: &str = "let s = dot(q, k; K) / sqrt(K)";

#[test]
fn masks_and_scores() {
    let causal = "let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)";
    let variants = [
        ("", "let a = attend(q, k, v, causal(T, S); S, K)".to_owned()),
        ("", "let a = attend(q, k, v, pos(S) < S; S, K)".to_owned()),
        ("", "let a = attend(q, k, v, sliding(7; T, S); S, K)".to_owned()),
        (
            "",
            "let a = attend(q, k, v, causal(T, S) & ((pos(S) < 3) | (pos(T) - pos(S) < 9)); S, K)"
                .to_owned(),
        ),
        (
            "input prompt[B] : int(0, T)",
            "let a = attend(q, k, v, prefix(prompt; T, S); S, K)".to_owned(),
        ),
        (
            "input documents[B, T] : int(0, 3) = 0",
            "let a = attend(q, k, v, causal(T, S) & same_document(documents; T, S); S, K)"
                .to_owned(),
        ),
        ("", format!("let s = softcap(dot(q, k; K) / sqrt(K), 2)\n  {causal}")),
        ("", format!("{PLAIN} + outer(alibi_slopes(H), pos(S) - pos(T))\n  {causal}")),
    ];
    for (declared, lines) in &variants {
        let axes = "B = 2, T = 41, H = 2, K = 16";
        check_all(&Variant { axes, declared, lines: lines.clone().leak() }, 3);
    }
}

/// Biases and gains are parameters: what attention gives back of the score is summed up to their gradients.
#[test]
fn trained_scores() {
    let causal = "let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)";
    let variants = [
        ("param bias[H, T, S] ~ normal(0.5)", format!("{PLAIN} + bias\n  {causal}")),
        ("param bias[H, S] ~ normal(0.5)", format!("{PLAIN} + bias\n  {causal}")),
        ("param gain[H] = 1", format!("let s = dot(q, k; K) * gain\n  {causal}")),
    ];
    for (declared, lines) in &variants {
        for axes in ["B = 2, T = 41, H = 2, K = 16", "B = 2, T = 40, H = 2, K = 16"] {
            check_all(&Variant { axes, declared, lines: lines.clone().leak() }, 3);
        }
    }
}

/// Heads of 16 to 256, and groups of them that share keys and values.
#[test]
fn widths_and_groups() {
    let lines = "let a = attend(q, k, v, causal(T, S); S, K)";
    for (axes, attention) in [
        ("B = 1, T = 35, H = 1, K = 24", 3),
        ("B = 1, T = 35, H = 1, K = 80", 3),
        ("B = 1, T = 35, H = 1, K = 128", 3),
        // No thread can hold the gradients of keys and of values.
        ("B = 1, T = 35, H = 1, K = 192", 4),
        ("B = 1, T = 35, H = 1, K = 256", 4),
        // Too wide: it is opened.
        ("B = 1, T = 35, H = 1, K = 272", 0),
        // One position: products and sums of vectors.
        ("B = 3, T = 1, H = 2, K = 16", 0),
        ("B = 1, T = 1, H = 3, K = 24", 0),
        ("B = 1, T = 2, H = 2, K = 16", 3),
    ] {
        check_all(&Variant { axes, declared: "", lines }, attention);
    }
    let declared = "param uk[G*K, D], uv[G*K, D] ~ normal(0.5)";
    let lines = "let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let a = attend(q[H -> G*R] + k[S = 0][H -> G*R], c, u + v[H = 0], causal(T, S); S, K)[G*R -> H]";
    let axes = "B = 2, T = 39, H = 6, K = 16, G = 2, R = H / G";
    check_all(&Variant { axes, declared, lines }, 3);
}
