//! The line on stderr that says how the run goes.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Record;
use crate::console::say;

/// Without a terminal, a plain line appears this often.
const PLAIN: Duration = Duration::from_secs(10);

/// How much a new step weighs in the smoothed loss.
const SMOOTH: f64 = 0.1;

/// A progress line.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
    loss: Option<f64>,
    steps: u64,
}

impl Progress {
    /// A line for a run from step `first` to `steps`; nothing at all when `quiet`.
    pub fn new(first: u64, steps: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = "{bar:30.cyan/blue} {pos}/{len} {msg} · {eta} left";
            let bar = ProgressBar::new(steps).with_position(first);
            bar.reset_eta();
            bar.with_style(ProgressStyle::with_template(style).expect("a constant template"))
        });
        let last = (!quiet && bar.is_none()).then(Instant::now);
        Self { bar, last, loss: None, steps }
    }

    /// Shows the figures of a step.
    pub fn record(&mut self, record: &Record) {
        let old = self.loss.unwrap_or(record.loss);
        let loss = old + SMOOTH * (record.loss - old);
        self.loss = Some(loss);
        let due = self.last.is_some_and(|at| at.elapsed() >= PLAIN)
            || (self.last.is_some() && (record.step == 0 || record.step + 1 == self.steps));
        if !due && self.bar.is_none() {
            return;
        }
        let message = format!(
            "loss {loss:.4} · {:.0} tokens/s · {:.0} % of peak",
            record.tokens_per_second(),
            100.0 * record.utilisation
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(record.step + 1);
                bar.set_message(message);
            }
            None => {
                say(format_args!("step {}/{}: {message}", record.step + 1, self.steps));
                self.last = Some(Instant::now());
            }
        }
        if let Some(validation) = record.validation {
            let bits = validation.bits_per_byte;
            let bits = bits.map_or(String::new(), |b| format!(", {b:.3} bits per byte"));
            self.say(&format!(
                "after step {}: held-out loss {:.4}{bits}",
                record.step + 1,
                validation.loss
            ));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
    }

    /// Leaves the last state of the line on the screen.
    pub fn finish(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}
