//! The law of gradients: what `differentiate` builds agrees with central differences of the
//! forward graph, in f64, for every operation of the table and for repeats in all shapes.

mod attention;
mod case;

use std::collections::BTreeMap;

use case::{Case, by_role, check, finish, random, round_trip};
use gigac_ir::graph::{AxisId, Builder, DType, Graph, InputId, Op, ParamId, Role, Slot, ValueId};
use gigac_ir::kernel::Reduction;
use gigac_ir::pointwise::{POINTWISE, Pointwise, Typing};
use gigac_passes::differentiate::differentiate;

#[test]
fn pointwise_functions() {
    for def in POINTWISE {
        if !matches!(def.typing, Typing::Real | Typing::Arithmetic) || def.op == Pointwise::Stop {
            continue;
        }
        // Positive arguments, away from jumps of `mod` and `floor`; then arguments of both signs.
        let signed = !matches!(
            def.op,
            Pointwise::Log | Pointwise::Sqrt | Pointwise::Pow | Pointwise::Div | Pointwise::Mod
        );
        for (lo, hi) in [(0.55, 0.95), (-1.9, 1.85)] {
            if lo < 0.0 && !signed {
                continue;
            }
            let mut case = Case::new();
            let (a, b) = (case.axis("A", 3), case.axis("B", 2));
            let mut operands = vec![case.param(&[a, b], lo, hi)];
            if def.arity == 2 {
                operands.push(case.param(&[b], lo * 0.8, hi * 1.3));
            }
            let y = case.map(def.op, &operands);
            case.check(y);
            if def.arity == 2 {
                let mut case = Case::new();
                let (a, b) = (case.axis("A", 3), case.axis("B", 2));
                let x = case.param(&[a], lo, hi);
                let y = case.param(&[b, a], lo * 0.8, hi * 1.3);
                let y = case.map(def.op, &[x, y]);
                case.check(y);
            }
        }
    }
}

#[test]
fn powers_with_constant_exponents() {
    for exponent in [0.0, 1.0, 2.0, 3.0, -1.0] {
        let mut case = Case::new();
        let a = case.axis("A", 5);
        let x = case.param(&[a], -1.5, 1.3);
        let c = case.b.real(exponent);
        let y = case.map(Pointwise::Pow, &[x, c]);
        case.check(y);
    }
}

#[test]
fn selection() {
    let mut case = Case::new();
    let (a, b) = (case.axis("A", 3), case.axis("B", 4));
    let (x, y) = (case.param(&[a], -1.0, 1.0), case.param(&[a, b], -1.0, 1.0));
    let (p, q) = (case.op(Op::Pos(a), &[]), case.op(Op::Pos(b), &[]));
    let c = case.map(Pointwise::Le, &[q, p]);
    let z = case.map(Pointwise::Where, &[c, x, y]);
    case.check(z);
}

/// The branch not taken must not poison the gradient: `where(x > 0, log(x), 0)` at negative `x`.
#[test]
fn selection_stops_infinities() {
    let mut case = Case::new();
    let a = case.axis("A", 4);
    let x = case.param(&[a], -1.0, 1.0);
    let zero = case.b.real(0.0);
    let positive = case.map(Pointwise::Gt, &[x, zero]);
    let inner = case.map(Pointwise::Where, &[positive, x, zero]);
    let root = case.map(Pointwise::Sqrt, &[inner]);
    let y = case.map(Pointwise::Where, &[positive, root, zero]);
    case.check(y);
}

#[test]
fn conversions() {
    for function in [Pointwise::F32, Pointwise::ToReal] {
        let mut case = Case::new();
        let a = case.axis("A", 4);
        let x = case.param(&[a], -1.0, 1.0);
        let y = case.map(function, &[x]);
        case.check(y);
    }
    // Casts round, so the differences are coarse.
    for dtype in [DType::F32, DType::Bf16] {
        let mut case = Case::new();
        let a = case.axis("A", 4);
        let x = case.param(&[a], -1.0, 1.0);
        let y = case.op(Op::Cast(dtype), &[x]);
        let y = case.map(Pointwise::Mul, &[y, y]);
        let loss = case.weighed(y);
        case.b.result(Role::LossTerm(0), loss);
        check(&case.b.finish(), &case.bindings, 0.1, 0.06);
    }
}

#[test]
fn stop_passes_nothing() {
    let mut case = Case::new();
    let a = case.axis("A", 4);
    let x = case.param(&[a], -1.0, 1.0);
    let y = case.map(Pointwise::Stop, &[x]);
    let loss = case.sum(y);
    case.b.result(Role::LossTerm(0), loss);
    let results = by_role(&differentiate(&case.b.finish(), 1), &case.bindings);
    assert_eq!(results[&Role::Gradient(ParamId(0))].data, [0.0; 4]);
}

