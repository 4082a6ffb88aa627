//! What a program costs on a machine: targets, kernel times, and the simulation of plans.
//!
//! - [`target`]: devices and clusters as data, each figure with its source.
//! - [`work`]: what a kernel does (products, vector operations, bytes), read off its tile program.
//! - [`time`]: how long that takes on a device: a roofline with tile and wave quantisation.
//! - [`collective`]: how long ranks take to exchange bytes.
//! - [`schedule`] and [`simulate`]: streams, events and loops, and when everything ends.
//! - [`trace`]: a simulated step for Perfetto.
//!
//! Everything is a pure function of its arguments. **Invariant:** depends on `ir` alone; reads no
//! clock, no file and no device.

pub mod collective;
pub mod schedule;
pub mod simulate;
mod skip;
pub mod target;
pub mod time;
pub mod trace;
pub mod work;
