//! Projections of one value: what they give back is summed in registers.

use super::support::{LOSS, X, layers, products, show, step, writers};
use gigac_passes::form::Launch;

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
