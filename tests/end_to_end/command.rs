//! Commands and flags, right and wrong.

use std::path::Path;
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::Value;

use crate::support::{
    CORPUS, Place, distance, failed, golden, metrics, model, number, passed, read, root, tensors,
};

#[test]
fn golden_trace_of_llama_nano() {
    Place::new().follow(&model("nano"), &root().join("tests/golden/llama-nano"));
}

#[test]
fn golden_trace_of_gpt2_nano() {
    Place::new().follow(&model("gpt2-nano"), &root().join("tests/golden/gpt2-nano"));
}

#[test]
fn check_prices_the_large_model() {
    let output = Place::new().gigac(&["check", &model("gigachat-pro-29b"), "--json"]);
    let answer: Value = serde_json::from_slice(&passed(&output).stdout).expect("one JSON object");
    let parameters: u64 = 29_451_768_320;
    assert_eq!(answer["parameters"], parameters);
    let attention = 12 * 54 * 6656 * 4096;
    assert_eq!(answer["flops_per_token"].as_f64(), Some((6 * parameters + attention) as f64));
}

#[test]
fn depth_changes_only_numbers_of_a_plan() {
    let place = Place::new();
    let plan = |layers: &str| {
        let output = place.gigac(&["emit", "plan", &model("nano"), "--set", layers]);
        String::from_utf8(passed(&output).stdout.clone()).expect("plans are text")
    };
    let (few, many) = (plan("L=2"), plan("L=200"));
    assert!(few.len() > 1000, "{few}");
    assert_ne!(few, many);
    let shape = |plan: &str| plan.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    // Columns that are aligned by blanks count as the same.
    let words = |plan: &str| shape(plan).split_whitespace().collect::<Vec<_>>().join(" ");
    for (a, b) in few.lines().zip(many.lines()) {
        assert_eq!(words(a), words(b));
    }
    assert_eq!(few.lines().count(), many.lines().count());
}

