//! Properties of the text form: reading what was printed changes nothing, and no text makes the
//! parser, the verifier or the interpreter panic.

use proptest::prelude::*;

use super::{AxisId, Builder, DType, Graph, InputId, Op, ParamId, Role, Slot};
use crate::interpret::{Bindings, interpret};
use crate::kernel::Reduction;
use crate::pointwise::POINTWISE;

const SAMPLE: &str = r#"
graph sample {
  axes L = 2, T = 4, S = 4, D = 6, H = 2, K = 3, V = 5
  param embed[V, H*K] ~ normal(0.02) lr 0.5 decay 0.0 as ["embed"] from (0, 4)
  param w[L, D] = 1.0 frozen rounded as ["layer.", number(1 + 2*L)] spread [L] from (0)
  input tokens: int(0, 5)[T] from data
  input seed: int(0, 100) from seed
  %0: f32[V, H, K] = param[embed]
  %1 "weights": f32[L, D] = param[w]
  %2: int(0, 5)[T] = input[tokens]
  %3: int(0, 100) = input[seed]
  %4: f32[T, H, K] = gather[V] %0, %2
  %5: f32[T, D] = merge[H*K -> D] %4
  %6: f32[T, D], %7: f32[L, T] = repeat[L, reversed] turn %8: int(0, 2) carry(%9: f32[T, D] = %5) stack(%10: f32[D] = %1) {
    %11: f32[T, D] = mul %9, %10
    %12: f32[T] = dot[D] %11, %9
    %13: f32[T] = noise[7: T] %3, %8
    %14: bool[T] = lt %12, %13
    %15: f32[T, D] = where %14, %11, %9
    next %15
    stack %12
  }
  %16: f32[S, D] = rename[T -> S] %6
  %17: f32[S, K] = slice[D -> K, 5, -2] %16
  %18: f32[S, D] = pad[K -> D, 0, 1] %17
  %19: f32[D, V] = scatter[T -> V] %6, %2
  %20: f32[S, K], %21: int(0, 6)[S, K] = top[D -> K] %18
  %22: bf16[D, V] = cast[bf16] %19
  %23: f32 = reduce[max: D, V] %19
  %24: f32[T, D], %25: f32[T] = attend[S, D] %6, %16, %16 score(%26: f32[T, S], %27: f32 = %23) {
    %28: f32[T, S] = mul %26, %27
    give %28
  }
  %29: f32[T, D], %30: f32[S, D], %31: f32[S, D], %32: f32[T, S] = attend_grad[S, D, full] %6, %16, %16, %24, %25, %25 score(%33: f32[T, S], %34: f32[T, S], %35: f32 = %23) {
    %36: f32[T, S] = mul %33, %35
    %37: f32[T, S] = mul %34, %35
    give %36, %37
  }
  %38: bf16[L, D] = param[w rounded]
  %39: f32[L, D] = mul %1, %38
  result term 0 = %23
  result output y = %20
  result output z = %39
}
"#;

/// Names nothing more than 10,000 elements large, so that it may be run.
fn is_small(graph: &Graph) -> bool {
    let repeats: u64 = graph.axes.iter().fold(1, |n, a| n.saturating_mul(a.size.max(1)));
    repeats < 1 << 16 && graph.values.iter().all(|v| graph.elements(&v.ty.axes) < 10_000)
}

/// Reads, verifies, prints, reads again and runs a text, as far as it is one.
fn exercise(text: &str) {
    let Ok(graph) = Graph::parse(text) else { return };
    let printed = graph.to_string();
    let Ok(()) = graph.verify() else { return };
    let again = Graph::parse(&printed).unwrap_or_else(|e| panic!("{e} in\n{printed}"));
    assert_eq!(again.to_string(), printed);
    if is_small(&graph) {
        let mut bindings = Bindings { seed: 3, ..Bindings::default() };
        for (i, param) in graph.params.iter().enumerate() {
            let data = vec![0.5; graph.elements(&param.axes()) as usize];
            bindings.params.insert((ParamId(i as u32), Slot::Weight), data);
        }
        for (i, input) in graph.inputs.iter().enumerate() {
            let data = vec![1.0; graph.elements(&input.ty.axes) as usize];
            bindings.inputs.insert(InputId(i as u32), data);
        }
        // An error is an answer too.
        let _ = interpret(&graph, &bindings);
    }
}

#[test]
fn the_sample_reads_verifies_and_runs() {
    let graph = Graph::parse(SAMPLE).unwrap();
    graph.verify().unwrap();
    assert!(is_small(&graph));
    assert_eq!(graph.to_string(), SAMPLE.trim());
    exercise(SAMPLE);
}

