//! A step with less memory: the same bits, in an arena that keeps to the limit.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{CORPUS, Place, failed, metrics, model, passed, read, root};

#[test]
fn a_decoder() {
    same_bits("nano", &[]);
}

#[test]
fn layer_norms_and_biases() {
    same_bits("gpt2-nano", &[]);
}

#[test]
fn experts_and_micro_batches() {
    same_bits("moe-nano", &["--set", "train.batch=256"]);
}

/// Trains with all memory, with some, and with as little as possible.
fn same_bits(name: &str, sets: &[&str]) {
    let place = Place::new();
    let all = arena(&place, name, sets, "1TiB");
    let least = arena(&place, name, sets, "1B");
    assert!(least < all, "something is dropped");
    let some = u64::midpoint(all, least).to_string();
    assert!(arena(&place, name, sets, &some) <= u64::midpoint(all, least));
    let runs = [&["1TiB"][..], &[&some], &["1B"]].map(|memory| run(&place, name, sets, memory));
    assert!(runs[0] == runs[1], "some is dropped");
    assert!(runs[0] == runs[2], "most is dropped");
}

/// Sixteen layers, of which part is kept on the host: the same bits, within the same bytes, and
/// watched memory finds nothing.
#[test]
fn offloading_keeps_the_bits() {
    for name in ["nano", "gpt2-nano", "moe-nano"] {
        let (place, sets) = (Place::new(), ["--set", "L=16"]);
        let [all, least] = ["1TiB", "1B"].map(|memory| arena(&place, name, &sets, memory));
        let some = u64::midpoint(all, least).to_string();
        let offload = [some.as_str(), "--offload"];
        let plan = plan(&place, name, &sets, &offload);
        assert!(plan["host_bytes"].as_u64().expect("a number") > 0, "{name}: {plan}");
        assert!(plan["arena_bytes"].as_u64().expect("a number") <= u64::midpoint(all, least));
        let whole = run(&place, name, &sets, &["1TiB"]);
        assert!(whole == run(&place, name, &sets, &offload), "{name}");
        assert!(whole == run(&place, name, &sets, &[&some, "--offload", "--poison"]), "{name}");
    }
}

fn plan(place: &Place, name: &str, sets: &[&str], memory: &[&str]) -> Value {
    let file = model(name);
    let words = [&["plan", &file, "--json", "--memory"], memory, sets].concat();
    serde_json::from_slice(&passed(&place.gigac(&words)).stdout).expect("JSON")
}

fn arena(place: &Place, name: &str, sets: &[&str], memory: &str) -> u64 {
    plan(place, name, sets, &[memory])["arena_bytes"].as_u64().expect("a number")
}

/// The weights after three steps, and what the steps say of themselves. No step allocates.
fn run(
    place: &Place,
    name: &str,
    sets: &[&str],
    memory: &[&str],
) -> (Vec<u8>, Vec<BTreeMap<&'static str, Value>>) {
    let files = memory.concat();
    let (out, export) = (place.path(&files), place.path(&format!("{files}.safetensors")));
    let flags = ["--data", CORPUS, "--steps", "3", "--quiet", "--out", &out, "--export", &export];
    passed(&place.train(name, &[sets, &["--memory"], memory, &flags].concat()));
    let lines = String::from_utf8(read(format!("{out}/metrics.jsonl"))).expect("text");
    let last: Value = serde_json::from_str(lines.lines().last().expect("steps")).expect("JSON");
    assert!(memory.contains(&"--poison") || last["allocations"] == 0, "{last}");
    (read(&export), metrics(&out))
}

/// Freed buffers are filled with NaN and every read is checked: nothing is found, and the same bits
/// come out.
#[test]
fn watched_memory_changes_nothing() {
    for name in ["nano", "gpt2-nano", "moe-nano"] {
        let place = Place::new();
        for variant in [&[][..], &["--set", "train.precision=bf16"], &["--memory", "1B"]] {
            let runs = [&[][..], &["--poison"]].map(|flags| {
                let out = place.path(&format!("{}{}", variant.join(""), flags.len()));
                let common = ["--data", CORPUS, "--steps", "3", "--quiet", "--out", &out];
                passed(&place.train(name, &[variant, &common, flags].concat()));
                metrics(&out)
            });
            assert!(runs[0] == runs[1], "{name} {variant:?}");
        }
    }
}

/// The process takes little more than its arena; of the benchmark models, at most half of what
/// compiled PyTorch takes (`ru_maxrss` in MiB: benches/peers.md).
#[test]
fn resident_memory_is_the_arena_and_little_more() {
    let compiled_torch =
        [("bench-s", 1074.0), ("bench-m", 1955.0), ("bench-x", 1071.0), ("bench-v", 1513.0)];
    let place = Place::new();
    let small =
        ["nano", "gpt2-nano", "moe-nano", "gigachat-demo"].map(|name| (name, f64::INFINITY));
    for (name, torch) in compiled_torch.into_iter().chain(small) {
        let file = model(name);
        let json = |words: &[&str]| -> Value {
            serde_json::from_slice(&passed(&place.gigac(words)).stdout).expect("JSON")
        };
        let arena = json(&["plan", &file, "--json"])["arena_bytes"].as_f64().expect("bytes");
        let bench = json(&["bench", &file, "--steps", "1", "--threads", "2", "--json"]);
        let peak = bench["peak_rss_mb"].as_f64().expect("a size") * 1e6;
        let mib = f64::from(1 << 20);
        assert!(peak <= arena + 128.0 * mib, "{name}: {peak} bytes, of which {arena} arena");
        assert!(peak <= torch / 2.0 * mib, "{name}: {peak} bytes");
    }
}

