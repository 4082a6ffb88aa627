//! The law for attention: scores and masks of many kinds, grouped queries, odd axes.

use gigac_ir::graph::{AxisId, DType, Op, ParamId, Role, Slot, ValueId};
use gigac_ir::pointwise::Pointwise;

use crate::case::{Case, by_role, check, finish};

/// Queries, keys and values of a small attention.
struct Small {
    case: Case,
    operands: Vec<ValueId>,
    op: Op,
    t: AxisId,
    s: AxisId,
    h: AxisId,
}

impl Small {
    /// `axes` of q, k and v: T = 3, S = 4, H = 2, R = 2, K = 3 and W = 2, and K contracted.
    fn new(axes: [&str; 3]) -> Self {
        let mut case = Case::new();
        let names = [("T", 3), ("S", 4), ("H", 2), ("R", 2), ("K", 3), ("W", 2)];
        let all = names.map(|(name, size)| case.axis(name, size));
        let named = |c: char| all[names.iter().position(|(n, _)| n.starts_with(c)).unwrap()];
        let list = |s: &str| s.chars().map(named).collect::<Vec<_>>();
        let operands = axes.map(|a| case.param(&list(a), -1.2, 1.1)).to_vec();
        let [t, s, h, _, k, _] = all;
        Self { case, operands, op: Op::Attend { keys: s, inner: vec![k] }, t, s, h }
    }

    /// Builds the node; `score` gets the raw product and the captured values.
    fn attend(
        &mut self,
        captured: &[ValueId],
        score: impl FnOnce(&mut Case, &[ValueId]) -> ValueId,
    ) -> Vec<ValueId> {
        self.operands.extend(captured);
        let args = self.case.b.open_score(&self.op, &self.operands).unwrap();
        let score = score(&mut self.case, &args);
        self.case.b.close_score(self.op.clone(), &self.operands, &[score]).unwrap()
    }

    /// Checks the law for the output, the logarithm of the sum, and both.
    fn check(self, results: &[ValueId]) {
        let mut case = self.case;
        let [out, lse] = [0, 1].map(|i| case.weighed(results[i]));
        case.b.result(Role::LossTerm(0), out);
        case.b.result(Role::LossTerm(1), lse);
        check(&case.b.finish(), &case.bindings, 1e-6, 1e-5);
    }
}

/// `where(pos(S) + shift <= pos(T), x, −inf)`; a positive shift masks the first rows throughout.
fn causal(case: &mut Case, (t, s): (AxisId, AxisId), shift: i64, x: ValueId) -> ValueId {
    let (p, q, by) = (case.op(Op::Pos(s), &[]), case.op(Op::Pos(t), &[]), case.b.int(shift));
    let p = case.map(Pointwise::Add, &[p, by]);
    let seen = case.map(Pointwise::Le, &[p, q]);
    let none = case.b.real(f64::NEG_INFINITY);
    case.map(Pointwise::Where, &[seen, x, none])
}

const PLAIN: [&str; 3] = ["THK", "SHK", "SHK"];

#[test]
fn plain() {
    for uniform in [false, true] {
        let mut small = Small::new(PLAIN);
        let results = small.attend(&[], |_, args| args[0]);
        finish(small.case, results[0], uniform);
    }
    let mut small = Small::new(PLAIN);
    let results = small.attend(&[], |_, args| args[0]);
    small.check(&results);
}

#[test]
fn masked() {
    for shift in [0, 2] {
        let mut small = Small::new(PLAIN);
        let axes = (small.t, small.s);
        let results = small.attend(&[], |case, args| {
            let scale = case.b.real(0.7);
            let x = case.map(Pointwise::Mul, &[args[0], scale]);
            causal(case, axes, shift, x)
        });
        small.check(&results);
    }
}

/// A row without keys gives zeros, and passes no gradient.
#[test]
fn rows_without_keys_give_zeros() {
    let mut small = Small::new(PLAIN);
    let axes = (small.t, small.s);
    let results = small.attend(&[], |case, args| causal(case, axes, 2, args[0]));
    let mut case = small.case;
    let names = ["out", "lse"];
    for (name, value) in names.iter().zip(&results) {
        case.b.result(Role::Output((*name).into()), *value);
    }
    let found = by_role(&case.b.finish(), &case.bindings);
    let of = |name: &str| &found[&Role::Output(name.into())].data;
    // Rows [T, H] with 3 columns; T = 0 and 1 see no key.
    assert!(of("out")[..12].iter().chain(&of("lse")[..4]).all(|x| *x == 0.0));
    assert!(of("out")[12..].iter().all(|x| *x != 0.0));
}

