//! Block programs against the kernel interpreter.

#[path = "../support/attention.rs"]
mod attention;
#[path = "../support/mod.rs"]
mod support;

use attention::{Attention, Mask, Score};
use support::{check, check_with, content, kernel};

/// The programs of the page on the kernel IR.
#[test]
fn documented_attention() {
    let page = include_str!("../../../docs/kernel-ir.md");
    let start = page.find("kernel attention").expect("the page has the program");
    let text = &page[start..];
    let text = &text[..text.find("```").expect("code blocks end")];
    check(text, &[], 2e-2);
}

/// Arguments with rows of probabilities that add up to about 1: `lse` is large enough.
fn arguments(text: &str) -> Vec<Vec<f64>> {
    let kernel = kernel(text);
    let mut arguments = content(&kernel);
    for (buffer, numbers) in kernel.buffers.iter().zip(&mut arguments) {
        match buffer.name.as_str() {
            "lse" => numbers.iter_mut().for_each(|x| *x += 4.0),
            "dt" | "ds" => {
                let count = numbers.len();
                numbers.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 3 / count) as f64);
            }
            _ => {}
        }
    }
    arguments
}

fn check_both(attention: &Attention) {
    for text in [attention.forward(), attention.backward()] {
        check_with(&text, &arguments(&text), &[], 2e-4);
    }
}

#[test]
fn sizes_and_masks() {
    let masks = [Mask::Full, Mask::Causal(0), Mask::Causal(5), Mask::Window(20), Mask::Documents];
    let shapes = [(1, 1, 16, [16, 16]), (33, 20, 24, [16, 32]), (70, 100, 40, [32, 16])];
    for mask in masks {
        for (t, s, c, tiles) in shapes {
            let heads = Attention::heads(1, 2, t, c, tiles, mask);
            check_both(&Attention { s, ..heads });
        }
    }
}

#[test]
fn scores() {
    for score in [Score::Scale, Score::Cap, Score::Alibi] {
        let heads = Attention::heads(2, 2, 40, 16, [16, 16], Mask::Causal(0));
        check_both(&Attention { score, e: 33, ..heads });
    }
}

#[test]
fn grouped_queries() {
    let heads = Attention::heads(2, 2, 50, 24, [32, 32], Mask::Causal(0));
    check_both(&Attention { r: 3, ..heads });
}
