//! How fast the machine can multiply and add: the measure of utilisation.

use std::time::{Duration, Instant};

use crate::exec::pool::Pool;

/// Turns of the loop per sample: about a millisecond.
const TURNS: u32 = 100_000;
/// Independent sums: enough to hide the latency of a fused multiply-add on two ports.
const SUMS: usize = 12;
/// How long is measured.
const SPAN: Duration = Duration::from_millis(50);

/// Operations per second in f32 of all threads of a pool together; a multiply-add counts two.
/// The best of several samples, as other work only slows them.
pub fn measure(pool: &mut Pool) -> f64 {
    let threads = pool.threads() as u64;
    let started = Instant::now();
    let mut best = 0.0_f64;
    while started.elapsed() < SPAN {
        let sample = Instant::now();
        let flops = std::sync::atomic::AtomicU64::new(0);
        pool.run(threads, &|first, last, _| {
            for _ in first..last {
                flops.fetch_add(sample_flops(), std::sync::atomic::Ordering::Relaxed);
            }
        });
        best = best.max(flops.into_inner() as f64 / sample.elapsed().as_secs_f64());
    }
    best
}

/// Runs one sample and gives its number of operations.
fn sample_flops() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the feature.
            return unsafe { avx512() };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the CPU has the features.
            return unsafe { avx2() };
        }
    }
    plain()
}

macro_rules! sample {
    ($lanes:expr, $set:expr, $fma:expr) => {{
        // Opaque values, or the compiler computes the sums beforehand.
        let (a, b) = std::hint::black_box(($set(0.999_999), $set(1e-6)));
        let mut sums = [$set(std::hint::black_box(1.0)); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = $fma(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        2 * $lanes * SUMS as u64 * u64::from(TURNS)
    }};
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() -> u64 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    sample!(8, _mm256_set1_ps, _mm256_fmadd_ps)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() -> u64 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    sample!(16, _mm512_set1_ps, _mm512_fmadd_ps)
}

fn plain() -> u64 {
    sample!(1, |x: f32| x, |s: f32, a: f32, b: f32| s * a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_plausible() {
        let peak = measure(&mut Pool::new(1, 64).unwrap());
        assert!((1e8..1e13).contains(&peak), "{peak}");
    }
}
