//! Block programs against the kernel interpreter.

#[path = "../support/attention.rs"]
mod attention;
#[path = "../support/bound.rs"]
mod bound;
#[path = "../support/mod.rs"]
mod support;

use attention::{Attention, Mask, Score};
use bound::{Bounded, bounded};
use gigac_ir::kernel::{Arithmetic, AttentionKernel, Machine};
use support::{check_cpu, check_cpu_with, content, gpu, kernel};

/// The programs of the page on the kernel IR.
#[test]
fn documented_attention() {
    let page = include_str!("../../../docs/kernel-ir.md");
    let start = page.find("kernel attention").expect("the page has the program");
    let text = &page[start..];
    let text = &text[..text.find("```").expect("code blocks end")];
    check_cpu(text, &[], 2e-2);
}

/// Arguments with rows of probabilities that add up to about 1: `lse` is large enough.
fn arguments(text: &str) -> Vec<Vec<f64>> {
    let kernel = kernel(text);
    let mut arguments = content(&kernel);
    for (buffer, numbers) in kernel.buffers.iter().zip(&mut arguments) {
        match buffer.name.as_str() {
            "lse" => numbers.iter_mut().for_each(|x| *x += 4.0),
            "slope" => numbers.iter_mut().for_each(|x| *x *= 0.05),
            "dt" | "ds" => {
                let count = numbers.len();
                numbers.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 3 / count) as f64);
            }
            _ => {}
        }
    }
    arguments
}

const MASKS: [Mask; 6] = [
    Mask::Full,
    Mask::Causal(0),
    Mask::Causal(5),
    Mask::Window(20),
    Mask::Sinks(5, 12),
    Mask::Documents,
];

fn check_both(attention: &Attention) {
    for text in [attention.forward(), attention.backward()] {
        check_cpu_with(&text, &arguments(&text), &[], 2e-4);
    }
}

#[test]
fn sizes_and_masks() {
    let masks = MASKS;
    let shapes = [(1, 1, 16, [16, 16]), (33, 20, 24, [16, 32]), (40, 70, 36, [32, 16])];
    for (i, mask) in masks.into_iter().enumerate() {
        let (t, s, c, tiles) = shapes[i % shapes.len()];
        for (t, s) in [(t, s), (s, t)] {
            let heads = Attention::heads(1, 2, t, c, tiles, mask);
            check_both(&Attention { s, ..heads });
        }
    }
}

#[test]
fn scores() {
    for score in [Score::Scale, Score::Cap, Score::Alibi, Score::Bias { trained: false }] {
        let heads = Attention::heads(2, 2, 40, 16, [16, 16], Mask::Causal(0));
        check_both(&Attention { score, e: 33, ..heads });
    }
}

/// Biases are read along keys, so that rows are reduced along the lanes of vectors: also where keys fill these, but not
/// all chains of additions.
#[test]
fn biases() {
    for [t, s] in [[40, 40], [32, 24], [20, 33]] {
        let score = Score::Bias { trained: false };
        check_both(&Attention { s, score, ..Attention::heads(1, 2, t, 16, [16, 16], Mask::Full) });
    }
}

#[test]
fn grouped_queries() {
    let heads = Attention::heads(2, 2, 50, 24, [32, 32], Mask::Causal(0));
    check_both(&Attention { r: 3, ..heads });
}

/// Heads of every width that published models have, in the tiles that the former takes.
#[test]
fn wide_heads() {
    let (t, s) = (70, 45);
    for (c, e) in [(80, 80), (96, 96), (112, 112), (128, 128), (192, 128), (256, 256)] {
        let mask = if c % 3 == 0 { Mask::Window(20) } else { Mask::Causal(0) };
        let heads = |kernel: AttentionKernel| {
            let tiles = Machine::Cpu.attention(kernel, [t, s], c.max(e));
            let tiles = [tiles.queries, tiles.keys];
            Attention { s, e, r: 2, ..Attention::heads(1, 1, t, c, tiles, mask) }
        };
        for text in
            [heads(AttentionKernel::Forward).forward(), heads(AttentionKernel::Backward).backward()]
        {
            check_cpu_with(&text, &arguments(&text), &[], 5e-4);
        }
    }
}

/// Shapes, tiles, masks and scores drawn at random.
#[test]
fn random_programs() {
    let mut state = 7u64;
    let mut draw = |from: u64, to: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        from + (state >> 33) % (to - from)
    };
    for _ in 0..8 {
        let tile = |draw: &mut dyn FnMut(u64, u64) -> u64| 16 * draw(1, 4);
        let tiles = [tile(&mut draw), tile(&mut draw)];
        let mask = match draw(0, 6) {
            0 => Mask::Full,
            1 => Mask::Causal(draw(0, 30).cast_signed() - 15),
            2 | 3 => Mask::Window(draw(1, 50).cast_signed()),
            4 => Mask::Sinks(draw(1, 20).cast_signed(), draw(1, 30).cast_signed()),
            _ => Mask::Documents,
        };
        let score = [Score::Scale, Score::Cap, Score::Alibi][draw(0, 3) as usize];
        let attention = Attention {
            b: draw(1, 3),
            g: draw(1, 3),
            r: draw(1, 3),
            t: draw(1, 60),
            s: draw(1, 60),
            c: draw(2, 40),
            e: draw(2, 40),
            tiles,
            mask,
            score,
            half: false,
        };
        check_both(&attention);
    }
}

