//! The report as one JSON object.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Report, word};

/// The whole report. `kernels` and `launches` are counts; `kernel_times` is the table.
pub fn json(report: &Report) -> Value {
    let (memory, step) = (&report.memory, &report.step);
    let categories: BTreeMap<String, u64> =
        memory.rows.iter().map(|(category, bytes)| (word(*category), *bytes)).collect();
    let live = memory.peak.live.iter().map(|live| {
        json!({
            "name": live.name,
            "category": word(live.category),
            "bytes": live.bytes,
            "line": live.line.as_ref().map(ToString::to_string),
        })
    });
    let kernels = report.kernels.iter().map(|row| {
        json!({
            "name": row.name,
            "origin": row.origin,
            "line": row.line.as_ref().map(ToString::to_string),
            "launches": row.launches,
            "seconds": row.seconds,
            "bound": row.time.bound.name(),
        })
    });
    let streams = report.schedule.streams.iter().zip(&report.simulation.busy);
    let bounds: BTreeMap<&str, f64> = report.bounds.iter().map(|(b, s)| (b.name(), *s)).collect();
    json!({
        "model": report.model,
        "target": report.device.name,
        "device": report.device.title,
        "cluster": report.cluster,
        "arena_bytes": memory.arena,
        "live_bytes": memory.live,
        "arena_limit": memory.limit,
        "host_bytes": memory.host,
        "checkpoint": memory.checkpoint,
        "categories": categories,
        "peak": {
            "position": memory.peak.position,
            "last": memory.peak.last,
            "what": memory.peak.what,
            "live": live.collect::<Vec<_>>(),
        },
        "kernels": report.kernels.len(),
        "launches": step.launches,
        "step_s": step.seconds,
        "tokens_per_step": step.tokens,
        "tokens_per_s": step.tokens as f64 / step.seconds,
        "mfu": step.utilisation(),
        "peak_flops": step.peak.value,
        "precision": step.precision,
        "host_dependences": report.host.as_ref().err().cloned().unwrap_or_default(),
        "bounds_s": bounds,
        "streams_s": streams
            .map(|(name, busy)| (name.clone(), gigac_cost::schedule::seconds(*busy)))
            .collect::<BTreeMap<_, _>>(),
        "kernel_times": kernels.collect::<Vec<_>>(),
    })
}