#[test]
fn passes_are_listed_shown_and_switched_off() {
    let place = Place::new();
    let nano = model("nano");
    let text = |words: &[&str]| {
        let output = place.gigac(words);
        let out = String::from_utf8(passed(&output).stdout.clone()).expect("text");
        (out, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let names = |listed: &str| -> Vec<String> {
        listed.lines().filter_map(|l| Some(l.split_whitespace().next()?.to_owned())).collect()
    };
    let (all, _) = text(&["emit", "passes", &nano]);
    let (fewer, _) = text(&["emit", "passes", &nano, "--disable", "fold", "--disable", "dead"]);
    assert!(names(&all).contains(&"fold".to_owned()), "{all}");
    let left: Vec<String> =
        names(&all).into_iter().filter(|n| n != "fold" && n != "dead").collect();
    assert_eq!(names(&fewer), left);
    // A program is shown where a pass changed it: after all spellings are one, folding finds
    // nothing to do.
    let runs = names(&all).iter().filter(|n| *n == "fold").count();
    let (plan, shown) = text(&["emit", "joint", &nano, "--print-after", "fold"]);
    let changed = shown.matches("; step after `fold`").count();
    assert!((1..runs).contains(&changed), "{changed} of {runs}\n{shown}");
    assert!(shown.contains("graph nano {") && !plan.contains("; step after"));
    let (_, shown) = text(&["emit", "joint", &nano, "--print-after", "place"]);
    assert_eq!(shown, "");
    let (plan, exact) =
        (text(&["emit", "plan", &nano]).0, text(&["emit", "plan", &nano, "--exact"]).0);
    assert_ne!(plan, exact);
    assert_eq!(exact, text(&["emit", "plan", &nano, "--exact", "--disable", "split-sums"]).0);
}

#[test]
fn optimisations_are_added_up() {
    let place = Place::new();
    let text = |words: &[&str]| {
        String::from_utf8(passed(&place.gigac(words)).stdout.clone()).expect("text")
    };
    let table: Value =
        serde_json::from_str(&text(&["ablate", &model("nano"), "--json"])).expect("an object");
    let rows = table["rows"].as_array().expect("rows");
    assert!(rows.len() > 4 && rows[0]["pass"].is_null() && rows[1]["pass"] == "hoist");
    let plan: Value =
        serde_json::from_str(&text(&["plan", &model("nano"), "--json"])).expect("an object");
    let last = rows.last().expect("rows");
    for figure in ["arena_bytes", "kernels", "launches"] {
        assert_eq!(last[figure], plan[figure], "{figure}");
    }
    let listed = text(&["ablate", &model("nano"), "--disable", "hoist"]);
    assert_eq!(listed.lines().count(), rows.len(), "one row less, and a head: {listed}");
    let flags = ["ablate", &model("nano"), "--measure", "--steps", "1", "--json"];
    let table: Value = serde_json::from_str(&text(&flags)).expect("an object");
    let rows = table["rows"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["measured_step_s"].as_f64().is_some_and(|s| s > 0.0)));
}

#[test]
fn the_first_pass_that_changes_results_is_named() {
    let place = Place::new();
    for name in ["nano", "moe-nano"] {
        let output = place.gigac(&["bisect", &model(name)]);
        let text = String::from_utf8_lossy(&passed(&output).stdout).into_owned();
        assert!(text.contains("form ") && text.contains("machine code"), "{text}");
        assert!(text.ends_with("no pass changes a result by more than 1e-4\n"), "{text}");
    }
    // Where values are rounded, passes are compared before that and behind it.
    let output = place.gigac(&["bisect", &model("nano"), "--set", "train.precision=bf16"]);
    let text = String::from_utf8_lossy(&passed(&output).stdout).into_owned();
    assert!(text.contains(", nor machine code by more than"), "what is forgiven is said: {text}");
    let at = |pass: &str| text.find(pass).unwrap_or_else(|| panic!("no {pass} in {text}"));
    assert!(at("fuse ") < at("precision ") && at("precision ") < at("machine code"), "{text}");
    // Machine code computes in f32, everything before it in f64.
    let output = place.gigac(&["bisect", &model("nano"), "--tolerance", "1e-9"]);
    let message = failed(&output, 3);
    assert!(message.contains("results differ after `machine code`: "), "{message}");
    assert!(message.contains(" instead of "), "{message}");
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let place = Place::new();
    let run = |name: &str, steps: &str, resume: bool| {
        let (out, export) = (place.path(name), place.path(&format!("{name}.safetensors")));
        let mut flags = vec!["--data", CORPUS, "--steps", steps, "--out", &out];
        flags.extend(["--export", &export, "--quiet"]);
        flags.extend(resume.then_some("--resume"));
        passed(&place.train("nano", &flags));
        (metrics(&out), read(&export))
    };
    let (whole, whole_weights) = run("whole", "8", false);
    let (half, half_weights) = run("parts", "4", false);
    assert_eq!(half, whole[..4]);
    assert_ne!(half_weights, whole_weights);
    let (both, weights) = run("parts", "8", true);
    assert_eq!(both, whole);
    assert!(weights == whole_weights, "the weights differ");
    let steps: Vec<u64> = whole.iter().map(|m| m["step"].as_u64().expect("a number")).collect();
    assert_eq!(steps, (0..8).collect::<Vec<_>>());
    assert_eq!(whole[7]["tokens"], 8 * 64);
}

#[test]
fn phases_change_axes_and_rates_wherever_a_run_is_cut() {
    let place = Place::new();
    let text = std::fs::read_to_string(model("nano")).expect("a shipped model");
    let (text, _) = text.split_once("train {").expect("a train block");
    let train = "train {
        schedule cosine(peak = 0.01, warmup = 2, floor = 0.1)
        phase 192 tokens
        phase 129 tokens { T = 64, B = 1 }
        phase 256 tokens { T = 16, B = 8, schedule wsd(peak = 0.001, decay = 1) }
        phase 64 tokens { schedule constant(1e-4) }
      }";
    let path = place.write("phases.giga", format!("{text}{train}").as_bytes());
    let run = |name: &str, flags: &[&str]| {
        let out = place.path(name);
        let words = ["train", &path, "--data", CORPUS, "--out", &out, "--quiet"];
        passed(&place.gigac(&[&words, flags].concat()));
        metrics(&out)
    };
    let whole = run("whole", &[]);
    let rates: Vec<f64> = whole.iter().map(|m| number(m, "lr")).collect();
    // The cosine falls over the first two phases, six steps; the others have their own.
    let wave = |part: f64| 0.0055 + 0.0045 * (part * std::f64::consts::PI).cos();
    let expected = [0.005, 0.01, wave(0.0), wave(1.0 / 3.0), wave(2.0 / 3.0), wave(1.0)];
    let expected = [&expected[..], &[0.001, 0.0, 1e-4]].concat();
    assert_eq!(rates.len(), expected.len(), "{rates:?}");
    for (rate, expected) in rates.iter().zip(expected) {
        assert!((rate - expected).abs() < 1e-8, "{rates:?}");
    }
    let tokens: Vec<f64> = whole.iter().map(|m| number(m, "tokens")).collect();
    assert_eq!(tokens, [64.0, 128.0, 192.0, 256.0, 320.0, 384.0, 512.0, 640.0, 704.0]);
    for steps in ["2", "5", "7"] {
        run("parts", &["--resume", "--steps", steps]);
    }
    assert_eq!(run("parts", &["--resume"]), whole);
}

