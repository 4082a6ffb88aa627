//! What small expressions mean, by the reference interpreter.

use gigac_frontend::{Mode, Source, compile};
use gigac_ir::interpret::{Bindings, interpret};

/// The elements of `output y`, in the order of its printed axes.
fn value(lines: &str) -> Vec<f64> {
    let text = format!("axes T = 4, S = T, D = 6, H = 2, K = 3, E = 5, N = 2, L = 3\n{lines}\n");
    let load = |_: &str| Err("there are no other files".to_string());
    let model = match compile(&Source::new("m.giga", text), &load, &[], Mode { training: false }) {
        Ok(model) => model,
        Err(errors) => panic!("{}", errors.render(false)),
    };
    let results = interpret(&model.graph, &Bindings::default()).expect("nothing is bound");
    results[0].data.clone()
}

#[track_caller]
fn check(lines: &str, expected: &[f64]) {
    let found = value(lines);
    let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-12 * (1.0 + y.abs());
    let same = found.len() == expected.len() && found.iter().zip(expected).all(close);
    assert!(same, "{lines}\n gives {found:?}\n   not {expected:?}");
}

#[test]
fn arithmetic() {
    check("output y = (pos(T) - 2) % 3", &[1.0, 2.0, 0.0, 1.0]);
    check("output y = floor((pos(T) - 2) / 2)", &[-1.0, -1.0, 0.0, 0.0]);
    check("output y = (f32(pos(T)) - 2) ^ 3", &[-8.0, -1.0, 0.0, 1.0]);
    check("output y = -(pos(T) + 1) ^ 2", &[-1.0, -4.0, -9.0, -16.0]);
    check("output y = (pos(T) + 1) ^ -1", &[1.0, 0.5, 1.0 / 3.0, 0.25]);
    check("output y = sum(pos(S) <= pos(T); S)", &[1.0, 2.0, 3.0, 4.0]);
    check("const a = 7 / 2, b = floor(a) + 2 ^ 3\noutput y = b + 0 * sum(pos(T))", &[11.0]);
}

#[test]
fn index_is_substitution() {
    check("output y = pos(T)[T = max(pos(T) - 1, 0)]", &[0.0, 0.0, 1.0, 2.0]);
    check("output y = pos(T)[T = T - 1 - pos(T)]", &[3.0, 2.0, 1.0, 0.0]);
    check("output y = pos(D)[D = 2 * pos(K) + 1]", &[1.0, 3.0, 5.0]);
    check("output y = (10 * pos(T) + pos(S))[S = pos(T)]", &[0.0, 11.0, 22.0, 33.0]);
    check("output y = pos(K)[K = floor(pos(D) / 2)]", &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn layout() {
    let six = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    check("output y = pos(D)[D -> H*K]", &six);
    check("output y = (3 * pos(H) + pos(K))[H*K -> D]", &six);
    check("output y = pos(D)[D -> H*K][H = 1]", &[3.0, 4.0, 5.0]);
    check("output y = cat(pos(K), 5 - pos(K); K + K -> D)", &[0.0, 1.0, 2.0, 5.0, 4.0, 3.0]);
    check("output y = cat(7, 8; 1 + 1 -> N)", &[7.0, 8.0]);
    check("axes Z = 4\noutput y = cat(pos(K), 9; K + 1 -> Z)", &[0.0, 1.0, 2.0, 9.0]);
}

#[test]
fn routing() {
    let scores = "let x = pos(E) * 7 % 5\n"; // 0 2 4 1 3
    check(&format!("{scores}let (v, e) = top(x; E -> N)\noutput y = v"), &[4.0, 3.0]);
    check(&format!("{scores}let (v, e) = top(x; E -> N)\noutput y = e"), &[2.0, 4.0]);
    let equal = "let (v, e) = top(0 * pos(E); E -> N)\noutput y = e";
    check(equal, &[0.0, 1.0]);
    let back = "let (v, e) = top(x; E -> N)\noutput y = scatter(v, e; N -> E)";
    check(&format!("{scores}{back}"), &[0.0, 0.0, 4.0, 0.0, 3.0]);
}

#[test]
fn layers_count_their_turns() {
    check("layer f(x[]) repeat L { 2 * x + pos(L) }\noutput y = f(1)", &[12.0]);
    check("layer f(x[]) repeat L { x + where(pos(L) % 2 == 0, 10, 1) }\noutput y = f(0)", &[21.0]);
    let two = "layer f(x[], y[]) repeat L { (y, x + y) }\nlet (a, b) = f(0, 1)\noutput y = b";
    check(two, &[3.0]);
}

#[test]
fn functions_keep_their_axes_apart() {
    let half = "fn half(x; K) {\n  axes J = 2, Q = K - J\n  let h = x[K = pos(J)]\n  \
        cat(h, x[K = J + pos(Q)]; J + Q -> K)\n}\n";
    check(&format!("{half}output y = half(half(pos(K); K); K)"), &[0.0, 1.0, 2.0]);
    check("fn f(x; A...) { sum(x; A) / A }\noutput y = f(pos(T) + pos(K))", &[2.5]);
    check("fn f(x, n = 2 * K; K) { sum(x; K) + n }\noutput y = f(pos(E); E)", &[20.0]);
}

#[test]
fn prelude() {
    check("axes P = 4\noutput y = alibi_slopes(P)", &[0.25, 0.0625, 0.015_625, 0.003_906_25]);
    let six = [0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125];
    check("output y = alibi_slopes(D)", &six);
    let nothing = "output y = softmax(where(pos(S) < pos(T) - 9, f32(pos(S)), -inf); S)[T = 0]";
    check(nothing, &[0.0; 4]);
    check("output y = sum(sliding(2; T, S); S)", &[1.0, 2.0, 2.0, 2.0]);
}
