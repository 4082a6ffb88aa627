//! Runs a decoded program: blocks over host threads, warps under a schedule, lanes in step.

mod access;
mod atomic;
mod bulk;
mod call;
mod collective;
mod copy;
pub(crate) mod engine;
pub(crate) mod matrix;
mod mbarrier;
mod ordering;
mod report;
mod step;
mod sync;
pub(crate) mod tensormap;
mod tiles;
mod transfer;
mod undefined;
mod unit;
mod warp;
pub(crate) mod wgmma;

pub(crate) use access::resolve;
pub(crate) use engine::Engine;