#[test]
fn wrong_flags_are_found_before_anything_is_compiled() {
    let place = Place::new();
    let absent = place.path("absent/weights.safetensors");
    for (words, code) in [
        (&["--data", CORPUS, "--nonsense"][..], 2),
        (&["--steps", "many", "--data", CORPUS], 2),
        (&["--steps", "3"], 2),
        (&["--data", CORPUS, "--steps", "3", "--export", &absent], 3),
    ] {
        failed(&place.train("nano", words), code);
        assert!(!Path::new(&place.path("cache")).exists(), "{words:?} compiled something");
    }
    let help = place.train("nano", &["--help"]);
    let help = String::from_utf8_lossy(&passed(&help).stdout).into_owned();
    for flag in ["--set", "--data", "--tokenizer", "--save-every", "--dump-logits"] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn answers_for_machines_are_one_object() {
    let place = Place::new();
    let (nano, bin, out) = (model("nano"), place.path("nano"), place.path("run"));
    let train = ["train", &nano, "--data", CORPUS, "--steps", "2", "--out", &out, "--json"];
    let answers = [
        (&["check", &nano, "--json"][..], "flops_per_token"),
        (&["plan", &nano, "--json"], "arena_bytes"),
        (&["build", &nano, "-o", &bin, "--json"], "features"),
        (&train, "bits_per_byte"),
        (&["bench", &nano, "--steps", "2", "--json"], "median_step_s"),
        (&["emit", "graph", &nano, "--json"], "text"),
    ];
    for (words, field) in answers {
        let answer: Value = serde_json::from_slice(&passed(&place.gigac(words)).stdout)
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
        assert!(!answer[field].is_null(), "{words:?}: {answer}");
    }
}

#[test]
fn a_plan_of_phases_is_one_object() {
    let place = Place::new();
    let text = std::fs::read_to_string(model("nano")).expect("a shipped model");
    let (text, _) = text.split_once("train {").expect("a train block");
    let train = "train { phase 192 tokens; phase 128 tokens { T = 16 } }";
    let path = place.write("phases.giga", format!("{text}{train}").as_bytes());
    for more in [&[][..], &["--explain", "checkpoint"]] {
        let output = place.gigac(&[&["plan", &path, "--json"], more].concat());
        let answer: Value = serde_json::from_slice(&passed(&output).stdout).expect("one object");
        let phases = answer["phases"].as_array().expect("an object for each phase");
        assert_eq!(phases.len(), 2);
        assert_ne!(phases[0], phases[1]);
        let first = phases[0].as_object().expect("an object");
        assert!(first.iter().all(|(name, value)| answer[name] == *value));
    }
}

/// Whatever the size of an axis, also where it leaves nothing to sum over or to share out, every
/// pass and the machine code compute what the model means.
#[test]
fn odd_sizes() {
    let place = Place::new();
    for (name, sets) in [
        ("nano", &["B=1", "T=1", "T=3", "V=1", "F=1", "H=1", "L=1"][..]),
        ("gpt2-nano", &["T=1", "F=1", "K=1"]),
        ("moe-nano", &["T=1", "F=1", "N=1"]),
    ] {
        for set in sets {
            let output = place.gigac(&["bisect", &model(name), "--set", set]);
            assert!(output.status.success(), "{name} {set}: {output:?}");
        }
    }
}

/// What this machine has no memory for is refused before it is touched, and what cannot be counted
/// before it is compiled.
#[test]
fn absurd_sizes_are_refused() {
    let place = Place::new();
    let train = |set: &str, code: i32| {
        let flags = ["--set", set, "--data", CORPUS, "--steps", "1", "--quiet"];
        failed(&place.train("nano", &flags), code)
    };
    for set in ["train.batch=1e12", "train.batch=1e15", "V=2B"] {
        let message = train(set, 3);
        assert!(
            message.contains("this run needs") && message.contains("arena"),
            "{set}: {message}"
        );
    }
    for set in ["train.batch=9e18", "train.batch=1e300", "V=2T"] {
        let message = train(set, 1);
        assert!(message.contains("2^"), "{set}: {message}");
    }
}

#[test]
fn mistakes_in_a_model_name_their_places() {
    let place = Place::new();
    let text = std::fs::read_to_string(model("nano")).expect("a shipped model");
    let broken = text.replace("rope(dot(h, wq; D); T, K)", "rope(dot(h, wq; Z); T, K)");
    assert_ne!(text, broken);
    let line = 1 + broken.lines().position(|l| l.contains("; Z")).expect("the mistake");
    let path = place.write("broken.giga", broken.as_bytes());
    for command in
        [&["check", &path][..], &["emit", "graph", &path], &["train", &path, "--data", CORPUS]]
    {
        let output = place.gigac(command);
        let message = failed(&output, 1);
        assert!(message.contains(&format!("broken.giga:{line}:")), "{message}");
        assert!(message.contains("help: "), "{message}");
        assert!(output.stdout.is_empty());
    }
    let message = failed(&place.gigac(&["check", &place.path("absent.giga")]), 1);
    assert!(message.contains("absent.giga"), "{message}");
    let path = place.write("latin.giga", b"model m\n// \xe4\n");
    let message = failed(&place.gigac(&["check", &path]), 1);
    assert!(message.contains("latin.giga:2"), "{message}");
    let message = failed(&place.gigac(&["check", &model("nano"), "--set", "Q=3"]), 1);
    assert!(message.contains("--set Q"), "{message}");
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    let nano = model("nano");
    for words in [
        &["check", &nano, "--nonsense"][..],
        &["check"],
        &["nonsense", &nano],
        &["emit", "nonsense", &nano],
        &["check", &nano, "--set", "L"],
        &["plan", &nano, "--disable", "form"],
        &["emit", "plan", &nano, "--print-after", "nonsense"],
        &["train", &nano, "--data", CORPUS, "--disable", "nonsense"],
        &["train", &nano, "--data", CORPUS, "--nonsense"],
        &["train", &nano],
        &["train", &nano, "--data", CORPUS, "--resume"],
    ] {
        failed(&place.gigac(words), 2);
    }
}

#[test]
fn wrong_data_is_1() {
    let place = Place::new();
    let train = |data: &str| failed(&place.train("nano", &["--data", data, "--steps", "2"]), 1);
    let message = train(&place.path("absent.txt"));
    assert!(message.contains("absent.txt"), "{message}");
    let message = train(&place.write("short.txt", b"less than a sample"));
    assert!(message.contains("short.txt") || message.contains("33"), "{message}");
    train(&place.write("empty.txt", b""));
    let message = train(&place.write("latin.txt", &[0xe4; 5000]));
    assert!(message.contains("latin.txt") && message.contains("UTF-8"), "{message}");
    let tokens: Vec<u8> = (0..5000_u16)
        .flat_map(|i| (if i % 16 == 0 { 300 } else { i % 256 }).to_le_bytes())
        .collect();
    let message = train(&place.write("high.u16.bin", &tokens));
    assert!(message.contains("high.u16.bin") && message.contains("300"), "{message}");
    let message = train(&place.write("odd.u16.bin", &tokens[..9999]));
    assert!(message.contains("odd.u16.bin"), "{message}");
}

#[test]
fn wrong_weights_and_batches_are_1() {
    let place = Place::new();
    let (init, batches) = (golden("llama-nano", "init"), golden("llama-nano", "batches"));
    let cut = |file: &str, name: &str| {
        let bytes = read(file);
        place.write(name, &bytes[..bytes.len() - 1])
    };
    let cut_init = cut(&init, "init.safetensors");
    let message = failed(&place.train("nano", &["--batches", &batches, "--init", &cut_init]), 1);
    assert!(message.contains("init.safetensors"), "{message}");
    let cut_batches = cut(&batches, "batches.safetensors");
    let message = failed(&place.train("nano", &["--batches", &cut_batches]), 1);
    assert!(message.contains("batches.safetensors"), "{message}");
    let other = golden("gpt2-nano", "init");
    let message = failed(&place.train("nano", &["--batches", &batches, "--init", &other]), 1);
    assert!(message.contains("model.embed_tokens.weight"), "{message}");
    let message = failed(&place.train("nano", &["--batches", &batches, "--steps", "21"]), 2);
    assert!(message.contains("20"), "{message}");
}

#[test]
fn directories_that_cannot_be_written_are_3() {
    let place = Place::new();
    let train = |out: &str| {
        let flags = ["--data", CORPUS, "--steps", "2", "--quiet", "--out", out];
        failed(&place.train("nano", &flags), 3)
    };
    let file = place.write("file", b"precious");
    let message = train(&file);
    assert!(message.contains("file"), "{message}");
    assert_eq!(read(&file), b"precious");
    let locked = place.path("locked");
    std::fs::create_dir(&locked).expect("a new folder");
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&locked, mode).expect("our own folder");
    };
    mode(0o555);
    // The superuser may write anywhere.
    if std::fs::write(Path::new(&locked).join("probe"), b"").is_err() {
        train(&locked);
        train(&format!("{locked}/run"));
        failed(&place.gigac(&["build", &model("nano"), "-o", &format!("{locked}/nano")]), 3);
    }
    mode(0o755);
    failed(&place.gigac(&["build", &model("nano"), "-o", &place.path("absent/nano")]), 3);
}

