//! One device: what it can compute and move in a second.

use gigac_ir::kernel::Machine;
use serde::{Deserialize, Serialize};

use super::{Figure, TargetError, parse, positive};

/// The devices that need no file.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("a100", include_str!("../../targets/a100.toml")),
    ("h100", include_str!("../../targets/h100.toml")),
];

/// What kind of machine runs the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Threads that take ranges of grid points; loads and arithmetic share a core's time.
    Cpu,
    /// Multiprocessors that take blocks; loads run beside arithmetic.
    Gpu,
}

/// Blocks of a product's result that one grid point may compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    /// Rows and columns.
    pub value: Vec<[u64; 2]>,
    /// Where the list comes from.
    pub source: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Name on the command line.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// CPU or GPU.
    pub kind: Kind,
    /// Multiprocessors, or threads.
    pub units: Figure,
    /// Bytes of memory.
    pub memory: Figure,
    /// Bytes of it that a program's arena cannot have.
    pub reserve: Figure,
    /// Operations per second of products of f32.
    pub product_f32: Figure,
    /// Operations per second of products of bf16, accumulated in f32.
    pub product_bf16: Figure,
    /// Share of these rates that large products reach.
    pub product_share: Figure,
    /// Operations per second of everything that is no product, in f32.
    pub vector: Figure,
    /// Bytes per second from and to memory.
    pub bandwidth: Figure,
    /// Share of it that streaming kernels reach.
    pub bandwidth_share: Figure,
    /// Bytes of the last cache that all units share.
    pub cache: Figure,
    /// Bytes per second out of that cache.
    pub cache_bandwidth: Figure,
    /// Bytes per second that one unit can load (on CPUs: copy into packed panels).
    pub unit_bandwidth: Figure,
    /// Bytes per second between the device's memory and the host's, one way.
    pub host_bandwidth: Figure,
    /// Seconds that every launch and every copy takes besides its work.
    pub launch: Figure,
    /// Tiles that products may have; without it a product keeps the tile of its kernel.
    pub tiles: Option<Tiles>,
}

impl Device {
    /// Reads a device.
    ///
    /// # Errors
    /// Text that is no device, and figures that make no sense.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let device: Self = parse(text)?;
        device.check()?;
        Ok(device)
    }

    /// A built-in device.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] for other names.
    pub fn named(name: &str) -> Result<Self, TargetError> {
        let found = BUILT_IN.iter().find(|(n, _)| *n == name);
        let (_, text) = found.ok_or_else(|| TargetError::Unknown(name.to_owned()))?;
        Self::parse(text)
    }

    /// What tiles are chosen for.
    pub fn machine(&self) -> Machine {
        match self.kind {
            Kind::Cpu => Machine::Cpu,
            Kind::Gpu => Machine::Gpu { units: self.units.value as u64 },
        }
    }

    /// Whether copies to the host and back run beside kernels: GPUs have engines for that, a CPU
    /// copies with the threads that compute.
    pub fn copies_beside(&self) -> bool {
        self.kind == Kind::Gpu
    }

    /// Bytes of parameters that one launch may have: what CUDA guarantees on all GPUs (CUDA C++ Programming Guide,
    /// "Function Parameters"); a CPU passes any number.
    pub fn launch_parameters(&self) -> Option<u64> {
        match self.kind {
            Kind::Gpu => Some(4096),
            Kind::Cpu => None,
        }
    }

    /// Bytes that an arena may have.
    pub fn arena_limit(&self) -> u64 {
        (self.memory.value - self.reserve.value).max(0.0) as u64
    }

    /// All figures with their names, for tables.
    pub fn figures(&self) -> [(&'static str, &Figure); 14] {
        [
            ("units", &self.units),
            ("memory", &self.memory),
            ("reserve", &self.reserve),
            ("product_f32", &self.product_f32),
            ("product_bf16", &self.product_bf16),
            ("product_share", &self.product_share),
            ("vector", &self.vector),
            ("bandwidth", &self.bandwidth),
            ("bandwidth_share", &self.bandwidth_share),
            ("cache", &self.cache),
            ("cache_bandwidth", &self.cache_bandwidth),
            ("unit_bandwidth", &self.unit_bandwidth),
            ("host_bandwidth", &self.host_bandwidth),
            ("launch", &self.launch),
        ]
    }

    fn check(&self) -> Result<(), TargetError> {
        for (name, figure) in self.figures() {
            // What a launch and the rest of the system take may be nothing.
            if matches!(name, "launch" | "reserve") && figure.value == 0.0 {
                continue;
            }
            positive(name, figure.value)?;
        }
        for (name, figure) in
            [("product_share", &self.product_share), ("bandwidth_share", &self.bandwidth_share)]
        {
            if figure.value > 1.0 {
                let value = figure.value;
                return Err(TargetError::Figure { figure: name, value, must: "at most 1" });
            }
        }
        let tiles = self.tiles.iter().flat_map(|t| t.value.iter().flatten());
        if tiles.clone().any(|side| *side == 0) || self.tiles.is_some() && tiles.count() == 0 {
            let must = "a list of pairs above 0";
            return Err(TargetError::Figure { figure: "tiles", value: 0.0, must });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_devices_are_well_formed() {
        for (name, text) in BUILT_IN {
            let device = Device::parse(text).unwrap();
            assert_eq!(device.name, *name);
            assert!(device.figures().iter().all(|(_, f)| !f.source.is_empty()), "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let text = BUILT_IN[0].1;
        let zero = text.replace("value  = 2039e9", "value  = 0.0");
        assert_eq!(
            Device::parse(&zero).unwrap_err().to_string(),
            "`bandwidth` is 0: it must be a number above 0"
        );
        let share = text.replace("value  = 0.869", "value  = 1.2");
        assert!(Device::parse(&share).unwrap_err().to_string().contains("at most 1"));
        let unknown = text.replace("[launch]", "[lunch]");
        assert!(Device::parse(&unknown).unwrap_err().to_string().contains("lunch"));
        assert!(Device::named("a101").unwrap_err().to_string().contains("a100"));
    }
}
