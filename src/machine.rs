//! What is known of the machine in hand.

use gigac_cost::target::CpuFacts;
use gigac_runtime::exec::peak::{self, Vectors};
use gigac_runtime::exec::pool::Pool;
use gigac_runtime::exec::{bandwidth, memory};

use crate::failure::Failure;

/// Its CPU, without measuring anything.
pub fn facts(threads: Option<u32>) -> CpuFacts {
    let all = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    CpuFacts {
        threads: threads.unwrap_or_else(all),
        avx512: gigac_ir::image::missing_features(gigac_ir::image::X86_64_V4).is_empty(),
        memory: memory::total(),
        ..CpuFacts::default()
    }
}

/// Its CPU, with the rates of arithmetic and memory measured: about a quarter of a second.
///
/// # Errors
/// When threads cannot be started.
pub fn measured(threads: Option<u32>) -> Result<CpuFacts, Failure> {
    let facts = facts(threads);
    let mut pool = Pool::new(facts.threads as usize, 0)
        .map_err(|e| Failure::Machine(format!("cannot start threads: {e}")))?;
    let (peak, bandwidth) =
        (peak::measure(&mut pool, Vectors::host()), bandwidth::measure(&mut pool));
    Ok(CpuFacts { peak: Some(peak), bandwidth: Some(bandwidth), ..facts })
}

/// Bytes that an arena may have here, where the system says how much memory there is.
pub fn arena_limit() -> Option<u64> {
    let facts = facts(None);
    facts.memory.map(|_| gigac_cost::target::cpu(&facts).arena_limit())
}
