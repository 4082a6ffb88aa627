//! The report as one HTML page that needs nothing else.

use std::fmt::Write;

use gigac_cost::schedule::seconds;
use gigac_cost::simulate::What;
use gigac_ir::plan::Category;

use super::{Memory, Report, mib, text, word};

/// Width and height of a plot.
const SIZE: (f64, f64) = (960.0, 260.0);
/// Spans shown in the timeline.
const SPANS: usize = 4000;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
pre{background:#f6f6f4;padding:1em;overflow:auto}svg{width:100%;height:auto;background:#fcfcfb}\
text{font:11px system-ui,sans-serif;fill:#555}.key span{display:inline-block;margin-right:1.2em}\
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}";

/// The page.
pub fn html(report: &Report) -> String {
    let title = escaped(&format!("{} on {}", report.model, report.device.title));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>\n"
    );
    let _ = writeln!(page, "<h2>Memory over the program</h2>{}", memory(&report.memory));
    let _ = writeln!(
        page,
        "<p>One step from left to right; a loop is drawn once. The dashed line is what it may have.</p>"
    );
    let _ = writeln!(page, "<h2>Time</h2>{}", timeline(report));
    let _ = writeln!(page, "<h2>In numbers</h2><pre>{}</pre>", escaped(&text::text(report)));
    let _ = writeln!(page, "<h2>The target</h2><table>");
    for (name, figure) in report.device.figures() {
        let source = escaped(&figure.source);
        let _ = writeln!(page, "<tr><td>{name}<td>{:e}<td>{source}</tr>", figure.value);
    }
    page + "</table></body></html>\n"
}

fn colour(category: Category) -> &'static str {
    match category {
        Category::Weights => "#4477aa",
        Category::Optimizer => "#88aacc",
        Category::Copies => "#66ccee",
        Category::Inputs => "#bbbbbb",
        Category::Results => "#999999",
        Category::Gradients => "#ccbb44",
        Category::Saved => "#ee6677",
        Category::Offloaded => "#bbbbbb",
        Category::Transient => "#aa3377",
    }
}

/// Areas stacked by category.
fn memory(memory: &Memory) -> String {
    let (width, height) = SIZE;
    let most = memory.curve.iter().map(|at| at.values().sum::<u64>()).max().unwrap_or(1).max(1);
    // A limit far above everything is not drawn.
    let limit = Some(memory.limit).filter(|limit| *limit < 2 * most);
    let top = limit.unwrap_or(0).max(most) as f64;
    let steps = memory.curve.len().max(1) as f64;
    let (x, y) =
        (|i: usize| i as f64 / steps * width, |bytes: u64| height * (1.0 - bytes as f64 / top));
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\">");
    let mut below = vec![0_u64; memory.curve.len()];
    let mut key = String::from("<p class=\"key\">");
    for (category, _) in &memory.rows {
        let of = |i: usize| memory.curve[i].get(category).copied().unwrap_or(0);
        let mut path = String::new();
        for (i, under) in below.iter().enumerate() {
            let at = y(under + of(i));
            let _ = write!(path, "{:.1},{at:.1} {:.1},{at:.1} ", x(i), x(i + 1));
        }
        for (i, under) in below.iter().enumerate().rev() {
            let at = y(*under);
            let _ = write!(path, "{:.1},{at:.1} {:.1},{at:.1} ", x(i + 1), x(i));
        }
        let (fill, name) = (colour(*category), word(*category));
        let _ = write!(
            svg,
            "<polygon points=\"{path}\" fill=\"{fill}\"><title>{name}</title></polygon>"
        );
        let _ = write!(key, "<span><i style=\"background:{fill}\"></i>{name}</span>");
        (0..below.len()).for_each(|i| below[i] += of(i));
    }
    if let Some(limit) = limit {
        let at = y(limit);
        let _ = write!(
            svg,
            "<line x1=\"0\" x2=\"{width}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#222\" stroke-dasharray=\"6 4\"/>"
        );
    }
    let _ = write!(svg, "<text x=\"4\" y=\"12\">{:.1} MiB</text></svg>", mib(top as u64));
    svg + &key + "</p>"
}

/// One row of boxes for each stream.
fn timeline(report: &Report) -> String {
    let (width, row) = (SIZE.0, 46.0);
    let streams = &report.schedule.streams;
    let end = report.simulation.end.max(1) as f64;
    let height = row * streams.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\">");
    let mut spans: Vec<_> = report.simulation.spans.iter().collect();
    spans.sort_by_key(|span| std::cmp::Reverse(span.end - span.start));
    for span in spans.into_iter().take(SPANS) {
        let (from, to) = (span.start as f64 / end * width, span.end as f64 / end * width);
        let (fill, name) = match &span.what {
            What::Task(label) => (shade(*label), report.schedule.labels[*label].clone()),
            What::Turns { axis, count } => {
                ("#dddddd".into(), format!("{count} more turns of {axis}"))
            }
        };
        let y = row * span.stream as f64 + 14.0;
        let name = escaped(&format!("{name}: {:.6} s", seconds(span.end - span.start)));
        let _ = write!(
            svg,
            "<rect x=\"{from:.2}\" y=\"{y}\" width=\"{:.2}\" height=\"{}\" fill=\"{fill}\"><title>{name}</title></rect>",
            to - from,
            row - 18.0
        );
    }
    for (i, name) in streams.iter().enumerate() {
        let busy = 100.0 * report.simulation.busy[i] as f64 / end;
        let (y, name) = (row * i as f64 + 10.0, escaped(name));
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{y}\">{name}, busy {busy:.1} % of {:.6} s</text>",
            report.step.seconds
        );
    }
    svg + "</svg>"
}

/// A colour for each kernel.
fn shade(label: usize) -> String {
    format!("hsl({} 45% 60%)", label * 137 % 360)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
