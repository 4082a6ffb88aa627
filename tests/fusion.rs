//! Attention is found however it is written: models in the language, each with its own spelling.
//!
//! In each of them exactly one attention is formed in the layer, nothing else of the layer has
//! both queries and keys, and loss and gradients agree in f64 with the graph as it was written.

use std::collections::BTreeMap;

use gigac_frontend::{Mode, Source};
use gigac_ir::graph::{DType, Feed, Graph, InputId, Op, ParamId, Region, Slot};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::philox::{philox, uniform};
use gigac_passes::differentiate::differentiate;
use gigac_passes::fuse::{Options, Stop, fuse};
use gigac_passes::simplify::simplify;

/// A decoder whose attention is `body`: it makes `a[B, T, H, K]` of `q`, `k` and `v`.
fn model(declarations: &str, body: &str) -> Graph {
    sized([6, 2], declarations, body)
}

/// That, for so many positions and elements of a head.
fn sized([positions, width]: [u64; 2], declarations: &str, body: &str) -> Graph {
    let text = format!(
        "model spelling
axes B = 2, T = {positions}, S = T, V = 11, D = 8, H = 4, K = {width}, L = 2
{declarations}
param embed[V, D], head[V, D] ~ normal(0.5)
layer block(x[B, T, D]) repeat L {{
  param wq[H*K, D], wk[H*K, D], wv[H*K, D], wo[D, H*K] ~ normal(0.5)
  let q = dot(x, wq; D)
  let k = dot(x, wk; D)[T -> S]
  let v = dot(x, wv; D)[T -> S]
  {body}
  x + dot(a, wo; H, K)
}}
input tokens[B, T] : token(V), targets[B, T] : token(V)
let x = block(embed[V = tokens])
loss mean(cross_entropy(dot(x, head; D), targets; V))
"
    );
    let source = Source::new("spelling.giga", text.clone());
    let none = |name: &str| Err(format!("there is no `{name}`"));
    gigac_frontend::compile(&source, &none, &[], Mode { training: true })
        .unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
        .graph
}