#[test]
fn a_size_is_a_number_with_a_unit() {
    let message = failed(&Place::new().gigac(&["plan", &model("nano"), "--memory", "much"]), 2);
    assert!(message.contains("8GiB"), "{message}");
}

#[test]
fn the_choice_explains_itself() {
    let place = Place::new();
    let plot = place.path("frontier.svg");
    let nano = model("nano");
    let words = ["plan", &nano, "--explain", "checkpoint", "--target", "a100", "--plot", &plot];
    let text = String::from_utf8(passed(&place.gigac(&words)).stdout.clone()).expect("text");
    for rule in ["keep all", "every second layer", "every layer", "greedy", "ours", "always kept"] {
        assert!(text.contains(rule), "{rule}: {text}");
    }
    assert!(String::from_utf8(read(&plot)).expect("text").starts_with("<svg"));
    let json: Value =
        serde_json::from_slice(&passed(&place.gigac(&[&words[..6], &["--json"]].concat())).stdout)
            .expect("JSON");
    let outcomes = json["outcomes"].as_array().expect("a list");
    let of = |rule: &str, field: &str| {
        let found = outcomes.iter().find(|o| o["rule"] == rule).expect("a rule");
        found[field].as_f64().expect("a number")
    };
    assert!(of("ours", "stack_bytes") <= of("every second layer", "stack_bytes"));
    for rule in ["every second layer", "greedy by seconds per byte"] {
        assert!(of("ours", "added_s") <= of(rule, "added_s") * (1.0 + 1e-9), "{rule}");
    }
    assert!(of("ours", "bound_s") <= of("ours", "added_s") * (1.0 + 1e-9));
    // What the problem promises is what the simulated plan takes.
    for outcome in outcomes {
        let field = |name: &str| outcome[name].as_f64().expect("a number");
        let promised = of("keep all", "step_s") + field("added_s");
        assert!((field("step_s") / promised - 1.0).abs() < 1e-6, "{outcome}");
    }
}

/// Copies beside kernels: what the choice promises is what the simulated plan takes, but for what a
/// segment waits for at its ends, at most the copies of a layer at either.
#[test]
fn offloading_explains_itself() {
    let place = Place::new();
    for (name, target) in [("nano", "a100"), ("bench-m", "h100"), ("bench-x", "cpu")] {
        let file = model(name);
        let words =
            ["plan", &file, "--explain", "checkpoint", "--target", target, "--offload", "--json"];
        let json: Value =
            serde_json::from_slice(&passed(&place.gigac(&words)).stdout).expect("JSON");
        let list = |field: &str| json[field].as_array().expect("a list").clone();
        let number = |of: &Value, field: &str| of[field].as_f64().expect("a number");
        let outcomes = list("outcomes");
        let of = |rule: &str| outcomes.iter().find(|o| o["rule"] == rule).expect("a rule");
        let (all, plain, ours) = (of("keep all"), of("ours"), of("ours, offloading"));
        assert!(number(ours, "host_bytes") > 0.0, "{name}: {ours}");
        let within = number(of("every second layer"), "stack_bytes");
        assert!(number(ours, "stack_bytes") <= within, "{name}: {ours}");
        assert!(number(ours, "added_s") <= number(plain, "added_s") * (1.0 + 1e-9));
        let copies: f64 = list("activations").iter().map(|a| number(a, "copy_s")).sum();
        let segments = ours["parts"][0].as_array().expect("a list").len() as f64;
        let promised = number(all, "step_s") + number(ours, "added_s");
        let more = number(ours, "step_s") - promised;
        assert!(-1e-6 * promised <= more, "{name}: {more}, {ours}");
        assert!(more <= 2.0 * segments * copies, "{name}: {more}, {ours}");
        for (with, without) in list("offloading").iter().zip(&list("frontier")) {
            assert!(number(with, "added_s") <= number(without, "added_s") * (1.0 + 1e-9));
            assert!(number(with, "bound_s") <= number(with, "added_s") * (1.0 + 1e-9));
        }
    }
}

/// The tables and plots of the documentation are what the compiler says; `BLESS=1` writes them.
#[test]
fn the_documented_frontiers_are_current() {
    let place = Place::new();
    let plot = place.path("frontier.svg");
    let offload = &["--offload"][..];
    for (target, flags, name) in
        [("a100", &[][..], "a100"), ("h100", &[], "h100"), ("a100", offload, "a100-offload")]
    {
        let file = model("gigachat-pro-29b");
        let words = ["plan", &file, "--target", target, "--explain", "checkpoint", "--plot", &plot];
        let text = passed(&place.gigac(&[&words, flags].concat())).stdout.clone();
        for (made, end) in [(text, "txt"), (read(&plot), "svg")] {
            let page = root().join(format!("docs/passes/frontier-29b-{name}.{end}"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&page, &made).expect("the documentation can be written");
            }
            let current = made == read(&page);
            assert!(current, "{} is not what the compiler says: BLESS=1 writes it", page.display());
        }
    }
}
