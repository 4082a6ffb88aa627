//! The programs of `docs/kernel-ir.md` are well formed and compute what the page says.

use gigac_ir::kernel::{Arithmetic, Kernel};

const PAGE: &str = include_str!("../../docs/kernel-ir.md");

/// The program of that name on the page.
fn documented(name: &str) -> Kernel {
    let blocks = PAGE.split("```kernel\n").skip(1);
    let mut texts = blocks.map(|block| &block[..block.find("```").expect("code blocks end")]);
    let text = texts.find(|text| text.starts_with(&format!("kernel {name} "))).expect(name);
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(kernel.verify(), Ok(()), "{name}");
    assert_eq!(Kernel::parse(&kernel.to_string()).as_ref(), Ok(&kernel), "{name}");
    kernel
}

/// Numbers in [−1, 1).
fn numbers(count: usize, seed: u32) -> Vec<f64> {
    let hash = |i: u32| i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8;
    (0..count as u32).map(|i| f64::from(hash(i)) / f64::from(1 << 23) - 1.0).collect()
}

/// A number as a bf16 buffer holds it.
fn stored(x: f64) -> f64 {
    half::bf16::from_f64(x).to_f64()
}

#[test]
fn matrix_product() {
    let mut buffers =
        [numbers(131_072, 1), numbers(98_304, 2), numbers(384, 3), vec![0.0; 196_608]];
    documented("linear").interpret(&mut buffers, &[], Arithmetic::F64).expect("buffers fit");
    let [x, w, b, y] = &buffers;
    for (t, f) in [(0, 0), (511, 383), (130, 7), (64, 200)] {
        let sum: f64 = (0..256).map(|d| x[256 * t + d] * w[256 * f + d]).sum();
        assert_eq!(y[384 * t + f], stored(sum + b[f]), "y[{t}, {f}]");
    }
}

#[test]
fn attention() {
    let [q, k, v] = [1, 2, 3].map(|seed| numbers(32_768, seed));
    let mut buffers = [q.clone(), k.clone(), v.clone(), vec![0.0; 32_768], vec![0.0; 512]];
    documented("attention").interpret(&mut buffers, &[], Arithmetic::F64).expect("buffers fit");
    for (h, t) in [(0, 0), (1, 255), (0, 63), (1, 64), (0, 200)] {
        let at = |position: usize, c: usize| 128 * position + 64 * h + c;
        let score = |s: usize| (0..64).map(|c| q[at(t, c)] * k[at(s, c)]).sum::<f64>() / 8.0;
        let weights: Vec<f64> = (0..=t).map(|s| score(s).exp()).collect();
        let total: f64 = weights.iter().sum();
        assert!((buffers[4][256 * h + t] - total.ln()).abs() < 1e-12, "m[{h}, {t}]");
        for e in [0, 63] {
            let sum: f64 = weights.iter().enumerate().map(|(s, w)| w * v[at(s, e)]).sum();
            assert_eq!(buffers[3][at(t, e)], stored(sum / total), "o[{h}, {t}, {e}]");
        }
    }
}