#[test]
fn grouped_queries_and_odd_axes() {
    let shapes = [
        ["THRK", "SHK", "SHK"],
        ["THRK", "SHK", "SHW"],
        ["THRK", "SK", "SHW"],
        ["THK", "SHRK", "SW"],
        ["K", "SK", "SW"],
        ["THK", "SHK", "S"],
        ["THK", "SHK", "STW"],
        ["TK", "SK", "SHRW"],
    ];
    for axes in shapes {
        let mut small = Small::new(axes);
        let results = small.attend(&[], |case, args| {
            let half = case.b.real(0.5);
            case.map(Pointwise::Mul, &[args[0], half])
        });
        small.check(&results);
    }
}

/// Soft-cap, ALiBi with trained slopes, a trained bias, an int captured for the mask.
#[test]
fn captured_values() {
    let mut small = Small::new(PLAIN);
    let (t, s, h) = (small.t, small.s, small.h);
    let slopes = small.case.param(&[h], 0.2, 0.6);
    let bias = small.case.param(&[h, t, s], -0.5, 0.5);
    let documents = DType::Int { lo: 0, hi: 2 };
    let mine = small.case.input(&[t], documents, vec![0.0, 1.0, 1.0]);
    let theirs = small.case.input(&[s], documents, vec![0.0, 1.0, 0.0, 1.0]);
    let results = small.attend(&[slopes, bias, mine, theirs], |case, args| {
        let [raw, slopes, bias, mine, theirs] = args[..] else { panic!("five arguments") };
        let cap = case.b.real(1.5);
        let x = case.map(Pointwise::Div, &[raw, cap]);
        let x = case.map(Pointwise::Tanh, &[x]);
        let x = case.map(Pointwise::Mul, &[x, cap]);
        let (p, q) = (case.op(Op::Pos(s), &[]), case.op(Op::Pos(t), &[]));
        let distance = case.map(Pointwise::Sub, &[p, q]);
        let distance = case.map(Pointwise::ToReal, &[distance]);
        let slope = case.map(Pointwise::Mul, &[slopes, distance]);
        let x = case.map(Pointwise::Add, &[x, slope]);
        let x = case.map(Pointwise::Add, &[x, bias]);
        let same = case.map(Pointwise::Eq, &[mine, theirs]);
        let none = case.b.real(f64::NEG_INFINITY);
        case.map(Pointwise::Where, &[same, x, none])
    });
    small.check(&results);
}

/// A score that does not depend on the product has no gradient for queries and keys.
#[test]
fn score_without_product() {
    let mut small = Small::new(PLAIN);
    let (t, s, h) = (small.t, small.s, small.h);
    let bias = small.case.param(&[h, s], -0.5, 0.5);
    let results =
        small.attend(&[bias], |case, args| case.op(Op::Broadcast { axes: vec![t] }, &[args[1]]));
    small.check(&results);
}

/// Attention inside a repeated layer: what the backward reads is stacked.
#[test]
fn in_layers() {
    let mut small = Small::new(["THK", "SHK", "SHK"]);
    let case = &mut small.case;
    let l = case.axis("L", 3);
    let (x, shared) = (small.operands[0], small.operands[1]);
    let values = case.param(&[l, small.s], 0.3, 1.0);
    let args = case.b.open_repeat(l, &[x], &[values]);
    let [turn, x0, values0] = args[..] else { panic!("three arguments") };
    let v = case.map(Pointwise::Mul, &[small.operands[2], values0]);
    small.operands = vec![x0, shared, v];
    let axes = (small.t, small.s);
    let results = small.attend(&[turn], |case, args| {
        let turn = case.map(Pointwise::ToReal, &[args[1]]);
        let x = case.map(Pointwise::Sub, &[args[0], turn]);
        causal(case, axes, 0, x)
    });
    let case = &mut small.case;
    let next = case.map(Pointwise::Add, &[results[0], x0]);
    let last = case.b.close_repeat((l, false), &[x], &[values], &[next], &[]).unwrap();
    let loss = case.weighed(last[0]);
    case.b.result(Role::LossTerm(0), loss);
    check(&small.case.b.finish(), &small.case.bindings, 1e-6, 1e-5);
}

/// The backward keeps what it reads: nothing with the size of the scores.
#[test]
fn scores_are_not_saved() {
    let mut small = Small::new(PLAIN);
    let axes = (small.t, small.s);
    let results = small.attend(&[], |case, args| causal(case, axes, 0, args[0]));
    let mut case = small.case;
    let loss = case.weighed(results[0]);
    case.b.result(Role::LossTerm(0), loss);
    let joint = gigac_passes::differentiate::differentiate(&case.b.finish(), 1);
    let large = |v: &ValueId| joint.ty(*v).has(axes.0) && joint.ty(*v).has(axes.1);
    assert!(!joint.root.nodes.iter().flat_map(|n| &n.results).any(large));
    assert_eq!(case.bindings.params[&(ParamId(0), Slot::Weight)].len(), 18);
}
