//! What rematerialisation chose, beside other rules: as text, JSON and a plot.

use std::fmt::Write;

use gigac_passes::checkpoint::{Activation, Comparison, Outcome, Point};
use serde_json::{Value, json};

use super::mib;

/// The tables.
pub fn text(title: &str, comparison: &Comparison) -> String {
    let mut text = format!("{title}\n\n");
    if comparison.activations.is_empty() {
        return text + "no loop keeps anything that could be computed again\n";
    }
    let offloading = !comparison.offloading.is_empty();
    let _ = writeln!(text, "what a layer keeps for the way back");
    let copy = if offloading { "  ms to copy" } else { "" };
    let _ = writeln!(text, "   MiB a layer  layers   ms to compute  ms per GiB{copy}");
    for Activation { name, layers, bytes, seconds, copy } in &comparison.activations {
        let copy = match offloading {
            true => format!("  {:>10.4}", 1e3 * copy),
            false => String::new(),
        };
        let _ = write!(text, "  {:>12.3} {layers:>7}", mib(*bytes));
        let _ = match seconds {
            Some(seconds) => {
                let ms = 1e3 * seconds;
                let rate = ms / (*bytes as f64 / f64::from(1 << 30));
                writeln!(text, "  {ms:>14.4}  {rate:>10.2}{copy}  {name}")
            }
            None => writeln!(text, "  {:>14}  {:>10}{copy}  {name}", "always kept", ""),
        };
    }
    let _ = writeln!(text, "\nrules");
    let _ = writeln!(
        text,
        "    stacks MiB     arena MiB        step s       added s     gap  rule (layers × stacks kept)"
    );
    for outcome in &comparison.outcomes {
        let _ = writeln!(
            text,
            "  {:>12.2}  {:>12.2}  {:>12.6}  {:>12.6}  {:>6}  {} ({})",
            mib(outcome.stacks),
            mib(outcome.arena),
            outcome.step,
            outcome.added,
            percent(gap(outcome.added, outcome.bound)),
            outcome.name,
            parts(outcome),
        );
    }
    let _ = writeln!(text, "\nthe best for every number of bytes");
    let more = if offloading { "  offloading adds     gap" } else { "" };
    let _ = writeln!(
        text,
        "    within MiB    stacks MiB       added s         bound     gap  greedy adds{more}"
    );
    for Point { budget, stacks, added, bound } in &comparison.frontier {
        // What the greedy rule reaches within the same bytes.
        let greedy = comparison.greedy.iter().filter(|(b, _)| b <= budget).map(|(_, s)| *s);
        let greedy = greedy.min_by(f64::total_cmp);
        let greedy = greedy.map_or("-".to_owned(), |seconds| format!("{seconds:.6}"));
        let also = comparison.offloading.iter().find(|point| point.budget == *budget);
        let also = also.map_or(String::new(), |point| {
            let gap = percent(gap(point.added, Some(point.bound)));
            let space = 11_usize.saturating_sub(greedy.len());
            format!("{:space$}  {:>15.6}  {gap:>6}", "", point.added)
        });
        let _ = writeln!(
            text,
            "  {:>12.2}  {:>12.2}  {added:>12.6}  {bound:>12.6}  {:>6}  {greedy}{also}",
            mib(*budget),
            mib(*stacks),
            percent(gap(*added, Some(*bound))),
        );
    }
    text
}

/// How much of what is added is above the bound.
fn gap(added: f64, bound: Option<f64>) -> Option<f64> {
    bound.filter(|_| added > 0.0).map(|bound| 1.0 - bound / added)
}

fn percent(part: Option<f64>) -> String {
    part.map_or("-".to_owned(), |part| format!("{:.2}%", 100.0 * part.max(0.0)))
}

