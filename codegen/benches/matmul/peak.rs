//! The machine's peak of f32 multiply-adds: independent chains in registers, on all threads.

use std::arch::x86_64::{
    __m256, __m512, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32,
    _mm512_fmadd_ps, _mm512_set1_ps,
};
use std::hint::black_box;
use std::thread::scope;
use std::time::Instant;

/// Chains: more than latency times throughput of any CPU's multiply-add units.
const CHAINS: usize = 12;
const STEPS: u64 = 4_000_000;
const ROUNDS: usize = 5;

/// GFLOP/s with so many threads and f32 in a register.
pub(crate) fn rate(threads: u64, lanes: u64) -> f64 {
    let wide = lanes == 16;
    let round = || {
        let start = Instant::now();
        scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| match wide {
                    // SAFETY: kernels of 16 lanes need AVX-512.
                    true => black_box(unsafe { chains_avx512() }),
                    // SAFETY: all kernels need AVX2 and FMA.
                    false => black_box(unsafe { chains_avx2() }),
                });
            }
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    (threads * STEPS * CHAINS as u64 * lanes * 2) as f64 / best / 1e9
}

#[target_feature(enable = "avx512f")]
fn chains_avx512() -> f32 {
    let (by, plus) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    let mut chains: [__m512; CHAINS] = [by; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = _mm512_fmadd_ps(*chain, by, plus);
        }
    }
    chains.into_iter().map(|chain| _mm512_cvtss_f32(chain)).sum()
}

#[target_feature(enable = "avx2,fma")]
fn chains_avx2() -> f32 {
    let (by, plus) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    let mut chains: [__m256; CHAINS] = [by; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = _mm256_fmadd_ps(*chain, by, plus);
        }
    }
    chains.into_iter().map(|chain| _mm256_cvtss_f32(chain)).sum()
}
