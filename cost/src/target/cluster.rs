//! A cluster: nodes of equal devices, and how collectives move bytes between them.

use serde::{Deserialize, Serialize};

use super::device::Device;
use super::{Figure, TargetError, parse, positive};

/// The clusters that need no file.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("a100x8", include_str!("../../targets/a100x8.toml")),
    ("a100x128", include_str!("../../targets/a100x128.toml")),
    ("h100x8", include_str!("../../targets/h100x8.toml")),
    ("h100x128", include_str!("../../targets/h100x128.toml")),
];

const NCCL: &str = include_str!("../../targets/nccl.toml");

/// A way to move the bytes of a collective: it trades latency for bandwidth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// Seconds before anything moves.
    pub base: f64,
    /// Seconds of a hop inside a node.
    pub inside: f64,
    /// Seconds of a hop between nodes.
    pub between: f64,
    /// Share of the links' bandwidth that is left for data.
    pub share: f64,
}

/// Nodes of equal devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Name on the command line.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The device.
    pub device: Device,
    /// Number of nodes.
    pub nodes: u64,
    /// Devices of a node.
    pub devices: u64,
    /// Bytes per second that one device sends to others of its node.
    pub inside: Figure,
    /// Bytes per second that one node sends to others, all adapters together.
    pub between: Figure,
    /// The ways to move data; each collective takes the fastest.
    pub protocols: Vec<Protocol>,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    name: String,
    title: String,
    device: String,
    nodes: u64,
    devices: u64,
    inside: Figure,
    between: Figure,
    protocol: Option<Vec<Protocol>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProtocolFile {
    #[serde(rename = "source")]
    _source: String,
    protocol: Vec<Protocol>,
}

impl Cluster {
    /// Reads a cluster; its device is a built-in one, its protocols are NCCL's unless it lists
    /// others.
    ///
    /// # Errors
    /// Text that is no cluster, an unknown device, and figures that make no sense.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let file: ClusterFile = parse(text)?;
        let protocols = match file.protocol {
            Some(protocols) => protocols,
            None => parse::<ProtocolFile>(NCCL)?.protocol,
        };
        positive("nodes", file.nodes as f64)?;
        positive("devices", file.devices as f64)?;
        positive("inside", file.inside.value)?;
        positive("between", file.between.value)?;
        positive("number of protocols", protocols.len() as f64)?;
        for protocol in &protocols {
            positive("share", protocol.share)?;
            for value in [protocol.base, protocol.inside, protocol.between] {
                if !(value.is_finite() && value >= 0.0) {
                    let must = "a number of seconds";
                    return Err(TargetError::Figure { figure: "protocol", value, must });
                }
            }
        }
        Ok(Self {
            name: file.name,
            title: file.title,
            device: Device::named(&file.device)?,
            nodes: file.nodes,
            devices: file.devices,
            inside: file.inside,
            between: file.between,
            protocols,
        })
    }

    /// A built-in cluster.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] for other names.
    pub fn named(name: &str) -> Result<Self, TargetError> {
        let found = BUILT_IN.iter().find(|(n, _)| *n == name);
        let (_, text) = found.ok_or_else(|| TargetError::Unknown(name.to_owned()))?;
        Self::parse(text)
    }

    /// Number of devices.
    pub fn ranks(&self) -> u64 {
        self.nodes * self.devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_clusters_are_well_formed() {
        for (name, text) in BUILT_IN {
            let cluster = Cluster::parse(text).unwrap();
            assert_eq!(cluster.name, *name);
            assert!(cluster.name.ends_with(&format!("x{}", cluster.ranks())));
        }
    }

    #[test]
    fn an_unknown_device_is_named() {
        let text = BUILT_IN[0].1.replace("\"a100\"", "\"b300\"");
        assert!(Cluster::parse(&text).unwrap_err().to_string().contains("b300"));
    }
}
