//! Models that say `precision bf16`, or are told to.

use std::path::Path;

use serde_json::Value;

use crate::support::{CORPUS, Place, Run, metrics, model, number, passed, read, root};

/// Losses stay as near to those of f32 as 8 bits of a number allow: half a unit in the last place is
/// 2⁻⁹, and a loss is a mean over tokens.
const NEAR: f64 = 1.0 / 256.0;

#[test]
fn training_in_bf16_stays_near_f32_with_any_number_of_threads() {
    let place = Place::new();
    let golden = root().join("tests/golden/llama-nano");
    let train = |name: &str, precision: &str, threads: &str| {
        let out = place.path(name);
        let mut flags = Run::under(out.clone()).flags(&golden);
        let more = ["--threads", threads, "--set", precision];
        flags.extend(more.map(str::to_owned));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        passed(&place.train("nano", &flags));
        (metrics(&out), read(format!("{out}.export")))
    };
    let wide = train("wide", "train.precision=f32", "2");
    let narrow = train("narrow", "train.precision=bf16", "2");
    let one = train("one", "train.precision=bf16", "1");
    assert!(narrow == one, "one thread and two differ");
    assert!(narrow != wide, "bf16 rounds");
    for (wide, narrow) in wide.0.iter().zip(&narrow.0) {
        let (f32, bf16) = (number(wide, "loss"), number(narrow, "loss"));
        assert!((f32 - bf16).abs() <= NEAR * f32, "loss {bf16} instead of {f32}");
    }
}

#[test]
fn the_command_line_decides_about_the_width() {
    let place = Place::new();
    let bytes = |set: &str, category: &str| {
        let output = place.gigac(&["plan", &model("bench-s"), "--set", set, "--json"]);
        let plan: Value = serde_json::from_slice(&passed(&output).stdout).expect("an object");
        let bytes = plan["categories"][category].as_u64();
        bytes.unwrap_or_else(|| panic!("{category}: {plan}"))
    };
    let [narrow, wide] = ["train.precision=bf16", "train.precision=f32"];
    assert_eq!(bytes(narrow, "weights"), bytes(wide, "weights"), "the master copy is f32");
    let saved = |set| bytes(set, "saved") as f64;
    assert!(saved(narrow) < 0.55 * saved(wide), "{} of {} bytes", saved(narrow), saved(wide));
}

/// The copies in bf16 follow from the weights: a run that was cut anywhere, also between a phase in f32, which
/// does not read them, and one in bf16, goes on with the same bits, and checkpoints hold none.
#[test]
fn a_run_in_bf16_may_be_cut_anywhere() {
    let place = Place::new();
    let text = std::fs::read_to_string(model("nano")).expect("a shipped model");
    let (text, _) = text.split_once("train {").expect("a train block");
    let train = "train {
        clip 1.0
        on_nan skip
        precision bf16
        phase 256 tokens
        phase 256 tokens { precision f32 }
        phase 256 tokens
      }";
    let path = place.write("phases.giga", format!("{text}{train}").as_bytes());
    let run = |name: &str, flags: &[&str]| {
        let (out, export) = (place.path(name), place.path(&format!("{name}.st")));
        let words = ["train", &path, "--data", CORPUS, "--export", &export, "--quiet"];
        passed(&place.gigac(&[&words, &["--out", &out][..], flags].concat()));
        (metrics(&out), read(export))
    };
    let whole = run("whole", &[]);
    let steps = whole.0.len();
    assert!(steps >= 6 && steps.is_multiple_of(3), "{steps} steps");
    for cut in 1..steps {
        run("parts", &["--resume", "--steps", &cut.to_string()]);
    }
    assert!(run("parts", &["--resume"]) == whole);
    let folder = Path::new(&place.path("parts")).join("checkpoints");
    let newest = std::fs::read_to_string(folder.join("latest")).expect("checkpoints");
    let index: Value =
        serde_json::from_slice(&read(folder.join(newest.trim()).join("index.json"))).expect("JSON");
    let tensors = index["shards"][0]["tensors"].as_array().expect("a list");
    let slots = ["weight", "moment1", "moment2"];
    let known = |name: &Value| slots.iter().any(|s| name.as_str().is_some_and(|n| n.ends_with(s)));
    assert!(tensors.len() == 36 && tensors.iter().all(known), "{tensors:?}");
}
