//! The report as text.

use std::fmt::Write;

use super::{KernelRow, Live, Memory, Report, Step, mib, word};

/// Rows of the tables of kernels and of live buffers.
const ROWS: usize = 12;

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} on {}\n", report.model, report.device.title);
    memory(&mut text, &report.memory);
    host(&mut text, report);
    step(&mut text, report);
    kernels(&mut text, &report.kernels, report.step.seconds);
    text
}

fn memory(text: &mut String, memory: &Memory) {
    let _ = writeln!(text, "memory where most is live");
    for (category, bytes) in &memory.rows {
        let _ = writeln!(text, "  {:<12} {:>12.2} MiB", word(*category), mib(*bytes));
    }
    let fits = match memory.arena > memory.limit {
        true => format!(", more than the {:.2} MiB that it may have", mib(memory.limit)),
        false => String::new(),
    };
    let (arena, live) = (mib(memory.arena), mib(memory.live));
    let _ = writeln!(text, "  arena        {arena:>12.2} MiB (lower bound {live:.2} MiB){fits}");
    if memory.host > 0 {
        let _ =
            writeln!(text, "  offloaded    {:>12.2} MiB of the host's memory", mib(memory.host));
    }
    if let Some(note) = &memory.checkpoint {
        let _ = writeln!(text, "  checkpoint   {note}");
    }
    let peak = &memory.peak;
    let _ = writeln!(text, "  peak at position {} of {}: {}", peak.position, peak.last, peak.what);
    for Live { name, category, bytes, line } in peak.live.iter().take(ROWS) {
        let (mib, word) = (mib(*bytes), word(*category));
        let line = line.as_ref().map_or_else(String::new, ToString::to_string);
        let row = format!("    {mib:>12.2} MiB {word:<10} {name:<20} {line}");
        let _ = writeln!(text, "{}", row.trim_end());
    }
    if let Some(rest) = peak.live.get(ROWS..).filter(|rest| !rest.is_empty()) {
        let bytes = rest.iter().map(|live| live.bytes).sum();
        let _ = writeln!(text, "    {:>12.2} MiB in {} more buffers", mib(bytes), rest.len());
    }
}

fn host(text: &mut String, report: &Report) {
    match &report.host {
        Ok(certificate) => {
            let _ = writeln!(text, "\nhost\n  {certificate}");
        }
        Err(found) => {
            let _ = writeln!(text, "\nhost: the step depends on it");
            found.iter().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            });
        }
    }
}

fn step(text: &mut String, report: &Report) {
    let Step { seconds, tokens, flops, peak, precision, launches } = &report.step;
    let _ = writeln!(text, "\nsimulated step");
    let rate = *tokens as f64 / seconds;
    let _ = writeln!(text, "  time         {seconds:>12.6} s, {tokens} tokens, {rate:.0} tokens/s");
    let _ = writeln!(
        text,
        "  utilisation  {:>12.1} % ({:.1} model GFLOP of {:.1} GFLOP/s: products of this plan are {precision})",
        100.0 * report.step.utilisation(),
        flops / 1e9,
        peak.value / 1e9,
    );
    let _ = writeln!(text, "  launches     {launches:>12} of {} kernels", report.kernels.len());
    let busy: f64 = report.bounds.iter().map(|(_, seconds)| seconds).sum();
    let parts = report.bounds.iter().map(|(bound, seconds)| {
        format!("{} {:.1} %", bound.name(), 100.0 * seconds / busy.max(f64::MIN_POSITIVE))
    });
    let _ = writeln!(text, "  waits for    {}", parts.collect::<Vec<_>>().join(", "));
    let _ = writeln!(
        text,
        "  one device computes the whole step: nothing is sharded; peak: {}",
        peak.source
    );
    if let Some(cluster) = &report.cluster {
        let _ = writeln!(text, "  {cluster}");
    }
}

fn kernels(text: &mut String, rows: &[KernelRow], all: f64) {
    let _ = writeln!(text, "\n     seconds  share  launches  waits for  kernel");
    for row in rows.iter().take(ROWS) {
        let line = row.line.as_ref().map_or_else(String::new, ToString::to_string);
        let line = format!(
            "  {:>10.6} {:>5.1}% {:>9}  {:<9}  {:<32}  {line}",
            row.seconds,
            100.0 * row.seconds / all.max(f64::MIN_POSITIVE),
            row.launches,
            row.time.bound.name(),
            format!("{} ({})", row.name, row.origin),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(rest) = rows.get(ROWS..).filter(|rest| !rest.is_empty()) {
        let seconds: f64 = rest.iter().map(|r| r.seconds).sum();
        let launches: u64 = rest.iter().map(|r| r.launches).sum();
        let share = 100.0 * seconds / all.max(f64::MIN_POSITIVE);
        let _ = writeln!(
            text,
            "  {seconds:>10.6} {share:>5.1}% {launches:>9}             {} more kernels",
            rest.len()
        );
    }
}
