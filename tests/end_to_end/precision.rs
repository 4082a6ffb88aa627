//! Models that say `precision bf16`, or are told to.

use serde_json::Value;

use crate::support::{Place, Run, metrics, model, number, passed, read, root};

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