/// What a spelling declares beside the model, and how it says attention.
struct Spelling(&'static str, &'static str, &'static str);

const SPELLINGS: &[Spelling] = &[
    Spelling("prelude", "", "let a = attend(q, k, v, causal(T, S); S, K)"),
    Spelling("scale on q", "", "let a = attend(q / sqrt(K), k, v, causal(T, S), scale = 1; S, K)"),
    Spelling(
        "scale on q and k",
        "",
        "let a = attend(q * K ^ (-1/4), k * K ^ (-1/4), v, causal(T, S), scale = 1; S, K)",
    ),
    Spelling(
        "scale after the mask",
        "",
        "let s = where(causal(T, S), dot(q, k; K), -inf) / sqrt(K)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "mask added",
        "",
        "let s = dot(q, k; K) / sqrt(K) + where(causal(T, S), 0, -inf)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "mask subtracted",
        "",
        "let s = dot(q, k; K) / sqrt(K) - where(causal(T, S), 0, inf)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "logarithm of a mask of numbers",
        "",
        "let m = where(causal(T, S), 1, 0)
  let s = dot(q, k; K) / sqrt(K) + log(m)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "by hand, without the maximum",
        "",
        "let e = exp(where(causal(T, S), dot(q, k; K) / sqrt(K), -inf))
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "by hand, gradients through the maximum",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let e = exp(s - max(s; S))
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "normalised after the values",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let e = exp(s - stop(max(s; S)))
  let a = dot(e, v; S) / sum(e; S)",
    ),
    Spelling(
        "times one over the sum",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let e = exp(s - stop(max(s; S)))
  let a = dot(e, v; S) * (1 / sum(e; S))",
    ),
    Spelling(
        "masked after the exponential",
        "",
        "let s = dot(q, k; K) / sqrt(K)
  let e = where(causal(T, S), exp(s - max(s; S)), 0)
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "mask of ones and zeros times the exponential",
        "",
        "let s = dot(q, k; K) / sqrt(K)
  let e = exp(s - max(s; S)) * where(causal(T, S), 1, 0)
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "exp(x − logsumexp(x))",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let a = dot(exp(s - logsumexp(s; S)), v; S)",
    ),
    Spelling(
        "a sum that is replaced where it is zero",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let m = max(s; S)
  let e = exp(s - where(m > -inf, m, 0))
  let z = sum(e; S)
  let a = dot(e / where(z == 0, 1, z), v; S)",
    ),
    Spelling(
        "hidden instead of seen",
        "",
        "let s = where(pos(S) > pos(T), -inf, dot(q, k; K) / sqrt(K))
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling("a distance", "", "let a = attend(q, k, v, pos(T) - pos(S) >= 0; S, K)"),
    Spelling("a strict order", "", "let a = attend(q, k, v, pos(S) < pos(T) + 1; S, K)"),
    Spelling(
        "two masks, one of ones",
        "",
        "let s = where(pos(S) >= 0, dot(q, k; K) / sqrt(K), -inf)
  let s = where(causal(T, S) & pos(S) < S, s * 1, -inf) + where(pos(T) < T, 0, -inf)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling("an all-ones mask", "", "let a = attend(q, k, v, causal(T, S) | pos(S) < S; S, K)"),
    Spelling("no mask", "", "let a = dot(softmax(dot(q, k; K) / sqrt(K); S), v; S)"),
    Spelling(
        "a mask from outside",
        "let seen = causal(T, S)",
        "let a = attend(q, k, v, seen; S, K)",
    ),
    Spelling(
        "an additive mask of −1e9",
        "",
        "let s = dot(q, k; K) / sqrt(K) + (1 - where(causal(T, S), 1, 0)) * -1e9
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "masked by −1e9",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -1e9)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "bounded scores, masked by −1e9",
        "",
        "let s = where(causal(T, S), softcap(dot(q, k; K) / sqrt(K), 30), -1e9)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "another name for queries",
        "axes Q = T",
        "let a = attend(q[T -> Q], k, v, causal(Q, S); S, K)[Q -> T]",
    ),
    Spelling(
        "heads split and merged by hand",
        "axes E = H * K",
        "let (q, k, v) = (q[H*K -> E], k[H*K -> E], v[H*K -> E])
  let a = attend(q[E -> H*K], k[E -> H*K], v[E -> H*K], causal(T, S); S, K)[H*K -> E][E -> H*K]",
    ),
    Spelling(
        "batch and heads merged",
        "axes N = B * H",
        "let (q, k, v) = (q[B*H -> N], k[B*H -> N], v[B*H -> N])
  let a = attend(q, k, v, causal(T, S); S, K)[N -> B*H]",
    ),
    Spelling("window", "", "let a = attend(q, k, v, sliding(3; T, S); S, K)"),
    Spelling("window of everything", "", "let a = attend(q, k, v, sliding(100; T, S); S, K)"),
    Spelling(
        "prefix",
        "input prompt[B] : int(0, T)",
        "let a = attend(q, k, v, prefix(prompt; T, S); S, K)",
    ),
    Spelling(
        "documents",
        "input documents[B, T] : int(0, 3) = 0",
        "let a = attend(q, k, v, causal(T, S) & same_document(documents; T, S); S, K)",
    ),
    Spelling(
        "documents, without a guard",
        "input documents[B, T] : int(0, 3) = 0",
        "let s = where(documents == documents[T -> S], dot(q, k; K) / sqrt(K), -inf)
  let e = exp(s - max(s; S))
  let a = dot(e, v; S) / sum(e; S)",
    ),
    Spelling(
        "soft-cap",
        "",
        "let s = softcap(dot(q, k; K) / sqrt(K), 20)
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "ALiBi",
        "",
        "let s = dot(q, k; K) / sqrt(K) + outer(alibi_slopes(H), pos(S) - pos(T))
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a bias of relative positions",
        "param bias[H, S] ~ normal(0.5)",
        "let s = dot(q, k; K) / sqrt(K) + bias
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a gain for each head",
        "param gain[H] = 1",
        "let s = dot(q, k; K) * gain
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "normalised queries and keys",
        "param gq[K], gk[K] = 1",
        "let a = attend(rms_norm(q, gq; K), rms_norm(k, gk; K), v, causal(T, S); S, K)",
    ),
    Spelling(
        "grouped queries",
        "axes G = 2, R = H / G",
        "param uk[G*K, D], uv[G*K, D] ~ normal(0.5)
  let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let a = attend(q[H -> G*R] + k[S = 0][H -> G*R], c, u + v[H = 0], causal(T, S); S, K)[G*R -> H]",
    ),
    Spelling(
        "grouped queries, heads repeated one after the other",
        "axes G = 2, R = H / G",
        "param uk[G*K, D], uv[G*K, D] ~ normal(0.5)
  let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let (c, u) = (c[G = floor(pos(H) / R)], u[G = floor(pos(H) / R)])
  let a = attend(q + k[S = 0], c, u, causal(T, S); S, K) + v[S = 0]",
    ),
    Spelling(
        "grouped queries, all heads repeated",
        "axes G = 2",
        "param uk[G*K, D], uv[G*K, D] ~ normal(0.5)
  let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let (c, u) = (c[G = pos(H) % G], u[G = pos(H) % G])
  let s = dot(q + k[S = 0], c; K) / sqrt(K) + outer(alibi_slopes(H), pos(S) - pos(T))
  let a = dot(softmax(where(causal(T, S), s, -inf); S), u; S) + v[S = 0]",
    ),
    Spelling(
        "log-softmax, taken apart",
        "",
        "let s = where(causal(T, S), dot(k, q; K) / sqrt(K), -inf)
  let c = s - max(s; S)
  let a = dot(v, exp(c - log(sum(exp(c); S))); S)",
    ),
    Spelling(
        "powers of two",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K) / log(2), -inf)
  let e = 2 ^ (s - max(s; S))
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "the least f32 as a mask",
        "",
        "let s = where(causal(T, S), dot(q, k; K) * K ^ (-1/2), -3.4028234663852886e38)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "a mask of numbers that multiplies and fills",
        "",
        "let m = where(causal(T, S), 1, 0)
  let s = dot(q, k; K) / sqrt(K)
  let a = dot(softmax(s * m - 1e9 * (1 - m); S), v; S)",
    ),
    Spelling(
        "scaled by half, squared head width",
        "",
        "let s = dot(0.5 * q, k; K) * (2 / sqrt(K))
  let s = where(!(pos(T) < pos(S)), s, -inf)
  let e = exp(s - stop(max(s; S)))
  let a = dot(e, v; S) * sum(e; S) ^ -1",
    ),
    Spelling(
        "products written as sums",
        "",
        "let s = sum(outer(q, k); K) / sqrt(K)
  let p = softmax(where(causal(T, S), s, -inf); S)
  let a = sum(outer(p, v); S)",
    ),
    Spelling(
        "mean of exponentials",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let e = exp(s - max(s; S))
  let a = dot(e / mean(e; S), v; S) / S",
    ),
    Spelling(
        "a band around the diagonal",
        "",
        "let a = attend(q, k, v, abs(pos(T) - pos(S)) < 3; S, K)",
    ),
    Spelling(
        "every second position",
        "",
        "let a = attend(q, k, v, causal(T, S) & (pos(T) - pos(S)) % 2 == 0; S, K)",
    ),
    Spelling(
        "ALiBi as a penalty of the distance",
        "",
        "let far = abs(pos(T) - pos(S))
  let s = dot(q, k; K) / sqrt(K) - outer(2 ^ (-8 * (pos(H) + 1) / H), far)
  let a = dot(softmax(s + where(causal(T, S), 0, -inf); S), v; S)",
    ),
    Spelling(
        "soft-cap by hand, from exponentials",
        "",
        "let s = dot(q, k; K) / sqrt(K) / 20
  let c = 20 * (2 / (1 + exp(-2 * s)) - 1)
  let a = dot(softmax(where(causal(T, S), c, -inf); S), v; S)",
    ),
    Spelling(
        "scaled after the maximum is subtracted",
        "",
        "let s = where(causal(T, S), dot(q, k; K), -inf)
  let e = exp((s - stop(max(s; S))) / sqrt(K))
  let a = dot(e / sum(e; S), v; S)",
    ),
    Spelling(
        "a bias of heads and positions",
        "param bias[H, T, S] ~ normal(0.5)",
        "let s = dot(q, k; K) / sqrt(K) + bias
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a learnt temperature",
        "param heat[H] = 0",
        "let s = where(causal(T, S), dot(q * exp(heat), k; K), -inf)
  let a = dot(softmax(s / sqrt(K); S), v; S)",
    ),
    Spelling(
        "scores of two parts",
        "param uq[H*K, D], uk[K, D] ~ normal(0.5)",
        "let (f, g) = (dot(x, uq; D), dot(x, uk; D)[T -> S])
  let s = (dot(q, k; K) + dot(f, g; K)) / sqrt(2 * K)
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a gate behind it",
        "param wg[H*K, D] ~ normal(0.5)",
        "let g = sigmoid(dot(x, wg; D))
  let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let a = g * dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "the mask turned around",
        "axes C = T",
        "let future = (pos(C) > pos(S))[S -> Z][C -> S]
  axes Z = T
  let a = attend(q, k, v, !future[Z -> T]; S, K)",
    ),
    Spelling(
        "a sink in the sum",
        "",
        "param sink[H] ~ normal(0.5)
  let s = where(sliding(3; T, S), dot(q, k; K) / sqrt(K), -inf)
  let m = stop(max(max(s; S), sink))
  let e = exp(s - m)
  let a = dot(e / (sum(e; S) + exp(sink - m)), v; S)",
    ),
    Spelling(
        "a sink, gradients through the maximum, normalised after the values",
        "",
        "param sink[H] ~ normal(0.5)
  let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let m = max(sink, max(s; S))
  let e = exp(s - m)
  let a = dot(e, v; S) / (exp(sink - m) + sum(e; S))",
    ),
    Spelling(
        "a sink without the maximum",
        "",
        "param sink[H] ~ normal(0.5)
  let e = exp(where(causal(T, S), dot(q, k; K) / sqrt(K), -inf))
  let a = dot(e * (1 / (sum(e; S) + exp(sink))), v; S)",
    ),
    Spelling(
        "a column of sinks that is dropped",
        "axes Z = S + 1",
        "param sink[H] ~ normal(0.5)
  let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let p = softmax(cat(s, sink; S + 1 -> Z); Z)[Z = pos(S)]
  let a = dot(p, v; S)",
    ),
    Spelling(
        "a column of sinks, the maximum subtracted before",
        "axes Z = S + 1",
        "param sink[H] ~ normal(0.5)
  let s = dot(q, k; K) / sqrt(K) + where(causal(T, S), 0, -inf)
  let all = cat(s, sink; S + 1 -> Z)
  let p = softmax(all - max(all; Z); Z)
  let a = dot(p[Z = pos(S)], v; S)",
    ),
    Spelling(
        "a sink of each head, heads repeated",
        "axes G = 2, R = H / G",
        "param uk[G*K, D], uv[G*K, D], sink[H] ~ normal(0.5)
  let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let (c, u) = (c[G = floor(pos(H) / R)], u[G = floor(pos(H) / R)])
  let s = where(causal(T, S), dot(q + k[S = 0], c; K) / sqrt(K), -inf)
  let m = stop(max(max(s; S), sink))
  let e = exp(s - m)
  let a = dot(e / (sum(e; S) + exp(sink - m)), u; S) + v[S = 0]",
    ),
    Spelling(
        "clipped scores",
        "",
        "let s = clamp(dot(q, k; K) / sqrt(K), -30, 30)
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "one more in the sum",
        "",
        "let s = where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let m = stop(max(max(s; S), 0))
  let e = exp(s - m)
  let a = dot(e / (exp(-m) + sum(e; S)), v; S)",
    ),
    Spelling(
        "cosines of queries and keys",
        "param heat[H] = 0",
        "let q = q / sqrt(sum(q ^ 2; K) + 1e-6)
  let k = k / max(sqrt(sum(k ^ 2; K)), 1e-6)
  let s = dot(q, k; K) * min(exp(heat), 100)
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a learnt logarithm of the distance",
        "param slope[H], width[H] = 1",
        "let far = log(1 + outer(width ^ 2, abs(pos(T) - pos(S))))
  let s = dot(q, k; K) / sqrt(K) - slope * far
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "chunks",
        "",
        "let a = attend(q, k, v, causal(T, S) & floor(pos(T) / 3) == floor(pos(S) / 3); S, K)",
    ),
    Spelling(
        "a window and the first positions",
        "",
        "let a = attend(q, k, v, causal(T, S) & (pos(T) - pos(S) < 2 | pos(S) < 1); S, K)",
    ),
    Spelling(
        "padding by lengths",
        "input length[B] : int(1, T + 1)",
        "let seen = causal(T, S) & pos(S) < length
  let a = attend(q, k, v, seen; S, K)",
    ),
    Spelling(
        "padding by tokens",
        "",
        "let s = dot(q, k; K) / sqrt(K) + where(tokens[T -> S] != 0, 0, -1e9)
  let a = dot(softmax(where(causal(T, S), s, -1e9); S), v; S)",
    ),
    Spelling(
        "padding by a mask of the data",
        "input seen[B, T] : bool",
        "let s = where(seen[T -> S] & causal(T, S), dot(q, k; K) / sqrt(K), -inf)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "one head of keys and values",
        "param uk[K, D], uv[K, D] ~ normal(0.5)",
        "let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let p = softmax(where(causal(T, S), dot(q + k[S = 0], c; K) / sqrt(K), -inf); S)
  let a = dot(p, u; S) + v[S = 0]",
    ),
    Spelling(
        "f32",
        "",
        "let p = softmax(f32(where(causal(T, S), dot(q, k; K) / sqrt(K), -inf)); S)
  let a = dot(p, v; S)",
    ),
    Spelling(
        "colder with the position",
        "",
        "let q = q * (1 + 0.1 * log(1 + floor(pos(T) / 2)))
  let a = attend(q, k, v, causal(T, S); S, K)",
    ),
    Spelling(
        "a bias of queries and one of keys",
        "param forget[H, D] ~ normal(0.5)",
        "let c = dot(x, forget; D)
  let s = dot(q, k; K) / sqrt(K) + c - c[T -> S]
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "masked and normalised again",
        "",
        "let p = softmax(dot(q, k; K) / sqrt(K); S)
  let p = where(causal(T, S), p, 0)
  let a = dot(p / sum(p; S), v; S)",
    ),
    Spelling(
        "blocks that see each other",
        "",
        "let a = attend(q, k, v, floor(pos(S) / 2) <= floor(pos(T) / 2); S, K)",
    ),
    Spelling(
        "a bias of the data",
        "input bias[T, S] : real",
        "let s = dot(q, k; K) / sqrt(K) + bias
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a bias of the data for each pair of each row and head",
        "input bias[B, H, T, S] : real",
        "let s = dot(q, k; K) / sqrt(K) + bias
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "a gain and a bias of keys",
        "param gain[H, S], lift[H, S] ~ normal(0.5)",
        "let s = dot(q, k; K) / sqrt(K) * (1 + gain) + lift
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "queries with biases of content and position",
        "param u[H, K], w[H, K] ~ normal(0.5)",
        "let s = (dot(q + u, k; K) + dot(q + w, rope(k; S, K); K)) / sqrt(K)
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
    ),
    Spelling(
        "values gated behind the sum",
        "param wg[H, D] ~ normal(0.5)",
        "let p = softmax(where(causal(T, S), dot(q, k; K) / sqrt(K), -inf); S)
  let a = dot(p, v; S) * sigmoid(dot(x, wg; D))",
    ),
    Spelling(
        "a mask of three terms, one of them of heads",
        "",
        "let near = pos(T) - pos(S) < 2
  let s = where(causal(T, S) & (pos(H) < 2 | near), dot(q, k; K) / sqrt(K), -inf)
  let a = dot(softmax(s; S), v; S)",
    ),
    Spelling(
        "capped, scaled and biased by the distance",
        "axes G = 2, R = H / G",
        "param uk[G*K, D], uv[G*K, D] ~ normal(0.5)
  let (c, u) = (dot(x, uk; D)[T -> S], dot(x, uv; D)[T -> S])
  let s = softcap(dot((q + k[S = 0])[H -> G*R], c; K) / sqrt(K), 50)
  let s = s + outer(alibi_slopes(H)[H -> G*R], pos(S) - pos(T))
  let p = softmax(where(sliding(3; T, S), s, -inf); S)
  let a = dot(p, u; S)[G*R -> H] + v[S = 0]",
    ),
    Spelling("rotated", "", "let a = attend(rope(q; T, K), rope(k; S, K), v, causal(T, S); S, K)"),
];

