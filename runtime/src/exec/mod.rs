//! Memory, threads and code: what it takes to run a plan on the CPU.

pub mod allocations;
pub mod arena;
pub mod bandwidth;
mod checked;
pub mod code;
pub mod executor;
pub mod memory;
pub mod peak;
pub mod pool;
pub mod profile;
