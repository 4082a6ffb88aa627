//! Linear and cross-entropy: logits are never whole in memory, however the loss is written.

use gigac_ir::plan::Category;
use gigac_passes::pass::Stage;
use gigac_passes::pipeline::PIPELINE;

use super::support::{LOSS, compiled, launches, model, step};

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
    "let p = softmax(logits; V)
let hot = where(targets == pos(V), 1, 0)
loss mean(-log(sum(p * hot; V)))",
    "let hot = where(targets == pos(V), 1, 0)
loss mean(logsumexp(logits; V) - sum(hot * logits; V))",
    "let weight = where(targets < 4, 0, 1)
loss sum(weight * cross_entropy(logits, targets; V)) per sum(weight)",
    "let capped = 30 * tanh(logits / 30)
let z = logsumexp(capped; V)
loss mean(z - capped[V = targets]) + 1e-4 * mean(z ^ 2)",
    "loss sum(cross_entropy(logits, targets; V))",
    "let width = dot(rms_norm(x, 1; D), head; D)
loss mean(cross_entropy(width, targets; V))",
    "loss mean(cross_entropy(logits / sqrt(D), targets; V))
metric certainty = mean(max(softmax(logits; V); V))",
    "loss mean(0.9 * cross_entropy(logits, targets; V) + 0.1 * mean(logsumexp(logits; V) - logits; V))",
    "let second = targets[T = min(pos(T) + 1, T - 1)]
loss mean(cross_entropy(logits, targets; V))
loss 0.3 * mean(cross_entropy(dot(x, embed; D), second; V))",
    "let first = cross_entropy(logits, targets; V)
let second = cross_entropy(logits, targets[T = min(pos(T) + 1, T - 1)]; V)
loss mean(first + 0.3 * second)",
    "param teacher[V, D] ~ normal(0.02) frozen
let p = softmax(stop(dot(x, teacher; D)); V)
loss mean(sum(p * (logsumexp(logits; V) - logits); V))",
    "param teacher[V, D] ~ normal(0.02) frozen
let (p, logp) = (softmax(dot(x, teacher; D) / 2; V), logits / 2 - logsumexp(logits / 2; V))
loss 4 * mean(sum(p * (log(p) - logp); V))",
    "input weight[B, T] : real
loss sum(weight * cross_entropy(logits, targets; V)) per sum(weight)",
    "let p = softmax(logits; V)
let entropy = logsumexp(logits; V) - sum(p * logits; V)
loss mean(cross_entropy(logits, targets; V) - 0.01 * entropy)",
    "let logp = logits - logsumexp(logits; V)
loss mean(cross_entropy(logits, targets; V)) + 0.01 * mean(sum(exp(logp) * logp; V))",
    "input old[B, T] : real, gain[B, T] : real
let logp = logits[V = targets] - logsumexp(logits; V)
let ratio = exp(logp - old)
loss -mean(min(ratio * gain, clamp(ratio, 0.8, 1.2) * gain))",
    "param bias[V] = 0
loss mean(cross_entropy(logits + bias, targets; V))",
    "loss mean(cross_entropy(f32(logits), targets; V))
metric hits = mean(where(logits[V = targets] >= max(logits; V), 1, 0))",
    "let real = where(pos(V) < 1000, logits, -inf)
loss mean(cross_entropy(real, targets; V))",
    "let p = softmax(logits; V)[V = targets]
loss mean(-log(p) + 2 * (1 - p))",
    "let p = softmax(logits; V)
loss mean(-log(p[V = targets]) - 0.1 * log(1 - p[V = min(targets + 1, V - 1)] + 1e-6))",
    "param heat[] = 0
loss mean(cross_entropy(logits * exp(heat), targets; V))",
    "let score = sum(logits[V = targets] - logsumexp(logits; V); T)
loss mean(log(1 + exp(-0.1 * score)))",
    "let nll = cross_entropy(logits, targets; V)
let spoken = sum(where(targets > 7, nll, 0); T) / max(sum(targets > 7; T), 1)
loss mean(spoken)",
    "let z = logsumexp(logits; V)
loss mean(z - 0.9 * logits[V = targets] - 0.1 / V * sum(logits; V) + 1e-4 * z * z)",
    "let e = exp(logits - stop(max(logits; V)))
loss -mean(log(e[V = targets] / sum(e; V)))",
    "let m = stop(max(logits; V))
let hot = f32(where(pos(V) == targets, 1, 0))
loss mean(log(sum(exp(logits - m); V)) + m - dot(logits, hot; V))",
];

/// Elements of all logits.
const LOGITS: u64 = 2 * 1024 * 1024;

#[test]
fn logits_are_never_stored_however_the_loss_is_said() {
    assert!(LOSSES.len() >= 10);
    for loss in LOSSES {
        let formed = step("x", loss);
        for launch in launches(&formed.units) {
            for value in &launch.arguments {
                let elements = formed.graph.elements(&formed.graph.ty(*value).axes);
                assert!(elements < LOGITS, "{loss}\n{}", formed.kernels[launch.kernel]);
            }
        }
    }
}

/// The texts of all decoders: one for each loss, one whose head is the embedding, and one of a number of tokens
/// that no number of chunks divides.
fn models() -> impl Iterator<Item = String> {
    let layer = "param w[D2, D] ~ normal(0.02)\n  x + dot(x, w; D)[D2 -> D]";
    let tied = model("axes D2 = D", layer, LOSS)
        .replace("embed[V, D], head[V, D]", "embed[V, D]")
        .replace("dot(x, head; D)", "dot(x, embed; D)");
    let odd = model("", "x", LOSS).replace("B = 2, T = 1024", "B = 1, T = 2047");
    LOSSES.iter().map(|loss| model("", "x", loss)).chain([tied, odd])
}

/// The same of the finished plan: nothing in the arena is as large as the logits.
#[test]
fn no_buffer_of_the_plan_is_as_large_as_the_logits() {
    for text in models() {
        let Stage::Placed(placed) = compiled(&text, PIPELINE.len()) else {
            unreachable!("the list ends with a plan")
        };
        let buffers = placed.plan.buffers.iter();
        let passing =
            buffers.filter(|b| matches!(b.category, Category::Transient | Category::Saved));
        let largest = passing.max_by_key(|b| b.bytes).expect("a step has buffers");
        // Four bytes each, and half of the logits in a chunk.
        assert!(largest.bytes <= 2 * LOGITS, "{} takes {}:\n{text}", largest.name, largest.bytes);
    }
}