/// `27×3 + 27×9`; `27×3 and 6 on the host`.
fn parts(outcome: &Outcome) -> String {
    let part = |(layers, kept, host): &(u64, usize, usize)| match host {
        0 => format!("{layers}×{kept}"),
        _ => format!("{layers}×{kept} and {host} on the host"),
    };
    let one =
        |parts: &Vec<(u64, usize, usize)>| parts.iter().map(part).collect::<Vec<_>>().join(" + ");
    outcome.parts.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One object with everything.
pub fn json(comparison: &Comparison) -> Value {
    let activations = comparison.activations.iter().map(
        |a| json!({"name": a.name, "layers": a.layers, "bytes": a.bytes, "seconds": a.seconds, "copy_s": a.copy}),
    );
    let outcomes = comparison.outcomes.iter().map(|o| {
        json!({
            "rule": o.name,
            "stack_bytes": o.stacks,
            "host_bytes": o.host,
            "arena_bytes": o.arena,
            "step_s": o.step,
            "added_s": o.added,
            "bound_s": o.bound,
            "parts": o.parts,
        })
    });
    let point = |p: &Point| json!({"budget": p.budget, "stack_bytes": p.stacks, "added_s": p.added, "bound_s": p.bound});
    let points = |list: &[Point]| list.iter().map(point).collect::<Vec<_>>();
    json!({
        "activations": activations.collect::<Vec<_>>(),
        "outcomes": outcomes.collect::<Vec<_>>(),
        "frontier": points(&comparison.frontier),
        "offloading": points(&comparison.offloading),
        "greedy": comparison.greedy,
    })
}

/// Width, height and margin of the plot.
const SIZE: (f64, f64, f64) = (720.0, 420.0, 60.0);

/// Seconds added against bytes kept: the frontiers, the greedy rule, and the fixed rules as points.
pub fn svg(comparison: &Comparison) -> String {
    let (width, height, margin) = SIZE;
    let outcomes = comparison.outcomes.iter().map(|o| (o.stacks, o.added));
    let frontier = comparison.frontier.iter().map(|p| (p.stacks, p.added));
    let offloading = comparison.offloading.iter().map(|p| (p.stacks, p.added));
    let all: Vec<(u64, f64)> = outcomes.chain(frontier.clone()).collect();
    let right = all.iter().map(|(b, _)| *b).max().unwrap_or(1).max(1) as f64;
    let top = all.iter().map(|(_, s)| *s).fold(f64::MIN_POSITIVE, f64::max);
    let x = |bytes: u64| margin + bytes as f64 / right * (width - 2.0 * margin);
    let y = |seconds: f64| height - margin - seconds.max(0.0) / top * (height - 2.0 * margin);
    let line = |points: &mut dyn Iterator<Item = (u64, f64)>| {
        let points = points.map(|(b, s)| format!("{:.1},{:.1}", x(b), y(s)));
        points.collect::<Vec<_>>().join(" ")
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let (left, base, end) = (margin, height - margin, width - margin);
    let _ =
        writeln!(svg, "<path d=\"M{left} {margin}V{base}H{end}\" fill=\"none\" stroke=\"#888\"/>");
    for (label, colour, points) in [
        ("greedy by seconds per byte", "#ee6677", line(&mut comparison.greedy.iter().copied())),
        ("ours", "#4477aa", line(&mut frontier.clone())),
        ("ours, offloading", "#228833", line(&mut offloading.clone())),
    ] {
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"><title>{label}</title></polyline>"
        );
    }
    let mut labels: Vec<(f64, f64)> = Vec::new();
    for outcome in &comparison.outcomes {
        let (cx, cy) = (x(outcome.stacks), y(outcome.added));
        let (anchor, dx) = if cx > width / 2.0 { ("end", -7.0) } else { ("start", 7.0) };
        let mut at = cy - 6.0;
        // Labels of neighbours stand above each other.
        while labels.iter().any(|(lx, ly)| (lx - cx).abs() < 160.0 && (ly - at).abs() < 14.0) {
            at -= 14.0;
        }
        labels.push((cx, at));
        let _ = writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"#222\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            cx + dx,
            at,
            outcome.name
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{:.1}\">seconds added, up to {top:.4}</text>",
        margin - 12.0
    );
    let _ = writeln!(
        svg,
        "<text x=\"{end}\" y=\"{:.1}\" text-anchor=\"end\">MiB kept in stacks, up to {:.0}</text>",
        base + 24.0,
        mib(right as u64)
    );
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{:.1}\">0</text>", base + 24.0);
    svg + "</svg>\n"
}