/// Numbers that look random, in [−½, ½).
fn numbers(key: u32, count: u64) -> Vec<f64> {
    (0..count as u32).map(|i| uniform(philox([key, 1], [i, 0, 0, 0])[0]) - 0.5).collect()
}

fn bindings(graph: &Graph) -> Bindings {
    let params = graph.params.iter().zip(0..);
    let params = params.map(|(p, i)| {
        let data = numbers(i, graph.elements(&p.axes()));
        ((ParamId(i), Slot::Weight), data.into_iter().map(|x| 2.0 * x).collect())
    });
    let inputs = graph
        .inputs
        .iter()
        .zip(0..)
        .filter(|(input, _)| matches!(input.feed, Feed::Data | Feed::Optional(_)));
    let inputs = inputs.map(|(input, i)| {
        let data = numbers(100 + i, graph.elements(&input.ty.axes)).into_iter();
        let (least, width) = match input.ty.dtype {
            DType::Int { lo, hi } => (lo as f64, (hi - lo) as f64),
            DType::Bool => (0.0, 2.0),
            _ => return (InputId(i), data.collect()),
        };
        (InputId(i), data.map(|x| least + ((x + 0.5) * width).floor()).collect())
    });
    Bindings { params: params.collect(), inputs: inputs.collect(), ..Bindings::default() }
}

