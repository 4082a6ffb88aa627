//! How fast the machine moves bytes from and to memory.

use std::time::{Duration, Instant};

use crate::exec::pool::Pool;

/// Bytes of each of the two arrays: more than caches hold, unless they are very large.
const BYTES: usize = 128 << 20;
/// Bytes that a thread copies at a time.
const CHUNK: usize = 1 << 20;
/// How long is measured.
const SPAN: Duration = Duration::from_millis(150);

/// Bytes per second of all threads of a pool together while they copy an array: every byte is
/// read once and written once, and both count. The best of several copies, as other work only
/// slows them.
pub fn measure(pool: &mut Pool) -> f64 {
    let source = vec![1_u8; BYTES];
    let mut target = vec![0_u8; BYTES];
    let chunks: Vec<std::sync::Mutex<&mut [u8]>> =
        target.chunks_mut(CHUNK).map(std::sync::Mutex::new).collect();
    let mut copy = || {
        let started = Instant::now();
        pool.run(&[chunks.len() as u64], &|_, first, last, _| {
            for i in first as usize..last as usize {
                let mut to = chunks[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let length = to.len();
                to.copy_from_slice(&source[i * CHUNK..][..length]);
            }
        });
        started.elapsed().as_secs_f64()
    };
    // The first copy also asks the system for the pages.
    copy();
    let started = Instant::now();
    let mut best = f64::INFINITY;
    while started.elapsed() < SPAN {
        best = best.min(copy());
    }
    2.0 * BYTES as f64 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_plausible() {
        let bandwidth = measure(&mut Pool::new(1, 64).unwrap());
        assert!((1e8..1e13).contains(&bandwidth), "{bandwidth}");
    }
}
