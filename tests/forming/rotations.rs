//! Rotary positions: one pass over queries and one over keys, both ways, however the rotation is written.

use super::support::{LOSS, X, layers, plain, reads, show, with, writers, writes};

/// Declarations, among them `turn(x; T, K)`, which rotates `x`.
const ROTATIONS: &[(&str, &str)] = &[
    ("prelude", "fn turn(x; T, K) { rope(x; T, K) }"),
    (
        "pairs",
        "fn turn(x; T, K) {
  axes J = K / 2
  rotate_pairs(x, outer(pos(T), rope_freq(; J)); K, J)
}",
    ),
    (
        "hoisted tables of half the width",
        "axes J = K / 2
let angle = outer(pos(T), 10000 ^ (-pos(J) / J))
let (c, s) = (cos(angle), sin(angle))
fn turn(x; T, K) {
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  cat(a * c - b * s, b * c + a * s; J + J -> K)
}",
    ),
    (
        "rotate_half and tables of the whole width",
        "axes J = K / 2
let angle = outer(pos(T), 10000 ^ (-(pos(K) % J) / J))
fn rotate_half(x; K) { cat(-x[K = J + pos(J)], x[K = pos(J)]; J + J -> K) }
fn turn(x; T, K) { x * cos(angle) + rotate_half(x; K) * sin(angle) }",
    ),
    (
        "angles repeated by cat",
        "axes J = K / 2
let angle = outer(pos(T), 10000 ^ (-pos(J) / J))
let both = cat(angle, angle; J + J -> K)
fn rotate_half(x; K) { cat(-x[K = J + pos(J)], x[K = pos(J)]; J + J -> K) }
fn turn(x; T, K) { x * cos(both) + rotate_half(x; K) * sin(both) }",
    ),
    (
        "pairs by a split",
        "axes J = K / 2, C = 2
fn turn(x; T, K) {
  let angle = outer(pos(T), rope_freq(; J))
  let (a, b) = (x[K -> J*C][C = 0], x[K -> J*C][C = 1])
  cat(a * cos(angle) - b * sin(angle), a * sin(angle) + b * cos(angle); 1 + 1 -> C)[J*C -> K]
}",
    ),
    (
        "halves by a split",
        "axes J = K / 2, C = 2
fn turn(x; T, K) {
  let angle = outer(pos(T), rope_freq(; J))
  let y = x[K -> C*J]
  let (a, b) = (y[C = 0], y[C = 1])
  cat(a * cos(angle) - b * sin(angle), a * sin(angle) + b * cos(angle); 1 + 1 -> C)[C*J -> K]
}",
    ),
    (
        "complex numbers as two arrays",
        "axes J = K / 2
fn times(a, b, c, d) { (a * c - b * d, a * d + b * c) }
fn turn(x; T, K) {
  let angle = outer(pos(T), rope_freq(; J))
  let (re, im) = times(x[K = 2 * pos(J)], x[K = 2 * pos(J) + 1], cos(angle), sin(angle))
  axes C = 2
  cat(re, im; 1 + 1 -> C)[J*C -> K]
}",
    ),
    ("linear scaling", "fn turn(x; T, K) { rope(x, at = pos(T) / 4; T, K) }"),
    (
        "YaRN",
        "axes J = K / 2
fn turn(x; T, K) { yarn_scale(8) * rotate(x, outer(pos(T), yarn_freq(10000, 8, 512; J)); K, J) }",
    ),
    (
        "YaRN, tables scaled",
        "axes J = K / 2
let angle = outer(pos(T), yarn_freq(10000, 8, 512; J))
let (c, s) = (cos(angle) * yarn_scale(8), sin(angle) * yarn_scale(8))
fn turn(x; T, K) {
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  cat(a * c - b * s, b * c + a * s; J + J -> K)
}",
    ),
    (
        "LLaMA 3",
        "axes J = K / 2
fn turn(x; T, K) { rotate(x, outer(pos(T), llama3_freq(500000, 8, 1, 4, 256; J)); K, J) }",
    ),
    ("partial", "fn turn(x; T, K) { rope(x, part = 1/2; T, K) }"),
    (
        "partial by hand",
        "axes P = K / 2
fn turn(x; T, K) { cat(rope(x[K = pos(P)]; T, P), x[K = P + pos(P)]; P + P -> K) }",
    ),
    (
        "partial pairs",
        "axes J = K / 4
fn turn(x; T, K) { rotate_pairs(x, outer(pos(T), rope_freq(; J)); K, J) }",
    ),
    (
        "positions from an input",
        "input places[B, T] : int(0, T)
fn turn(x; T, K) { rope(x, at = places; T, K) }",
    ),
    (
        "frequencies as exponentials",
        "axes J = K / 2
fn turn(x; T, K) { rotate(x, outer(pos(T), exp(-log(10000) * pos(J) / J)); K, J) }",
    ),
    (
        "two-dimensional",
        "axes P = K / 2
fn turn(x; T, K) {
  let (row, column) = (floor(pos(T) / 32), pos(T) % 32)
  cat(rope(x[K = pos(P)], at = row; T, P), rope(x[K = P + pos(P)], at = column; T, P); P + P -> K)
}",
    ),
    (
        "the other half by an index",
        "axes J = K / 2
fn turn(x; T, K) {
  let angle = outer(pos(T), 10000 ^ (-(pos(K) % J) / J))
  x * cos(angle) + where(pos(K) < J, -1, 1) * x[K = (pos(K) + J) % K] * sin(angle)
}",
    ),
    (
        "the neighbour by an index",
        "axes J = K / 2
fn turn(x; T, K) {
  let angle = outer(pos(T), 10000 ^ (-floor(pos(K) / 2) / J))
  x * cos(angle) + where(pos(K) % 2 == 0, -1, 1) * x[K = clamp(pos(K) + 1 - 2 * (pos(K) % 2), 0, K - 1)] * sin(angle)
}",
    ),
    (
        "a matrix of two by two",
        "axes J = K / 2, C = 2, E = 2
fn turn(x; T, K) {
  let angle = outer(pos(T), rope_freq(; J))
  let same = where(pos(E) == pos(C), 1, 0)
  let side = where(pos(E) == pos(C), 0, where(pos(E) < pos(C), -1, 1))
  let m = outer(f32(same), cos(angle)) + outer(f32(side), sin(angle))
  dot(x[K -> C*J], m; C)[E*J -> K]
}",
    ),
    (
        "a base for longer contexts",
        "fn turn(x; T, K) { rope(x, base = 10000 * 8 ^ (K / (K - 2)); T, K) }",
    ),
    (
        "backwards",
        "axes J = K / 2
fn turn(x; T, K) {
  let angle = outer(-pos(T), rope_freq(; J))
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  cat(a * cos(angle) + b * sin(angle), b * cos(angle) - a * sin(angle); J + J -> K)
}",
    ),
    (
        "an offset for each sample",
        "input start[B] : int(0, T)
fn turn(x; T, K) { rope(x, at = pos(T) + start; T, K) }",
    ),
    (
        "frozen tables",
        "axes J = K / 2
param c[T, J], s[T, J] ~ uniform(-1, 1) frozen
fn turn(x; T, K) {
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  cat(a * c - b * s, b * c + a * s; J + J -> K)
}",
    ),
    (
        "the last part",
        "axes P = K / 2
fn turn(x; T, K) { cat(x[K = pos(P)], rope(x[K = P + pos(P)]; T, P); P + P -> K) }",
    ),
    (
        "sections of three positions",
        "axes J = K / 2
input row[B, T] : int(0, T), column[B, T] : int(0, T)
fn turn(x; T, K) {
  let at = where(pos(J) < 2, pos(T), where(pos(J) < 5, row, column))
  rotate(x, at * rope_freq(; J); K, J)
}",
    ),
    (
        "the cosine as a sine",
        "axes J = K / 2
fn turn(x; T, K) {
  let angle = outer(pos(T), rope_freq(; J))
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  let (c, s) = (sin(angle + pi / 2), sin(angle))
  cat(a * c - b * s, b * c + a * s; J + J -> K)
}",
    ),
    (
        "growing with the position",
        "axes J = K / 2
fn turn(x; T, K) {
  let zeta = outer(pos(T) / 512, log((pos(J) / J + 0.4) / 1.4))
  let angle = outer(pos(T), rope_freq(; J))
  let (c, s) = (cos(angle) * exp(zeta), sin(angle) * exp(zeta))
  let (a, b) = (x[K = pos(J)], x[K = J + pos(J)])
  cat(a * c - b * s, b * c + a * s; J + J -> K)
}",
    ),
    (
        "scaled beforehand",
        "fn turn(x; T, K) { rope(x / sqrt(K); T, K) * sqrt(K) }",
    ),
    (
        "in f32",
        "fn turn(x; T, K) { rope(f32(x); T, K) }",
    ),
];