/// Number of attentions, and names of values with queries and keys that stand outside of them.
fn survey(graph: &Graph, region: &Region, found: &mut (usize, Vec<String>)) {
    for node in &region.nodes {
        match (&node.op, &node.region) {
            (Op::Attend { .. }, _) => found.0 += 1,
            (_, Some(body)) => survey(graph, body, found),
            _ => {}
        }
        // A bias for each pair is a parameter, or data; it lies in memory anyway.
        let given = matches!(node.op, Op::Param(..) | Op::Input(_));
        let made = if given { &[][..] } else { &node.results };
        for result in made {
            let names = graph.ty(*result).axes.iter().map(|a| graph.axes[a.index()].name.as_str());
            let names: Vec<&str> = names.collect();
            let queries = names.iter().any(|n| ["T", "Q"].contains(n));
            if queries && names.contains(&"S") {
                found.1.push(format!("{result}: {names:?}"));
            }
        }
    }
}

/// What the way back of a trained bias stores, that of a softmax stores too.
#[test]
fn a_trained_bias_is_attention_at_any_size() {
    for positions in [16, 256, 2048] {
        let written = sized(
            [positions, 64],
            "param bias[H, T, S] ~ normal(0.5)",
            "let s = dot(q, k; K) / sqrt(K) + bias
  let a = dot(softmax(where(causal(T, S), s, -inf); S), v; S)",
        );
        let fused = simplify(fuse(&simplify(written), &Options::default()).0);
        let mut found = (0, Vec::new());
        survey(&fused, &fused.root, &mut found);
        assert_eq!((found.0, &found.1[..]), (1, &[][..]), "{positions} positions");
    }
}

