//! Looks on while passes run: brings the clock, prints programs, keeps what passes report.

use std::time::{Duration, Instant};

use gigac_passes::driver::{Observer, Ran};
use gigac_passes::options::named;
use gigac_passes::pass::Pass;
use gigac_runtime::console::say;

use crate::failure::Failure;

/// Which programs are printed.
#[derive(Clone, Debug)]
enum Shown {
    /// After these passes.
    After(Vec<&'static str>),
    /// After every pass.
    All,
}

/// Somebody who looks on.
pub struct Watch {
    started: Instant,
    shown: Shown,
    /// A line for each pass that ran.
    rows: Vec<Row>,
}

/// What is known of one run of a pass.
struct Row {
    pass: &'static str,
    time: Duration,
    report: String,
}

impl Watch {
    /// Prints the program after each of these passes, or after `all`, when the pass changed it.
    ///
    /// # Errors
    /// A pass that does not exist.
    pub fn new(print_after: &[String]) -> Result<Self, Failure> {
        let pass = |name: &String| match named(name) {
            Ok(pass) => Ok(pass.name),
            Err(e) => Err(Failure::Usage(format!("`--print-after {name}`: {e}"))),
        };
        let shown = match print_after.iter().any(|name| name == "all") {
            true => Shown::All,
            false => Shown::After(print_after.iter().map(pass).collect::<Result<_, _>>()?),
        };
        Ok(Self { started: Instant::now(), shown, rows: Vec::new() })
    }

    /// The table of what the passes did.
    pub fn table(&self) -> String {
        let line = |row: &Row| {
            let milliseconds = row.time.as_secs_f64() * 1e3;
            format!("{:<14} {milliseconds:>9.3} ms  {}\n", row.pass, row.report)
        };
        self.rows.iter().map(line).collect()
    }
}

impl Observer for Watch {
    fn now(&mut self) -> Duration {
        self.started.elapsed()
    }

    fn watches(&self, pass: &Pass) -> bool {
        match &self.shown {
            Shown::All => true,
            Shown::After(names) => names.contains(&pass.name),
        }
    }

    fn ran(&mut self, ran: &Ran<'_>) {
        if let Some(text) = &ran.text {
            let (purpose, pass) = (ran.context.purpose.name(), ran.pass.name);
            say(format_args!("; {purpose} after `{pass}`\n{}\n", text.trim_end()));
        }
        self.rows.push(Row { pass: ran.pass.name, time: ran.time, report: ran.report.to_string() });
    }
}
