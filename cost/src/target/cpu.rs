//! The CPU in hand: figures that were measured, or defaults that follow from its features.

use super::Figure;
use super::device::{Device, Kind};

/// What is known of a CPU. The caller asks the machine; nothing here does.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuFacts {
    /// Threads that run kernels.
    pub threads: u32,
    /// Whether it has AVX-512; else AVX2.
    pub avx512: bool,
    /// Bytes of memory, when known.
    pub memory: Option<u64>,
    /// Measured operations per second in f32 of all threads, a multiply-add being two.
    pub peak: Option<f64>,
    /// Measured bytes per second from memory, all threads.
    pub bandwidth: Option<f64>,
}

impl Default for CpuFacts {
    /// Two threads with AVX2, nothing measured: figures that do not depend on the machine in hand.
    fn default() -> Self {
        Self { threads: 2, avx512: false, memory: None, peak: None, bandwidth: None }
    }
}

/// Cycles per second of a server core under vector load.
const HERTZ: f64 = 2.6e9;
/// Fused multiply-adds that a core starts in a cycle.
const PORTS: f64 = 2.0;
/// Bytes per second that one core draws from memory.
const CORE_BANDWIDTH: f64 = 10e9;
/// Bytes of memory when nothing is known.
const MEMORY: f64 = (16_u64 << 30) as f64;

/// A CPU as a device.
pub fn cpu(facts: &CpuFacts) -> Device {
    let threads = f64::from(facts.threads.max(1));
    let lanes = if facts.avx512 { 16.0 } else { 8.0 };
    let width = if facts.avx512 { "AVX-512" } else { "AVX2" };
    let peak = match facts.peak {
        Some(peak) => Figure::new(peak, "measured: fused multiply-adds of all threads"),
        None => Figure::new(
            threads * lanes * PORTS * 2.0 * HERTZ,
            format!("estimate: {threads} threads, {width}, {PORTS} multiply-adds a cycle, 2.6 GHz"),
        ),
    };
    let bandwidth = match facts.bandwidth {
        Some(bandwidth) => Figure::new(bandwidth, "measured: all threads copy a large array"),
        None => Figure::new(threads * CORE_BANDWIDTH, "estimate: 10 GB/s a core"),
    };
    // One operation per lane and port where a multiply-add counts two.
    let vector = peak.value / 2.0;
    Device {
        name: "cpu".to_owned(),
        title: format!("this CPU, {threads} threads, {width}"),
        kind: Kind::Cpu,
        units: Figure::new(threads, "threads of the run"),
        memory: match facts.memory {
            Some(bytes) => Figure::new(bytes as f64, "the machine's memory"),
            None => Figure::new(MEMORY, "estimate: 16 GiB"),
        },
        reserve: Figure::new(1e9, "estimate: the system, the executable and its data"),
        // Products of bf16 are widened and run at the rate of f32.
        product_bf16: peak.clone(),
        product_f32: peak,
        product_share: Figure::new(0.8, "measured: packed products reach 0.75 to 0.85 of the peak"),
        vector: Figure::new(vector, "half of the peak: no multiply-adds"),
        host_bandwidth: Figure::new(
            bandwidth.value / 2.0,
            format!("half the bandwidth, a copy reads and writes; {}", bandwidth.source),
        ),
        bandwidth,
        bandwidth_share: Figure::new(1.0, "the bandwidth is a streaming kernel's"),
        cache: Figure::new(threads * 1e6, "estimate: 1 MB a core at the second level"),
        cache_bandwidth: Figure::new(threads * 60e9, "estimate: 60 GB/s a core"),
        unit_bandwidth: Figure::new(60e9, "estimate: packing copies 60 GB/s a core"),
        launch: Figure::new(3e-6, "estimate: waking and joining the threads of the pool"),
        tiles: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_figures_win() {
        let measured = CpuFacts { peak: Some(199e9), bandwidth: Some(21e9), ..CpuFacts::default() };
        let device = cpu(&measured);
        assert_eq!(device.product_f32.value, 199e9);
        assert_eq!(device.vector.value, 99.5e9);
        assert_eq!(device.bandwidth.value, 21e9);
        assert!(device.product_f32.source.starts_with("measured"));
    }

    #[test]
    fn defaults_follow_from_features() {
        let facts = CpuFacts::default();
        let (narrow, wide) = (cpu(&facts), cpu(&CpuFacts { avx512: true, ..facts }));
        assert_eq!(narrow.product_f32.value, 2.0 * 8.0 * 2.0 * 2.0 * 2.6e9);
        assert_eq!(wide.product_f32.value, 2.0 * narrow.product_f32.value);
    }
}
