//! Programs from Triton and nvcc, run against numpy's results under several schedules.

use std::fs;
use std::path::{Path, PathBuf};

use gigac_emulator::meta::Meta;
use gigac_emulator::{Module, Schedule};

fn folders(root: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut list: Vec<PathBuf> = fs::read_dir(root)
        .map(|d| d.flatten().map(|e| e.path()).filter(|p| p.join("kernel.ptx").is_file()).collect())
        .unwrap_or_default();
    list.sort();
    list
}

/// Everything wrong with one program under one schedule.
fn run(folder: &Path, schedule: Schedule, at_once: bool) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(folder.join("kernel.ptx")).map_err(|e| e.to_string())?;
    let meta =
        Meta::parse(&fs::read_to_string(folder.join("meta.json")).map_err(|e| e.to_string())?)?;
    let data = fs::read(folder.join("data.safetensors")).map_err(|e| e.to_string())?;
    let module = Module::parse(&text).map_err(|e| e.to_string())?;
    let launch = meta.launch(&module, &data)?.schedule(schedule).async_at_once(at_once);
    let report = launch.run().map_err(|e| e.to_string())?;
    let mut wrong: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    wrong.extend(meta.compare(&report, &data)?.iter().map(ToString::to_string));
    Ok(wrong)
}

fn all_pass(root: &str) {
    let mut failures = Vec::new();
    for folder in folders(root) {
        for schedule in
            [Schedule::LowestFirst, Schedule::HighestFirst, Schedule::LockStep, Schedule::Random(7)]
        {
            let outcome = run(&folder, schedule, schedule == Schedule::HighestFirst);
            let wrong = outcome.unwrap_or_else(|e| vec![e]);
            if !wrong.is_empty() {
                failures.push(format!(
                    "{} ({schedule:?}):\n{}",
                    folder.display(),
                    wrong.join("\n")
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn samples_pass() {
    assert_eq!(folders("tests/samples").len(), 4);
    all_pass("tests/samples");
}

#[test]
fn foreign_programs_pass() {
    assert!(folders("tests/foreign/good").len() >= 40);
    all_pass("tests/foreign/good");
}

/// What `meta.json` says must be found.
fn expected_finding(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("meta.json")).expect("the launch description");
    let meta: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    meta["expect_finding"].as_str().expect("a broken program names its finding").replace('-', " ")
}

#[test]
fn broken_programs_are_rejected() {
    let broken = folders("tests/foreign/broken");
    assert!(broken.len() >= 12);
    for folder in broken {
        let want = expected_finding(&folder);
        for schedule in
            [Schedule::LowestFirst, Schedule::HighestFirst, Schedule::LockStep, Schedule::Random(3)]
        {
            let wrong = run(&folder, schedule, false).unwrap_or_else(|e| vec![e]);
            let found = wrong.iter().any(|w| match want.as_str() {
                "mismatch" => w.starts_with('`'),
                kind => w.starts_with(&format!("{kind}: ")),
            });
            assert!(found, "{} ({schedule:?}): no {want} among {wrong:#?}", folder.display());
        }
    }
}
