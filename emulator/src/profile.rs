//! What was executed: counts per instruction, and what they say about the kernel.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::program::Program;
use crate::types::Space;

/// Counts of one instruction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// Times a warp executed it.
    pub(crate) warps: u64,
    /// Sum of active lanes.
    pub(crate) lanes: u64,
    pub(crate) global_requests: u64,
    /// 32-byte sectors.
    pub(crate) sectors: u64,
    pub(crate) bytes: u64,
    pub(crate) shared_requests: u64,
    /// Passes over shared memory; more than the fewest possible are conflicts.
    pub(crate) passes: u64,
    pub(crate) conflicts: u64,
    pub(crate) multiply_adds: u64,
}

/// Counts of a launch, by program counter.
#[derive(Debug, Clone)]
pub(crate) struct Counts(pub(crate) Vec<Count>);

impl Counts {
    pub(crate) fn new(instructions: usize) -> Self {
        Counts(vec![Count::default(); instructions])
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            a.warps += b.warps;
            a.lanes += b.lanes;
            a.global_requests += b.global_requests;
            a.sectors += b.sectors;
            a.bytes += b.bytes;
            a.shared_requests += b.shared_requests;
            a.passes += b.passes;
            a.conflicts += b.conflicts;
            a.multiply_adds += b.multiply_adds;
        }
    }

    #[inline]
    pub(crate) fn executed(&mut self, pc: u32, active: u32) {
        let count = &mut self.0[pc as usize];
        count.warps += 1;
        count.lanes += u64::from(active.count_ones());
    }

    pub(crate) fn tensor(&mut self, pc: u32, multiply_adds: u32) {
        self.0[pc as usize].multiply_adds += u64::from(multiply_adds);
    }

    /// One memory request of a warp.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn accessed(
        &mut self,
        pc: u32,
        on: bool,
        space: Space,
        addresses: &[u64; 32],
        mask: u32,
        bytes: usize,
        _store: bool,
    ) {
        if !on || mask == 0 {
            return;
        }
        let space = match space {
            Space::Generic => crate::exec::resolve(addresses[mask.trailing_zeros() as usize]).0,
            other => other,
        };
        let count = &mut self.0[pc as usize];
        count.bytes += u64::from(mask.count_ones()) * bytes as u64;
        match space {
            Space::Global => {
                count.global_requests += 1;
                count.sectors += sectors(addresses, mask, bytes);
            }
            Space::Shared => {
                let (passes, fewest) = passes(addresses, mask, bytes);
                count.shared_requests += 1;
                count.passes += passes;
                count.conflicts += passes - fewest;
            }
            _ => {}
        }
    }
}

/// Distinct 32-byte sectors of a request.
fn sectors(addresses: &[u64; 32], mask: u32, bytes: usize) -> u64 {
    let mut all: Vec<u64> = (0..32)
        .filter(|l| mask >> l & 1 != 0)
        .flat_map(|l: usize| addresses[l] / 32..=(addresses[l] + bytes as u64 - 1) / 32)
        .collect();
    all.sort_unstable();
    all.dedup();
    all.len() as u64
}

/// Passes of a shared request, and the fewest that its data could take: 32 banks of four bytes;
/// wide accesses go in halves or quarters of the warp.
fn passes(addresses: &[u64; 32], mask: u32, bytes: usize) -> (u64, u64) {
    let lanes_per_pass = match bytes {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let (mut total, mut fewest) = (0, 0);
    for start in (0..32).step_by(lanes_per_pass) {
        let lanes = (start..start + lanes_per_pass).filter(|l| mask >> l & 1 != 0);
        let mut words: Vec<u64> =
            lanes.flat_map(|l| addresses[l] / 4..=(addresses[l] + bytes as u64 - 1) / 4).collect();
        if words.is_empty() {
            continue;
        }
        words.sort_unstable();
        words.dedup();
        let mut banks = [0u64; 32];
        words.iter().for_each(|w| banks[(w % 32) as usize] += 1);
        total += banks.iter().copied().max().unwrap_or(0);
        fewest += (words.len() as u64).div_ceil(32);
    }
    (total, fewest)
}

/// Peak figures of a GPU, for the roofline estimate (vendor data sheets, dense, boost clock).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Name.
    pub name: &'static str,
    /// Tensor-core operations per second in 16-bit formats.
    pub tensor_flops: f64,
    /// Single-precision operations per second outside the tensor cores.
    pub flops: f64,
    /// Bytes per second of device memory.
    pub bandwidth: f64,
    /// Bytes per second of all shared memories together.
    pub shared_bandwidth: f64,
}