/// What is not bound of a copy are the weights, rounded to nearest even.
#[test]
fn a_copy_is_its_weight_rounded() {
    let text = "graph g {\n  axes T = 3\n  param w[T] = 0.0 rounded\n  %0 = param[w rounded]\n  \
                result output copy = %0\n}";
    let graph = Graph::parse(text).unwrap();
    graph.verify().unwrap();
    let (w, step) = (ParamId(0), 1.0 / 128.0);
    let mut bindings = Bindings::default();
    let weights = vec![1.0 + 0.5 * step, 1.0 + 1.5 * step, -1.0 - 0.6 * step];
    bindings.params.insert((w, Slot::Weight), weights);
    let copy = interpret(&graph, &bindings).unwrap().remove(0);
    assert_eq!(copy.data, [1.0, 1.0 + 2.0 * step, -1.0 - step]);
    bindings.params.insert((w, Slot::Rounded), vec![3.0; 3]);
    assert_eq!(interpret(&graph, &bindings).unwrap()[0].data, [3.0; 3], "what is bound counts");
}

#[test]
fn errors_have_places() {
    let error = Graph::parse("graph g {\n  axes T = 4\n  %0 = pos[U]\n}").unwrap_err();
    assert_eq!(error.to_string(), "3:12: there is no axis `U`");
    let error = Graph::parse("graph g {\n  %0 = exp %1\n}").unwrap_err();
    assert_eq!(error.to_string(), "2:12: %1 is not defined above");
}

/// A graph of random operations; those that do not fit are left out.
fn random_graph(choices: &[(u8, u8, u8)]) -> Graph {
    let mut b = Builder::new(Graph::new("random"));
    let axes: Vec<AxisId> =
        [("A", 2), ("B", 3), ("C", 6), ("D", 2)].map(|(n, s)| b.graph.add_axis(n, s)).to_vec();
    let mut values: Vec<_> = axes.iter().map(|a| b.op(Op::Pos(*a), &[]).unwrap()).collect();
    values.push(b.real(0.5));
    for (kind, x, y) in choices {
        let axis = |i: u8| axes[usize::from(i) % axes.len()];
        let value = |i: u8| values[usize::from(i) % values.len()];
        let op = match kind % 16 {
            0 => Op::Rename { from: axis(*x), to: axis(*y) },
            1 => Op::Split { from: axes[2], to: vec![axes[0], axes[1]] },
            2 => Op::Merge { from: vec![axes[0], axes[1]], to: axes[2] },
            3 => Op::Slice { axis: axis(*x), to: Some(axis(*y)), start: 0, stride: 1 },
            4 => Op::Pad { axis: None, to: axis(*y), start: 1, stride: 1 },
            5 => Op::Reduce { op: Reduction::Max, axes: vec![axis(*y)] },
            6 => Op::Broadcast { axes: vec![axis(*y)] },
            7 => Op::Dot { axes: vec![axis(*y)] },
            8 => Op::Gather { axis: axis(*y) },
            9 => Op::Scatter { axes: vec![axis(*x)], to: axis(*y) },
            10 => Op::Cast(DType::Bf16),
            _ => Op::Pointwise(POINTWISE[usize::from(*kind) % POINTWISE.len()].op),
        };
        let all = [value(*x), value(*y), value(x.wrapping_add(*y))];
        let made = (1..=3).find_map(|n| b.ops(op.clone(), &all[..n]).ok());
        values.extend(made.into_iter().flatten());
    }
    let last = values[values.len() - 1];
    b.result(Role::Output("y".into()), last);
    b.finish()
}

proptest! {
    #[test]
    fn random_graphs_round_trip(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 0..60)) {
        let graph = random_graph(&choices);
        graph.verify().unwrap();
        let text = graph.to_string();
        let mut read = Graph::parse(&text).unwrap();
        read.values.iter_mut().for_each(|v| v.span = None);
        // Values are numbered in the order of their definitions, as the builder does.
        prop_assert_eq!(&read, &graph);
        exercise(&text);
    }

    #[test]
    fn mutated_texts_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, 0usize..41), 1..5)
    ) {
        const PIECES: [&str; 41] = [
            "%0", "%6", "%9", "%15", "0", "1", "-1", "99999999999", "9223372036854775807", "T", "S",
            "D", "L", "K", "give", "[", "]", "{", "}", "(", ")", ",", "*", "->", "=", ":", "f32", "int(0, 9)",
            "bool", "repeat", "next", "stack", "exp", "dot", "real", "\"", ";", "\n", "é", "inf", " ",
        ];
        let mut tokens: Vec<String> = SAMPLE.split_inclusive(' ').map(str::to_owned).collect();
        for (place, kind, piece) in edits {
            let at = place.index(tokens.len());
            match kind {
                0 if tokens.len() > 1 => drop(tokens.remove(at)),
                0 | 1 => tokens.insert(at, PIECES[piece].to_owned()),
                2 => tokens[at] = format!("{} ", PIECES[piece]),
                3 => tokens[at].push_str(PIECES[piece]),
                4 => { let other = tokens[piece % tokens.len()].clone(); tokens[at] = other; }
                _ => tokens.truncate(at + 1),
            }
        }
        exercise(&tokens.concat());
    }

    #[test]
    fn any_text_does_no_harm(text in "\\PC{0,80}") {
        exercise(&text);
        exercise(&format!("graph g {{ axes T = 3 {text}"));
    }
}