/// A layer whose queries and keys are turned.
const LAYER: &str = "param n[D] = 1, wq[H*K, D], wk[H*K, D], wv[H*K, D], wo[D, H*K] ~ normal(0.02)
  let h = rms_norm(x, n; D)
  let (q, k, v) = (dot(h, wq; D), dot(h, wk; D), dot(h, wv; D)[T -> S])
  let (q, k) = (turn(q; T, K), turn(k; T, K)[T -> S])
  x + dot(attend(q, k, v, causal(T, S); S, K), wo; H, K)";

/// Nothing is stored between a product and what attention reads, nor on the way back: forward a norm and two
/// rotations, back two rotations and the norm.
#[test]
fn a_rotation_is_one_pass_both_ways() {
    assert!(ROTATIONS.len() >= 10);
    for (name, declarations) in ROTATIONS {
        let formed = with(declarations, LAYER, LOSS);
        let [forward, back] = layers(&formed);
        assert_eq!([forward.len(), back.len()], [8, 13], "{name}\n{}", show(&formed, &forward));
        for way in [&forward, &back] {
            // Products of two by two are products.
            let turns = plain(&formed, way).len() <= 6 && writers(&formed, way, X).len() <= 3;
            assert!(turns, "{name}\n{}", show(&formed, way));
        }
    }
}

/// The kernel of a rotation reads queries or keys and tables, and writes them: with what the norm moves that
/// is six times `x`, and tables of at most a quarter of it for each.
#[test]
fn a_rotation_moves_its_operand_once() {
    for (name, declarations) in ROTATIONS {
        let formed = with(declarations, LAYER, LOSS);
        let [forward, _] = layers(&formed);
        let moved: u64 = plain(&formed, &forward)
            .iter()
            .flat_map(|l| reads(&formed, l).into_iter().chain(writes(&formed, l)))
            .map(|(_, elements)| elements)
            .sum();
        assert!(moved <= 6 * X + 5 * X / 8, "{name} moves {:.2} x", moved as f64 / X as f64);
    }
}
