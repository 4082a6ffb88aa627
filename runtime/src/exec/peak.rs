//! How fast the machine can multiply and add: the measure of utilisation.

use std::time::{Duration, Instant};

use crate::exec::pool::Pool;

/// Turns of the loop per sample: about a millisecond.
const TURNS: u32 = 100_000;
/// Independent sums: enough to hide the latency of a fused multiply-add on two ports.
const SUMS: usize = 12;
/// How long is measured.
const SPAN: Duration = Duration::from_millis(50);

/// The vectors of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// None: one number at a time.
    Scalar,
    /// Eight floats.
    Avx2,
    /// Sixteen floats.
    Avx512,
}

impl Vectors {
    /// The widest ones of this CPU.
    pub fn host() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            let (avx2, fma) = (
                std::arch::is_x86_feature_detected!("avx2"),
                std::arch::is_x86_feature_detected!("fma"),
            );
            if avx2 && fma {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// Those that code for a CPU with these features uses; the widest of this CPU where they name
    /// none.
    pub fn of(features: &[String]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        match (has("avx512f"), has("avx2")) {
            (true, _) => Self::Avx512,
            (false, true) => Self::Avx2,
            (false, false) => Self::host(),
        }
    }
}

/// Operations per second in f32 of all threads of a pool together, with vectors that this CPU has; a
/// multiply-add counts two. The best of several samples, as other work only slows them.
pub fn measure(pool: &mut Pool, vectors: Vectors) -> f64 {
    let threads = pool.threads() as u64;
    let started = Instant::now();
    let mut best = 0.0_f64;
    while started.elapsed() < SPAN {
        let sample = Instant::now();
        let flops = std::sync::atomic::AtomicU64::new(0);
        pool.run(&[threads], &|_, first, last, _| {
            for _ in first..last {
                flops.fetch_add(sample_flops(vectors), std::sync::atomic::Ordering::Relaxed);
            }
        });
        best = best.max(flops.into_inner() as f64 / sample.elapsed().as_secs_f64());
    }
    best
}

/// Runs one sample and gives its number of operations.
fn sample_flops(vectors: Vectors) -> u64 {
    #[cfg(target_arch = "x86_64")]
    match (vectors, Vectors::host()) {
        (Vectors::Avx512, Vectors::Avx512) => {
            // SAFETY: the CPU has the feature.
            return unsafe { avx512() };
        }
        (Vectors::Avx2, Vectors::Avx512 | Vectors::Avx2) => {
            // SAFETY: the CPU has the features: those with AVX-512 have AVX2 and FMA.
            return unsafe { avx2() };
        }
        _ => {}
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
    use gigac_ir::image::{X86_64_V3, X86_64_V4};

    use super::*;

    #[test]
    fn is_plausible() {
        let peak = measure(&mut Pool::new(1, 64).unwrap(), Vectors::host());
        assert!((1e8..1e13).contains(&peak), "{peak}");
    }

    #[test]
    fn code_is_measured_by_its_own_vectors() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(Vectors::of(&names(X86_64_V4)), Vectors::Avx512);
        assert_eq!(Vectors::of(&names(X86_64_V3)), Vectors::Avx2);
        assert_eq!(Vectors::of(&[]), Vectors::host());
    }
}