fn check(Spelling(name, declarations, body): &Spelling) -> Result<(), String> {
    let written = simplify(model(declarations, body));
    let (fused, reports) = fuse(&written, &Options::default());
    fused.verify().map_err(|e| format!("{name}: {e:?}\n{fused}"))?;
    let fused = simplify(fused);
    let mut found = (0, Vec::new());
    survey(&fused, &fused.root, &mut found);
    if found.0 != 1 || !found.1.is_empty() {
        return Err(format!("{name}: {} attentions; left are {:?}\n{fused}", found.0, found.1));
    }
    for report in &reports {
        if report.stop != Stop::Saturated {
            return Err(format!("{name}: {report:?}"));
        }
    }
    let given = bindings(&written);
    let results = |graph: &Graph| {
        let joint = differentiate(graph, 1);
        let values = interpret(&joint, &given).unwrap_or_else(|e| panic!("{name}: {e}"));
        joint.roles.iter().cloned().zip(values).collect::<BTreeMap<_, _>>()
    };
    let (expected, got) = (results(&written), results(&fused));
    for (role, want) in &expected {
        let got = got[role].arranged(&want.axes, &want.sizes);
        for (x, y) in want.data.iter().zip(&got.data) {
            if (x - y).abs() > 1e-10 * (1.0 + x.abs()) || x.is_nan() {
                return Err(format!("{name}: {role:?} is {y} instead of {x}\n{fused}"));
            }
        }
    }
    Ok(())
}

#[test]
fn attention_is_found_in_every_spelling() {
    let failures: Vec<String> = SPELLINGS.iter().filter_map(|s| check(s).err()).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n\n"));
}
