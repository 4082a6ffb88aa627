//! A simulation as a trace that Perfetto and `chrome://tracing` show.
//!
//! The format is the JSON of Chrome's trace events: complete events (`"ph": "X"`) in microseconds,
//! one thread for each stream. Turns of a loop that repeat those before are one event, so a trace
//! does not grow with depth.
//! Source: "Trace Event Format", Google, 2016.

use std::fmt::Write;

use crate::schedule::{Schedule, seconds};
use crate::simulate::{Simulation, What};

/// The trace as JSON text.
pub fn chrome(schedule: &Schedule, simulation: &Simulation) -> String {
    let mut text = String::from("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (i, name) in schedule.streams.iter().enumerate() {
        let name = quoted(name);
        let _ = writeln!(
            text,
            "{{\"ph\":\"M\",\"pid\":0,\"tid\":{i},\"name\":\"thread_name\",\"args\":{{\"name\":{name}}}}},"
        );
    }
    for span in &simulation.spans {
        let name = match &span.what {
            What::Task(label) => quoted(&schedule.labels[*label]),
            What::Turns { axis, count } => quoted(&format!("{count} more turns of {axis}")),
        };
        let (start, length) = (seconds(span.start) * 1e6, seconds(span.end - span.start) * 1e6);
        let _ = writeln!(
            text,
            "{{\"ph\":\"X\",\"pid\":0,\"tid\":{},\"ts\":{start},\"dur\":{length},\"name\":{name}}},",
            span.stream
        );
    }
    let _ = writeln!(
        text,
        "{{\"ph\":\"M\",\"pid\":0,\"name\":\"process_name\",\"args\":{{\"name\":\"step\"}}}}\n]}}"
    );
    text
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Step, Task};
    use crate::simulate::simulate;

    #[test]
    fn loops_are_short() {
        let task = Task { label: 0, stream: 0, ticks: 2_000_000, waits: vec![], records: vec![] };
        let schedule = Schedule {
            streams: vec!["compute".into()],
            events: 0,
            labels: vec!["a \"product\"".into()],
            groups: vec![],
            steps: vec![Step::Loop { axis: "L".into(), count: 54, body: vec![Step::Task(task)] }],
        };
        let text = chrome(&schedule, &simulate(&schedule));
        assert_eq!(
            text,
            r#"{"displayTimeUnit":"ms","traceEvents":[
{"ph":"M","pid":0,"tid":0,"name":"thread_name","args":{"name":"compute"}},
{"ph":"X","pid":0,"tid":0,"ts":0,"dur":2,"name":"a \"product\""},
{"ph":"X","pid":0,"tid":0,"ts":2,"dur":2,"name":"a \"product\""},
{"ph":"X","pid":0,"tid":0,"ts":4,"dur":104,"name":"52 more turns of L"},
{"ph":"M","pid":0,"name":"process_name","args":{"name":"step"}}
]}
"#
        );
    }
}