#[test]
fn layout() {
    // Each operation twice: with a cotangent that varies along all axes, and with a uniform one.
    for uniform in [false, true] {
        for i in 0..7 {
            let mut case = Case::new();
            let (h, k, d) = (case.axis("H", 2), case.axis("K", 3), case.axis("D", 6));
            let (t, s) = (case.axis("T", 2), case.axis("S", 2));
            let x = case.param(&[d, t], -1.0, 1.0);
            let hk = case.param(&[k, t, h], -1.0, 1.0);
            let (op, x) = match i {
                0 => (Op::Rename { from: t, to: s }, x),
                1 => (Op::Split { from: d, to: vec![h, k] }, x),
                2 => (Op::Merge { from: vec![h, k], to: d }, hk),
                3 => (Op::Slice { axis: d, to: Some(k), start: 1, stride: 2 }, x),
                4 => (Op::Slice { axis: d, to: Some(k), start: 5, stride: -1 }, x),
                5 => (Op::Slice { axis: d, to: None, start: 4, stride: 1 }, x),
                _ => (Op::Broadcast { axes: vec![s] }, x),
            };
            let y = case.op(op, &[x]);
            finish(case, y, uniform);
        }
        for (axis, start, stride) in [(true, 1, 2), (true, 2, -1), (false, 4, 1)] {
            let mut case = Case::new();
            let (k, d, t) = (case.axis("K", 3), case.axis("D", 6), case.axis("T", 2));
            let axes = if axis { vec![t, k] } else { vec![t] };
            let x = case.param(&axes, -1.0, 1.0);
            let op = Op::Pad { axis: axis.then_some(k), to: d, start, stride };
            let y = case.op(op, &[x]);
            finish(case, y, uniform);
        }
    }
}

#[test]
fn concatenation() {
    for uniform in [false, true] {
        let mut case = Case::new();
        let (j, q, k, t) =
            (case.axis("J", 2), case.axis("Q", 3), case.axis("K", 6), case.axis("T", 2));
        let pieces = [
            case.param(&[t, j], -1.0, 1.0),
            case.param(&[q], -1.0, 1.0),
            case.param(&[t], -1.0, 1.0),
        ];
        let y = case.op(Op::Cat { pieces: vec![Some(j), Some(q), None], to: k }, &pieces);
        finish(case, y, uniform);

        // The axis of one piece is an axis that the other is broadcast along.
        let mut case = Case::new();
        let (j, k, z) = (case.axis("J", 2), case.axis("K", 3), case.axis("Z", 5));
        let pieces = [case.param(&[j], -1.0, 1.0), case.param(&[j, k], -1.0, 1.0)];
        let y = case.op(Op::Cat { pieces: vec![Some(j), Some(k)], to: z }, &pieces);
        finish(case, y, uniform);
    }
}

#[test]
fn reductions() {
    for op in [Reduction::Sum, Reduction::Max] {
        for n in 1..=3 {
            let mut case = Case::new();
            let axes = [case.axis("A", 2), case.axis("B", 3), case.axis("C", 2)];
            let x = case.param(&axes, -1.0, 1.0);
            let y = case.op(Op::Reduce { op, axes: axes[3 - n..].to_vec() }, &[x]);
            case.check(y);
        }
    }
}

