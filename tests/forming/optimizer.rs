//! The optimizer: one pass over each parameter's state, whatever the `train` block says.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::graph::{Op, ParamId, Role, Slot, ValueId};
use gigac_passes::form::{Formed, Launch};

use super::support::{LOSS, launches, reads, show, with, writes};

/// What a `train` block may say of it.
const BLOCKS: &[&str] = &[
    "",
    "train { optimizer adamw(beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1) }",
    "train { optimizer adamw(0.9, 0.999, 1e-6, 0)\n  clip 0.5 }",
    "train { optimizer adamw(weight_decay = 0.01, decay_by_rate = false)\n  clip 1.0 }",
    "train { optimizer adamw(beta1 = 0, beta2 = 0.99) }",
    "train { schedule cosine(peak = 1e-3, warmup = 10, floor = 0.1)\n  clip 1.0\n  on_nan zero }",
    "train { schedule wsd(peak = 1e-3, warmup = 10, decay = 20)\n  on_nan skip }",
    "train { schedule constant(1e-3)\n  on_nan halt\n  clip 2.0 }",
    "train { precision bf16 { master f32, reduce f32 }\n  clip 1.0 }",
    "train { precision bf16 { master f32, reduce f32 }\n  on_nan zero }",
    "train { precision bf16 { master f32, reduce f32 }\n  on_nan skip\n  clip 1.0 }",
    "train { batch 4096 tokens\n  clip 1.0 }",
];

/// Elements up to which an update may share its kernel with other work.
const SMALL: u64 = 1024;

const LAYER: &str = "param w[D, F] ~ normal(0.02) lr 0.25, u[F, D] ~ normal(0.02) decay 0, g[D] = 1
  x + dot(dot(x * g, w; D), u; F)";

#[test]
fn the_optimizer_passes_once_over_each_parameter() {
    assert!(BLOCKS.len() >= 10);
    for block in BLOCKS {
        let formed = with(block, LAYER, LOSS);
        let all = launches(&formed.units);
        let mut updated: BTreeMap<ParamId, BTreeSet<usize>> = BTreeMap::new();
        let mut values: BTreeMap<ParamId, Vec<(Slot, ValueId)>> = BTreeMap::new();
        for (role, value) in formed.graph.results() {
            let Role::Update(param, slot) = role else { continue };
            let makes = |l: &Launch| writes(&formed, l).iter().any(|(v, _)| *v == value);
            let makers = (0..all.len()).filter(|i| makes(all[*i]));
            updated.entry(*param).or_default().extend(makers);
            values.entry(*param).or_default().push((*slot, value));
        }
        assert_eq!(updated.len(), 5, "{block}");
        // All but the table.
        let copies = formed.graph.params.iter().filter(|param| param.rounded).count();
        assert_eq!(copies, if block.contains("bf16") { 4 } else { 0 }, "{block}");
        for (param, makers) in updated {
            let makers: Vec<&Launch> = makers.into_iter().map(|i| all[i]).collect();
            assert_eq!(makers.len(), 1, "{block}\n{}", show(&formed, &makers));
            once(&formed, makers[0], param, &values[&param]);
        }
    }
}

/// A launch reads weight, moments and gradient of a parameter once, and writes weight, moments and the copy in
/// bf16, if there is one, once. It does not read the old copy.
fn once(formed: &Formed, launch: &Launch, param: ParamId, updates: &[(Slot, ValueId)]) {
    let kernel = &formed.kernels[launch.kernel];
    let text = kernel.to_string();
    let count = |what: &str, value: ValueId| {
        let buffers = launch.arguments.iter().zip(&kernel.buffers);
        let access =
            buffers.filter(|(v, _)| **v == value).map(|(_, b)| format!("{what} {}[", b.name));
        access.map(|access| text.matches(&access).count()).sum::<usize>()
    };
    let state = |slot: Slot| {
        let mut nodes = formed.graph.root.nodes.iter();
        nodes.find(|n| n.op == Op::Param(param, slot)).map(|n| n.results[0])
    };
    let states: Vec<ValueId> = Slot::ALL.into_iter().filter_map(state).collect();
    let info = &formed.graph.params[param.index()];
    assert_eq!(updates.len(), 3 + usize::from(info.rounded), "updates of {param:?}");
    for (slot, update) in updates {
        let loads = state(*slot).map_or(0, |old| count("load", old));
        let wanted = [usize::from(*slot != Slot::Rounded), 1];
        assert_eq!([loads, count("store", *update)], wanted, "{slot:?}:\n{text}");
    }
    let size = formed.graph.elements(&info.axes());
    let others =
        reads(formed, launch).into_iter().filter(|(v, n)| *n == size && !states.contains(v));
    let others: Vec<usize> = others.map(|(v, _)| count("load", v)).collect();
    // A small parameter's kernel also adds up what is left of the norm.
    assert!(others == [1] || size < SMALL, "the gradient is read {others:?} times:\n{text}");
}
