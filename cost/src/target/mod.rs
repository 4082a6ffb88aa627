//! Targets as data: devices, clusters of devices, and the CPU in hand.
//!
//! A device or cluster is a TOML file in which every figure says where it comes from; those in
//! `targets/` are built in, and `--cluster FILE` reads others of the same form. Units are bytes,
//! seconds and floating-point operations (a multiply-add is two).

mod cluster;
mod cpu;
mod device;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use cluster::{Cluster, Protocol};
pub use cpu::{CpuFacts, cpu};
pub use device::{Device, Kind, Tiles};

/// A number with its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Where it comes from: a datasheet, a publication, a measurement, or `estimate: …`.
    pub source: String,
}

impl Figure {
    /// A figure.
    pub fn new(value: f64, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// Why a target is not usable.
#[derive(Clone, Debug, Error)]
pub enum TargetError {
    /// The text is not TOML of the right form.
    #[error("{0}")]
    Syntax(String),
    /// A figure makes no sense.
    #[error("`{figure}` is {value}: it must be {must}")]
    Figure {
        /// Its name.
        figure: &'static str,
        /// What was given.
        value: f64,
        /// What it has to be.
        must: &'static str,
    },
    /// A name that is neither built in nor a file's.
    #[error("no target is called `{0}`; there are {known}", known = names().join(", "))]
    Unknown(String),
}

/// Names of the built-in devices and clusters.
pub fn names() -> Vec<&'static str> {
    device::BUILT_IN.iter().chain(cluster::BUILT_IN).map(|(name, _)| *name).collect()
}

/// Checks that a figure is a finite number above zero.
fn positive(figure: &'static str, value: f64) -> Result<(), TargetError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(TargetError::Figure { figure, value, must: "a number above 0" })
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TargetError> {
    toml::from_str(text).map_err(|e| TargetError::Syntax(e.to_string()))
}
