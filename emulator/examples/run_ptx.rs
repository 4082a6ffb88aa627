//! Runs launches given as folders with `kernel.ptx`, `meta.json` and `data.safetensors` under four schedules, and
//! says in one line each whether they pass: `cargo run --example run_ptx -- [--no-checks] FOLDER...`

use std::path::Path;
use std::time::Instant;

use gigac_emulator::meta::Meta;
use gigac_emulator::{Checks, Module, Schedule};

const SCHEDULES: [Schedule; 4] =
    [Schedule::LowestFirst, Schedule::HighestFirst, Schedule::LockStep, Schedule::Random(7)];

/// What is wrong under the first schedule that shows something.
fn run(folder: &Path, checks: Checks) -> Result<Vec<String>, String> {
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let text = String::from_utf8_lossy(&read("kernel.ptx")?).into_owned();
    let meta = Meta::parse(&String::from_utf8_lossy(&read("meta.json")?))?;
    let data = read("data.safetensors")?;
    let module = Module::parse(&text).map_err(|e| e.to_string())?;
    for schedule in SCHEDULES {
        let launch = meta.launch(&module, &data)?.checks(checks).schedule(schedule);
        let report = launch.run().map_err(|e| e.to_string())?;
        let mut wrong: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        wrong.extend(meta.compare(&report, &data)?.iter().map(ToString::to_string));
        if !wrong.is_empty() {
            wrong.insert(0, format!("{schedule:?}"));
            return Ok(wrong);
        }
    }
    Ok(Vec::new())
}

fn main() {
    let mut checks = Checks::ALL;
    for argument in std::env::args().skip(1) {
        if argument == "--no-checks" {
            checks = Checks::NONE;
            continue;
        }
        let start = Instant::now();
        let wrong =
            run(Path::new(&argument), checks).unwrap_or_else(|e| vec![format!("rejected: {e}")]);
        let word = if wrong.is_empty() { "ok  " } else { "FAIL" };
        println!("{word} {argument} ({:.2} s)", start.elapsed().as_secs_f64());
        wrong.iter().for_each(|w| println!("  {}", w.replace('\n', "\n  ")));
    }
}
