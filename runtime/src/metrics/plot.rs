//! The loss curve of a run as an SVG picture.

use std::fmt::Write;
use std::path::Path;

use super::jsonl;
use crate::error::{Error, Result};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
/// Room for numbers left and below.
const MARGIN: f64 = 50.0;
/// Points of the smoothed curve's window.
const WINDOW: usize = 25;

/// Draws `loss.svg` from the metrics of a run.
///
/// # Errors
/// [`Error::Io`] when the metrics cannot be read or the picture not written.
pub fn loss_curve(run: &Path) -> Result<()> {
    let (train, held) = jsonl::losses(run)?;
    let path = run.join("loss.svg");
    std::fs::write(&path, draw(&train, &held)).map_err(Error::io("write", &path))
}

/// Maps steps and losses to the picture.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn new(points: &[(f64, f64)]) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
        };
        let wide = |(lo, hi): (f64, f64)| if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) };
        Self {
            x: wide(range(&mut points.iter().map(|p| p.0))),
            y: wide(range(&mut points.iter().map(|p| p.1))),
        }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |v, (lo, hi): (f64, f64)| (v - lo) / (hi - lo);
        let width = part(x, self.x) * (WIDTH - 1.5 * MARGIN);
        let height = part(y, self.y) * (HEIGHT - 2.0 * MARGIN);
        (MARGIN + width, HEIGHT - MARGIN - height)
    }

    fn line(&self, points: &[(f64, f64)], style: &str) -> String {
        let mut line = format!("<polyline fill=\"none\" {style} points=\"");
        for point in points {
            let (x, y) = self.at(*point);
            // Writing to a string cannot fail.
            let _ = write!(line, "{x:.1},{y:.1} ");
        }
        line + "\"/>\n"
    }
}

/// Round numbers inside a range, about five of them.
fn ticks((lo, hi): (f64, f64)) -> Vec<f64> {
    let rough = (hi - lo) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(rough);
    let first = (lo / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|t| *t <= hi).collect()
}

fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean =
        |window: &[(f64, f64)]| window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64;
    (0..points.len())
        .map(|i| (points[i].0, mean(&points[(i + 1).saturating_sub(WINDOW)..=i])))
        .collect()
}

fn draw(train: &[(f64, f64)], held: &[(f64, f64)]) -> String {
    let all: Vec<(f64, f64)> = train.iter().chain(held).copied().collect();
    let frame = Frame::new(if all.is_empty() { &[(0.0, 0.0)] } else { &all });
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for tick in ticks(frame.y) {
        let (_, y) = frame.at((frame.x.0, tick));
        let right = WIDTH - MARGIN / 2.0;
        let _ = writeln!(svg, "<path d=\"M{MARGIN} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        let (x, y) = (MARGIN - 6.0, y + 4.0);
        let label = (tick * 1e4).round() / 1e4;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>");
    }
    for tick in ticks(frame.x) {
        let ((x, _), y) = (frame.at((tick, frame.y.0)), HEIGHT - MARGIN + 18.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{tick}</text>");
    }
    svg += &frame.line(train, "stroke=\"#9ecae1\" stroke-width=\"1\"");
    svg += &frame.line(&smooth(train), "stroke=\"#08519c\" stroke-width=\"2\"");
    for point in held {
        let (x, y) = frame.at(*point);
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#d94801\"/>");
    }
    let (middle, bottom) = (WIDTH / 2.0, HEIGHT - 8.0);
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\">step</text>");
    let legend = "loss: each step (light), mean of 25 (dark), held-out text (dots)";
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"24\" text-anchor=\"middle\">{legend}</text>");
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_any_run() {
        for n in [0, 1, 2, 100] {
            let train: Vec<(f64, f64)> =
                (0..n).map(|i| (f64::from(i), 5.0 / f64::from(i + 1))).collect();
            let svg = draw(&train, &train[..train.len().min(3)]);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks((0.0, 10.0)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let tenths = ticks((1.1, 1.9)).iter().map(|t| (t * 10.0).round()).collect::<Vec<_>>();
        assert_eq!(tenths, [12.0, 14.0, 16.0, 18.0]);
    }
}