/// A file that may not grow further is the machine's failure, like a full disk, and leaves nothing.
#[test]
fn a_limit_of_file_sizes_is_3() {
    let place = Place::new();
    let (binary, export) = (place.path("nano"), place.path("weights.safetensors"));
    passed(&place.gigac(&["build", &model("nano"), "-o", &binary]));
    let line =
        format!("ulimit -f 16; {binary} --data {CORPUS} --steps 1 --quiet --export {export}");
    let message = failed(&Command::new("bash").args(["-c", &line]).output().expect("bash"), 3);
    assert!(message.contains("weights.safetensors"), "{message}");
    assert!(!Path::new(&export).exists());
    let line = format!(
        "ulimit -f 16; {} build {} -o {export}",
        env!("CARGO_BIN_EXE_gigac"),
        model("nano")
    );
    failed(&Command::new("bash").args(["-c", &line]).output().expect("bash"), 3);
}

#[test]
fn an_executable_is_reproducible_and_needs_nothing() {
    let place = Place::new();
    let build = |name: &str| {
        let path = place.path(name);
        passed(&place.gigac(&["build", &model("nano"), "-o", &path]));
        path
    };
    let (first, second) = (build("first"), build("second"));
    assert!(read(&first) == read(&second), "two builds differ");
    let out = place.path("run");
    let mut command = Command::new(&first);
    command.env_clear().env("PATH", "").current_dir(place.folder());
    command.args(["--data", CORPUS, "--steps", "2", "--quiet", "--out", &out]);
    passed(&command.output().expect("it starts"));
    assert_eq!(metrics(&out).len(), 2);
    let output = Command::new(&first).arg("--help").env_clear().output().expect("it starts");
    assert!(String::from_utf8_lossy(&passed(&output).stdout).contains("--save-every"));
}