/// The GPUs that [`Profile::roofline`] knows by name.
pub const GPUS: &[Gpu] = &[
    Gpu {
        name: "a100",
        tensor_flops: 312e12,
        flops: 19.5e12,
        bandwidth: 2.039e12,
        shared_bandwidth: 19.5e12,
    },
    Gpu {
        name: "h100",
        tensor_flops: 989e12,
        flops: 66.9e12,
        bandwidth: 3.35e12,
        shared_bandwidth: 33.5e12,
    },
    Gpu {
        name: "h200",
        tensor_flops: 989e12,
        flops: 66.9e12,
        bandwidth: 4.8e12,
        shared_bandwidth: 33.5e12,
    },
];

/// Totals of a launch.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// Warp instructions by opcode.
    pub instructions: BTreeMap<String, u64>,
    /// Warp instructions in all.
    pub warp_instructions: u64,
    /// Thread instructions in all.
    pub thread_instructions: u64,
    /// Requests to global memory.
    pub global_requests: u64,
    /// 32-byte sectors they touched.
    pub global_sectors: u64,
    /// Bytes that lanes asked of global memory; over `32 × global_sectors` is the coalescing.
    pub global_bytes: u64,
    /// Requests to shared memory.
    pub shared_requests: u64,
    /// Passes they took.
    pub shared_transactions: u64,
    /// Passes beyond the fewest possible.
    pub bank_conflicts: u64,
    /// Bytes that lanes asked of shared memory.
    pub shared_bytes: u64,
    /// Multiply-adds in tensor cores.
    pub tensor_multiply_adds: u64,
    /// Share of matrix instructions among all warp instructions.
    pub tensor_share: f64,
}

impl Profile {
    pub(crate) fn new(program: &Program, counts: &Counts) -> Self {
        let mut p = Profile::default();
        let mut matrix = 0;
        for (inst, c) in program.code.iter().zip(&counts.0) {
            if c.warps == 0 {
                continue;
            }
            let name = &program.opcodes[inst.opcode as usize];
            *p.instructions.entry(name.clone()).or_default() += c.warps;
            p.warp_instructions += c.warps;
            p.thread_instructions += c.lanes;
            p.global_requests += c.global_requests;
            p.global_sectors += c.sectors;
            p.shared_requests += c.shared_requests;
            p.shared_transactions += c.passes;
            p.bank_conflicts += c.conflicts;
            p.tensor_multiply_adds += c.multiply_adds;
            if c.global_requests > 0 {
                p.global_bytes += c.bytes;
            }
            if c.shared_requests > 0 {
                p.shared_bytes += c.bytes;
            }
            if c.multiply_adds > 0 {
                matrix += c.warps;
            }
        }
        p.tensor_share = matrix as f64 / p.warp_instructions.max(1) as f64;
        p
    }

    /// A lower bound of the run time in seconds on `gpu`, and what it is bound by: every resource
    /// at its peak, perfectly overlapped. An estimate, never a measurement.
    pub fn roofline(&self, gpu: &Gpu) -> (f64, &'static str) {
        let arithmetic: f64 = self.thread_instructions as f64 * 2.0 / gpu.flops;
        let bounds = [
            (2.0 * self.tensor_multiply_adds as f64 / gpu.tensor_flops, "tensor cores"),
            (arithmetic, "instruction issue"),
            (32.0 * self.global_sectors as f64 / gpu.bandwidth, "global memory"),
            (128.0 * self.shared_transactions as f64 / gpu.shared_bandwidth, "shared memory"),
        ];
        bounds.into_iter().fold((0.0, "nothing"), |best, b| if b.0 > best.0 { b } else { best })
    }
}

/// The PTX text with the counts of each line in front.
pub(crate) fn annotate(program: &Program, counts: &Counts) -> String {
    let mut by_line: BTreeMap<u32, Count> = BTreeMap::new();
    for (inst, c) in program.code.iter().zip(&counts.0) {
        let line = by_line.entry(inst.line).or_default();
        let mut sum = Counts(vec![*line]);
        sum.add(&Counts(vec![*c]));
        *line = sum.0[0];
    }
    let mut out = String::from("     warps  lanes  sectors/req  conflicts | \n");
    for (i, text) in program.text.lines().enumerate() {
        let blank = || "                                           ".to_string();
        let prefix = match by_line.get(&(i as u32 + 1)) {
            Some(c) if c.warps > 0 => {
                let lanes = c.lanes as f64 / c.warps as f64;
                let per = if c.global_requests > 0 {
                    format!("{:.1}", c.sectors as f64 / c.global_requests as f64)
                } else {
                    String::new()
                };
                let conflicts =
                    if c.shared_requests > 0 { c.conflicts.to_string() } else { String::new() };
                format!("{:>10}  {lanes:>5.1}  {per:>11}  {conflicts:>9} ", c.warps)
            }
            _ => blank()[..42].to_string(),
        };
        out.push_str(&prefix);
        out.push_str("| ");
        out.push_str(text);
        out.push('\n');
    }
    out
}