/// The most that bounds may be of results, in the root of their mean squares: a looser one would prove nothing.
const SHARE: f64 = 1.0 / 32.0;

/// Runs a kernel on the emulated GPU, with all checks, under three schedules: every element of every result is within the
/// bound of its error of what exact arithmetic gives.
fn check_exact(text: &str) {
    let kernel = kernel(text);
    let arguments = arguments(text);
    let Bounded { kernel: reference, bounds } = bounded(&kernel);
    let mut exact = arguments.clone();
    exact.extend(bounds.iter().map(|(of, _)| vec![0.0; arguments[*of].len()]));
    reference.interpret(&mut exact, &[], Arithmetic::F64).expect("the arguments fit");
    let squares = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
    for (of, bound) in &bounds {
        // Where nothing is seen results are 0, and bounds what an exponential may lose.
        let (all, share) = (squares(&exact[*of]).max(1e-30), squares(&exact[*bound]));
        assert!(share <= SHARE * SHARE * all, "the bounds of result {of} are wide: {text}");
    }
    for (schedule, results) in gpu::run(&kernel, &arguments, &[]) {
        for (of, bound) in &bounds {
            let of_all = results[*of].iter().zip(&exact[*of]).zip(&exact[*bound]);
            for (i, ((x, y), bound)) in of_all.enumerate() {
                let near = (x - y).abs() <= *bound;
                assert!(near, "{schedule:?}: [{i}] of {of} is {x}, not {y} ± {bound}: {text}");
            }
        }
    }
}

/// Forward and backward in bf16 on tensor cores.
fn check_half(attention: &Attention) {
    let attention = Attention { half: true, ..*attention };
    let [rows, cols] = attention.tiles;
    let keys = Attention { tiles: [cols.min(32), rows], ..attention };
    let halves: &[[bool; 2]] = match attention.c.max(attention.e) {
        129.. => &[[true, false], [false, true]],
        _ => &[[true, true]],
    };
    let texts = [attention.forward(), attention.queries()];
    for text in texts.into_iter().chain(halves.iter().map(|of| keys.values(*of))) {
        check_exact(&text);
    }
}

#[test]
fn tensor_cores_take_heads_of_16_to_256() {
    for (c, tiles) in [
        (16, [32, 32]),
        (24, [64, 64]),
        (40, [32, 32]),
        (64, [128, 64]),
        (80, [64, 64]),
        (96, [64, 32]),
        (128, [128, 64]),
        (192, [64, 32]),
        (256, [64, 32]),
    ] {
        check_half(&Attention::heads(1, 1, tiles[0] + 2, c, tiles, Mask::Causal(0)));
    }
}

#[test]
fn tensor_cores_with_masks_and_odd_sizes() {
    let masks = MASKS;
    let shapes = [(1, 1, 16, [16, 16]), (33, 100, 20, [16, 32]), (140, 70, 36, [64, 32])];
    for (i, mask) in masks.into_iter().enumerate() {
        for (t, s, c, tiles) in [shapes[i % 3], shapes[(i + 1) % 3]] {
            let heads = Attention::heads(1, 2, t, c, tiles, mask);
            check_half(&Attention { s, e: c + 3, ..heads });
        }
    }
}

#[test]
fn tensor_cores_with_scores_and_grouped_queries() {
    let bias = [false, true].map(|trained| Score::Bias { trained });
    for score in [Score::Scale, Score::Cap, Score::Alibi].into_iter().chain(bias) {
        let heads = Attention::heads(2, 2, 70, 32, [32, 32], Mask::Causal(0));
        check_half(&Attention { score, r: 3, ..heads });
    }
}

/// The gradient of a bias leaves with the turn that computes it, and is 0 where turns are left out.
#[test]
fn tensor_cores_with_biases() {
    for (mask, [t, s]) in
        [(Mask::Full, [64, 96]), (Mask::Window(20), [100, 100]), (Mask::Sinks(3, 9), [81, 67])]
    {
        for trained in [false, true] {
            let heads = Attention::heads(2, 2, t, 48, [64, 32], mask);
            check_half(&Attention { s, score: Score::Bias { trained }, ..heads });
        }
    }
}

/// A single query, a single key, both.
#[test]
fn tensor_cores_with_one_position() {
    for [t, s] in [[1, 50], [50, 1], [1, 1]] {
        for mask in [Mask::Full, Mask::Causal(0)] {
            let heads = Attention::heads(2, 1, t, 64, [64, 64], mask);
            check_half(&Attention { s, r: 2, ..heads });
        }
    }
}