#[test]
fn micro_batches_average() {
    let place = Place::new();
    let init = golden("llama-nano", "init");
    let bytes = read(golden("llama-nano", "batches"));
    let file = SafeTensors::deserialize(&bytes).expect("golden batches");
    let data = file.tensor("tokens").expect("golden tokens").data();
    let batches = |name: &str, shape: [usize; 3], from: usize| {
        let size = 4 * shape.iter().product::<usize>();
        let view = TensorView::new(Dtype::I32, shape.to_vec(), &data[from..from + size]);
        let path = place.path(&format!("{name}.batches"));
        serialize_to_file([("tokens", view.expect("right sizes"))], None, Path::new(&path))
            .expect("the folder is ours");
        path
    };
    let run = |name: &str, batches: &str, steps: &str, more: &[&str]| {
        let (out, grads) = (place.path(name), place.path(&format!("{name}.grads")));
        let mut flags = vec!["--init", &init, "--batches", batches, "--steps", steps];
        flags.extend(["--out", &out, "--dump-grads", &grads, "--quiet"]);
        flags.extend(more);
        passed(&place.train("nano", &flags));
        (metrics(&out), tensors(&grads))
    };
    // Four rows in one step are two micro-batches of two rows.
    let half = data.len() / 20;
    let whole = batches("whole", [3, 4, 33], 0);
    let (both, sum) = run("whole", &whole, "3", &["--set", "train.batch=128"]);
    assert_eq!(both.len(), 3);
    for step in &both {
        assert!(step["loss"].as_f64().is_some_and(f64::is_finite), "{step:?}");
    }
    assert_eq!(both[2]["tokens"], 3 * 128);
    let (a, a_grads) = run("a", &batches("a", [1, 2, 33], 0), "1", &[]);
    let (b, b_grads) = run("b", &batches("b", [1, 2, 33], half), "1", &[]);
    let mean = (number(&a[0], "loss") + number(&b[0], "loss")) / 2.0;
    assert!((number(&both[0], "loss") - mean).abs() < 1e-6 * mean, "{mean} {:?}", both[0]);
    assert_eq!(sum.len(), a_grads.len());
    for (name, sum) in &sum {
        let pairs = a_grads[name].iter().zip(&b_grads[name]);
        let mean: Vec<f64> = pairs.map(|(a, b)| (a + b) / 2.0).collect();
        let distance = distance(sum, &mean);
        assert!(distance < 1e-5, "{name}: {distance:e}");
    }
}

#[test]
fn emulate_tells_right_from_wrong() {
    let place = Place::new();
    let emulate = |folder: &Path| {
        let file = |name: &str| folder.join(name).display().to_string();
        let (kernel, meta, data) =
            (file("kernel.ptx"), file("meta.json"), file("data.safetensors"));
        place.gigac(&["emulate", &kernel, "--launch", &meta, "--data", &data])
    };
    let tests = root().join("emulator/tests");
    for sample in ["vec_add", "reduce_sum", "softmax_row", "matmul_bf16"] {
        passed(&emulate(&tests.join(format!("samples/{sample}.sm_80"))));
    }
    let broken = tests.join("foreign/broken");
    for (program, finding) in [("missing_barrier", "race"), ("no_bounds_check", "out of bounds")] {
        let message = failed(&emulate(&broken.join(program)), 1);
        assert!(message.contains(finding), "{program}: {message}");
        assert!(message.contains("kernel.ptx:") || message.contains("line"), "{message}");
    }
}