/// Of equals, the first in row-major order of the axes gets the gradient.
#[test]
fn maximum_of_equals() {
    let mut case = Case::new();
    let (a, b) = (case.axis("A", 2), case.axis("B", 2));
    let x = case.param(&[a, b], -1.0, 1.0);
    case.bindings.params.insert((ParamId(0), Slot::Weight), vec![0.0, 5.0, 5.0, 5.0]);
    let y = case.op(Op::Reduce { op: Reduction::Max, axes: vec![a, b] }, &[x]);
    case.b.result(Role::LossTerm(0), y);
    let results = by_role(&differentiate(&case.b.finish(), 1), &case.bindings);
    let mut gradient = results[&Role::Gradient(ParamId(0))].clone();
    gradient = gradient.arranged(&[a, b], &[2, 2]);
    assert_eq!(gradient.data, [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn products() {
    for uniform in [false, true] {
        // Batch axis H, free axes T and F, contracted D and E; then none contracted; then no free.
        for (left, right, contracted) in
            [("HTDE", "HDEF", "DE"), ("TD", "F", ""), ("HT", "HT", ""), ("D", "D", "D")]
        {
            let mut case = Case::new();
            let mut named = BTreeMap::new();
            for (name, size) in [('H', 2), ('T', 3), ('D', 2), ('E', 2), ('F', 2)] {
                named.insert(name, case.axis(&name.to_string(), size));
            }
            let axes = |s: &str| s.chars().map(|c| named[&c]).collect::<Vec<_>>();
            let a = case.param(&axes(left), -1.0, 1.0);
            let b = case.param(&axes(right), -1.0, 1.0);
            let y = case.op(Op::Dot { axes: axes(contracted) }, &[a, b]);
            finish(case, y, uniform);
        }
    }
}

#[test]
fn gathers() {
    let int = |hi| DType::Int { lo: 0, hi };
    for uniform in [false, true] {
        // A lookup: the index has axes of its own.
        let mut case = Case::new();
        let (v, d, t) = (case.axis("V", 4), case.axis("D", 2), case.axis("T", 5));
        let x = case.param(&[v, d], -1.0, 1.0);
        let e = case.input(&[t], int(4), vec![1.0, 3.0, 1.0, 0.0, 1.0]);
        let y = case.op(Op::Gather { axis: v }, &[x, e]);
        finish(case, y, uniform);

        // A choice: the index is aligned with the other axes.
        let mut case = Case::new();
        let (v, b, t) = (case.axis("V", 4), case.axis("B", 2), case.axis("T", 3));
        let x = case.param(&[v, t, b], -1.0, 1.0);
        let e = case.input(&[t], int(4), vec![2.0, 0.0, 2.0]);
        let y = case.op(Op::Gather { axis: v }, &[x, e]);
        finish(case, y, uniform);

        // A shift: the index varies along the axis it replaces.
        let mut case = Case::new();
        let (t, d) = (case.axis("T", 4), case.axis("D", 2));
        let x = case.param(&[t, d], -1.0, 1.0);
        let (p, one, zero) = (case.op(Op::Pos(t), &[]), case.b.int(1), case.b.int(0));
        let e = case.map(Pointwise::Sub, &[p, one]);
        let e = case.map(Pointwise::Max, &[e, zero]);
        let y = case.op(Op::Gather { axis: t }, &[x, e]);
        finish(case, y, uniform);
    }
}

#[test]
fn scatters() {
    // An index outside goes nowhere.
    for uniform in [false, true] {
        for hi in [4, 6] {
            let mut case = Case::new();
            let (e, t, n, d) =
                (case.axis("E", 4), case.axis("T", 3), case.axis("N", 2), case.axis("D", 2));
            let x = case.param(&[t, d], -1.0, 1.0);
            let data = vec![0.0, 3.0, 1.0, 1.0, 3.0, f64::from(hi - 1)];
            let dtype = DType::Int { lo: 0, hi: i64::from(hi) };
            let index = case.input(&[t, n], dtype, data);
            let y = case.op(Op::Scatter { axes: vec![t, n], to: e }, &[x, index]);
            finish(case, y, uniform);
        }
    }
}

#[test]
fn largest() {
    let mut case = Case::new();
    let (t, e, n) = (case.axis("T", 3), case.axis("E", 4), case.axis("N", 2));
    let x = case.param(&[e, t], -1.0, 1.0);
    let y = case.b.ops(Op::Top { axis: e, to: n }, &[x]).unwrap();
    case.check(y[0]);
}

/// A repeat with carried, stacked and captured values, the turn, sums, noise; gives its results:
/// two carried, two stacked.
fn layers(case: &mut Case, (l, d): (AxisId, AxisId), reversed: bool, x: ValueId) -> Vec<ValueId> {
    let size = case.b.graph.size(d);
    let e = case.axis("E", size);
    let w = case.param(&[l, e, d], -0.8, 0.9);
    let bias = case.param(&[d, l], -0.3, 0.4);
    let shared = case.param(&[d], 0.5, 1.5);
    let squared = case.map(Pointwise::Mul, &[shared, shared]);
    let args = case.b.open_repeat(l, &[x, shared], &[w, bias]);
    let [turn, x0, y0, w0, bias0] = args[..] else { panic!("five arguments") };
    let h = case.map(Pointwise::Mul, &[x0, squared]);
    let h = case.map(Pointwise::Tanh, &[h]);
    let z = case.op(Op::Dot { axes: vec![d] }, &[h, w0]);
    let z = case.op(Op::Rename { from: e, to: d }, &[z]);
    let seed = case.b.int(5);
    let noise = case.op(Op::Noise { axes: vec![d], key: 3 }, &[seed, seed, turn]);
    let z = case.map(Pointwise::Mul, &[z, noise]);
    let turn = case.map(Pointwise::ToReal, &[turn]);
    let z = case.map(Pointwise::Mul, &[z, turn]);
    let z = case.map(Pointwise::Add, &[z, bias0]);
    let product = case.map(Pointwise::Mul, &[z, y0]);
    let norm = case.sum(product);
    let next_x = case.map(Pointwise::Add, &[z, x0]);
    let next_y = case.map(Pointwise::Mul, &[y0, norm]);
    let next_y = case.map(Pointwise::Sin, &[next_y]);
    let (inits, stacked) = ([x, shared], [w, bias]);
    case.b.close_repeat((l, reversed), &inits, &stacked, &[next_x, next_y], &[norm, h]).unwrap()
}

#[test]
fn repeats() {
    for reversed in [false, true] {
        for used in [vec![0], vec![1, 2], vec![3], vec![0, 1, 2, 3]] {
            let mut case = Case::new();
            let (l, d) = (case.axis("L", 3), case.axis("D", 2));
            let x = case.param(&[d], -1.0, 1.0);
            let results = layers(&mut case, (l, d), reversed, x);
            let losses: Vec<ValueId> = used.iter().map(|i| case.weighed(results[*i])).collect();
            for (i, loss) in losses.into_iter().enumerate() {
                case.b.result(Role::LossTerm(i as u32), loss);
            }
            check(&case.b.finish(), &case.bindings, 1e-6, 1e-5);
        }
    }
}

/// A repeat inside a repeat: the outer one stacks what the inner one stacked.
#[test]
fn nested_repeats() {
    for reversed in [false, true] {
        let mut case = Case::new();
        let (m, l, d) = (case.axis("M", 2), case.axis("L", 3), case.axis("D", 2));
        let x = case.param(&[d], -1.0, 1.0);
        let gain = case.param(&[m, d], 0.5, 1.1);
        let args = case.b.open_repeat(m, &[x], &[gain]);
        let outer = case.map(Pointwise::Exp, &[args[2]]);
        let scaled = case.map(Pointwise::Mul, &[args[1], outer]);
        let inner = layers(&mut case, (l, d), reversed, scaled);
        let mixed = case.map(Pointwise::Mul, &[inner[0], outer]);
        let stacked = case.sum(inner[2]);
        let next = [mixed];
        let results =
            case.b.close_repeat((m, !reversed), &[x], &[gain], &next, &[stacked]).unwrap();
        let (a, b) = (case.weighed(results[0]), case.weighed(results[1]));
        case.b.result(Role::LossTerm(0), a);
        case.b.result(Role::LossTerm(1), b);
        check(&case.b.finish(), &case.bindings, 1e-6, 1e-5);
    }
}

/// An embedding, two layers called with shared weights, a loss line with a denominator and one
/// without, a metric.
fn language_model(case: &mut Case) {
    let int = |hi| DType::Int { lo: 0, hi };
    let (bt, t, v) = (case.axis("B", 2), case.axis("T", 3), case.axis("V", 4));
    let (l, d) = (case.axis("L", 2), case.axis("D", 2));
    let embed = case.param(&[v, d], -1.0, 1.0);
    let data = |key, hi: f64| (0..6).map(|i| (random(key, i) * hi).floor()).collect::<Vec<_>>();
    let tokens = case.input(&[bt, t], int(4), data(1, 4.0));
    let targets = case.input(&[bt, t], int(4), data(2, 4.0));
    let mut x = case.op(Op::Gather { axis: v }, &[embed, tokens]);
    let w = case.param(&[l, d], 0.4, 1.2);
    for _ in 0..2 {
        let args = case.b.open_repeat(l, &[x], &[w]);
        let h = case.map(Pointwise::Mul, &[args[1], args[2]]);
        let h = case.map(Pointwise::Sin, &[h]);
        let next = case.map(Pointwise::Add, &[args[1], h]);
        x = case.b.close_repeat((l, false), &[x], &[w], &[next], &[]).unwrap()[0];
    }
    let logits = case.op(Op::Dot { axes: vec![d] }, &[x, embed]);
    let exp = case.map(Pointwise::Exp, &[logits]);
    let sum = case.op(Op::Reduce { op: Reduction::Sum, axes: vec![v] }, &[exp]);
    let log = case.map(Pointwise::Log, &[sum]);
    let chosen = case.op(Op::Gather { axis: v }, &[logits, targets]);
    let losses = case.map(Pointwise::Sub, &[log, chosen]);
    let zero = case.b.int(0);
    let keep = case.map(Pointwise::Gt, &[targets, zero]);
    let (real_zero, one) = (case.b.real(0.0), case.b.int(1));
    let kept = case.map(Pointwise::Where, &[keep, losses, real_zero]);
    let numerator = case.sum(kept);
    let counts = case.map(Pointwise::Where, &[keep, one, zero]);
    let denominator = case.sum(counts);
    let squares = case.map(Pointwise::Mul, &[log, log]);
    let squares = case.sum(squares);
    case.b.result(Role::LossTerm(0), numerator);
    case.b.result(Role::LossPer(0), denominator);
    case.b.result(Role::LossTerm(1), squares);
    case.b.result(Role::Metric("kept".into()), denominator);
    case.b.result(Role::Output("logits".into()), logits);
}

#[test]
fn language_models() {
    let mut case = Case::new();
    language_model(&mut case);
    check(&case.b.finish(), &case.bindings, 1e-6, 1e-5);
}

/// Two micro-batches give the gradient of the loss over both: sums over sums, means of the rest.
#[test]
fn micro_batches() {
    let mut case = Case::new();
    language_model(&mut case);
    let (forward, bindings) = (case.b.finish(), case.bindings);
    let halves = [bindings.clone(), {
        let mut other = bindings.clone();
        other.inputs.insert(InputId(0), vec![3.0, 2.0, 1.0, 0.0, 1.0, 1.0]);
        other.inputs.insert(InputId(1), vec![0.0, 0.0, 2.0, 0.0, 3.0, 1.0]);
        other
    }];
    let parts = halves.each_ref().map(|half| by_role(&forward, half));
    let counts = parts.each_ref().map(|p| p[&Role::LossPer(0)].data[0]);
    assert_ne!(counts[0], counts[1], "the halves should weigh differently");

    let mut both = bindings.clone();
    for (id, data) in &mut both.inputs {
        data.extend(&halves[1].inputs[id]);
    }
    let joint = differentiate(&forward, 2);
    round_trip(&joint);
    let results = by_role(&joint, &both);
    let sum = |role: &Role| parts.iter().map(|p| p[role].data[0]).sum::<f64>();
    let expected = sum(&Role::LossTerm(0)) / sum(&Role::LossPer(0)) + sum(&Role::LossTerm(1)) / 2.0;
    assert!((results[&Role::Loss].data[0] - expected).abs() < 1e-12);
    let kept = Role::Metric("kept".into());
    assert_eq!(results[&kept].data[0], (counts[0] + counts[1]) / 2.0);

    // d(n₁ + n₂)/(c₁ + c₂) is the mean of the halves' gradients, weighed by their counts.
    let mut weighed = Graph { roles: vec![], ..forward.clone() };
    weighed.root.results.clear();
    let mut b = Builder::new(weighed);
    for (role, value) in forward.results() {
        if matches!(role, Role::LossTerm(0)) {
            b.result(role.clone(), value);
        }
    }
    let numerator = b.finish();
    let mut rest = Graph { roles: vec![], ..forward.clone() };
    rest.root.results.clear();
    let mut b = Builder::new(rest);
    b.result(Role::LossTerm(1), forward.result(&Role::LossTerm(1)).unwrap());
    let rest = b.finish();
    for id in [ParamId(0), ParamId(1)] {
        let role = Role::Gradient(id);
        let of = |graph: &Graph, half| by_role(&differentiate(graph, 1), half)[&role].clone();
        let first = halves.each_ref().map(|h| of(&numerator, h));
        let second = halves.each_ref().map(|h| of(&rest, h));
        let got = &results[&role];
        for i in 0..got.data.len() {
            let expected = (first[0].data[i] + first[1].data[i]) / (counts[0] + counts[1])
                + (second[0].data[i] + second[1].data[i]) / 2.0;
            assert!((got.data[i] - expected).abs() < 1e-12, "{} {expected}", got.data[i]);
        }
    }
}

/// The joint graph does not grow with the number of turns.
#[test]
fn flat_in_depth() {
    let joint = |depth| {
        let mut case = Case::new();
        let (l, d) = (case.axis("L", depth), case.axis("D", 2));
        let x = case.param(&[d], -1.0, 1.0);
        let results = layers(&mut case, (l, d), false, x);
        let loss = case.sum(results[0]);
        case.b.result(Role::LossTerm(0), loss);
        let mut graph = differentiate(&case.b.finish(), 1);
        graph.axes.clear();
        graph.values.iter_mut().for_each(|v| v.ty.dtype = DType::F32);
        graph
    };
    assert_eq!(joint(2), joint(200));
}
