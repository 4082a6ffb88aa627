//! How long a group of ranks takes to exchange bytes.
//!
//! **Ring**: `W` ranks, each sends its piece to the next, `W − 1` times (twice that for an
//! all-reduce: a reduce-scatter, then an all-gather). A rank sends `bytes·(W − 1)/W` in all, at
//! the bandwidth of the slowest link on the ring; a hop costs the latency of its link, and one hop
//! per node crosses nodes. **Tree** (all-reduce only): up and down a binary tree over nodes and a
//! chain within each; every byte passes twice, at nine tenths of the bandwidth.
//!
//! Each collective takes the fastest algorithm and protocol. Sources: R. Thakur, R. Rabenseifner,
//! W. Gropp, "Optimization of Collective Communication Operations in MPICH", IJHPCA 19(1), 2005;
//! the latency terms are those of NCCL's `ncclTopoTuneModel`.

use crate::target::{Cluster, Protocol};

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collective {
    /// Every rank gets the pieces of all.
    AllGather,
    /// Every rank gets its piece of the sum.
    ReduceScatter,
    /// Every rank gets the sum.
    AllReduce,
}

/// The ranks that take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Ranks on each node.
    pub devices: u64,
    /// Nodes.
    pub nodes: u64,
}

impl Group {
    /// All ranks of a cluster.
    pub fn all(cluster: &Cluster) -> Self {
        Self { devices: cluster.devices, nodes: cluster.nodes }
    }

    /// Number of ranks.
    pub fn ranks(self) -> u64 {
        self.devices * self.nodes
    }
}

/// Share of the bandwidth that trees reach.
const TREE_SHARE: f64 = 0.9;

/// Seconds of a collective over `bytes` bytes: the whole tensor, not a rank's piece.
pub fn seconds(collective: Collective, bytes: f64, group: Group, cluster: &Cluster) -> f64 {
    if group.ranks() <= 1 {
        return 0.0;
    }
    let times = cluster.protocols.iter().flat_map(|protocol| {
        let ring = ring(collective, bytes, group, cluster, protocol);
        let tree =
            (collective == Collective::AllReduce).then(|| tree(bytes, group, cluster, protocol));
        [Some(ring), tree]
    });
    times.flatten().min_by(f64::total_cmp).expect("a cluster has a protocol")
}

fn ring(
    collective: Collective,
    bytes: f64,
    group: Group,
    cluster: &Cluster,
    protocol: &Protocol,
) -> f64 {
    let passes = if collective == Collective::AllReduce { 2.0 } else { 1.0 };
    let (ranks, nodes) = (group.ranks() as f64, group.nodes as f64);
    let (hops, crossings) = (passes * (ranks - 1.0), passes * (nodes - 1.0));
    let latency = (hops - crossings) * protocol.inside + crossings * protocol.between;
    protocol.base + latency + bytes * hops / ranks / bandwidth(group, cluster) / protocol.share
}

fn tree(bytes: f64, group: Group, cluster: &Cluster, protocol: &Protocol) -> f64 {
    let (chain, levels) = (group.devices as f64 - 1.0, (group.nodes as f64).log2().ceil());
    let latency = 2.0 * (chain * protocol.inside + levels * protocol.between);
    let bandwidth = TREE_SHARE * bandwidth(group, cluster) * protocol.share;
    protocol.base + latency + 2.0 * bytes / bandwidth
}

/// Bytes per second past every point of the ring. The rings of all devices of a node leave it
/// through all its adapters together.
fn bandwidth(group: Group, cluster: &Cluster) -> f64 {
    if group.nodes == 1 {
        cluster.inside.value
    } else {
        // A group of fewer devices a node uses as large a share of the adapters.
        let share = group.devices as f64 / cluster.devices as f64;
        let between = cluster.between.value * share;
        if group.devices == 1 { between } else { cluster.inside.value.min(between) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simple(nodes: u64) -> Cluster {
        let mut cluster = Cluster::named("a100x128").unwrap();
        cluster.nodes = nodes;
        cluster.protocols.retain(|p| p.name == "Simple");
        cluster
    }

    #[test]
    fn by_hand() {
        let (one, many) = (simple(1), simple(16));
        let node = Group::all(&one);
        // 8.4 us + 7 hops of 3.4 us + 7/8 of 1 GB at 235 GB/s.
        let gather = seconds(Collective::AllGather, 1e9, node, &one);
        assert!((gather - (8.4e-6 + 7.0 * 3.4e-6 + 0.875e9 / 235e9)).abs() < 1e-12);
        assert_eq!(gather, seconds(Collective::ReduceScatter, 1e9, node, &one));
        // 128 ranks: 112 hops inside nodes and 15 between, at 91 GB/s.
        let all = Group::all(&many);
        let expected = 8.4e-6 + 112.0 * 3.4e-6 + 15.0 * 9.6e-6 + 1e9 * 127.0 / 128.0 / 91e9;
        assert!((seconds(Collective::AllGather, 1e9, all, &many) - expected).abs() < 1e-12);
        assert_eq!(seconds(Collective::AllReduce, 1e9, Group { devices: 1, nodes: 1 }, &one), 0.0);
    }

    #[test]
    fn trees_win_small_and_rings_large() {
        let cluster = simple(16);
        let all = Group::all(&cluster);
        let protocol = &cluster.protocols[0];
        let (small, large) = (1e3, 10e9);
        assert!(
            tree(small, all, &cluster, protocol)
                < ring(Collective::AllReduce, small, all, &cluster, protocol)
        );
        assert!(
            tree(large, all, &cluster, protocol)
                > ring(Collective::AllReduce, large, all, &cluster, protocol)
        );
    }

    #[test]
    fn more_bytes_take_longer_and_protocols_only_help() {
        let (full, one) = (Cluster::named("h100x128").unwrap(), Cluster::named("h100x8").unwrap());
        for cluster in [&full, &one] {
            let mut last = 0.0;
            for power in 0..36 {
                let bytes = f64::from(2_u32).powi(power);
                let now = seconds(Collective::AllReduce, bytes, Group::all(cluster), cluster);
                assert!(now >= last && now > 0.0);
                last = now;
            }
        }
    }
}
