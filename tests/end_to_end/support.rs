//! What the tests share: a folder of their own, the command, and comparisons with golden traces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// How far a run may be from a golden trace: relative, as the contract states them.
const LOSS: f64 = 1e-4;
const NORM: f64 = 1e-3;
const GRADIENTS: f64 = 1e-4;
const WEIGHTS: f64 = 1e-3;

/// Metrics that do not depend on the clock.
const FIELDS: [&str; 5] = ["step", "loss", "grad_norm", "lr", "tokens"];

/// The shipped text.
pub(crate) const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/corpus");

/// A folder for the files of one test, and for its cache of executables.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the folder is ours");
        path
    }

    pub(crate) fn gigac(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gigac"));
        command.args(words).env("XDG_CACHE_HOME", self.0.path().join("cache"));
        command.output().expect("the command starts")
    }

    pub(crate) fn train(&self, name: &str, flags: &[&str]) -> Output {
        self.gigac(&[&["train", &model(name)], flags].concat())
    }

    /// Follows a golden trace with one thread and with two.
    pub(crate) fn follow(&self, model: &str, golden: &Path) {
        let exports = ["1", "2"].map(|threads| {
            let run = Run::under(self.path(threads));
            let mut flags = run.flags(golden);
            flags.extend(["--threads", threads].map(str::to_owned));
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            passed(&self.gigac(&[&["train", model], &flags[..]].concat()));
            run.judge(golden);
            (read(&run.export), read(&run.grads), metrics(&run.out))
        });
        assert!(exports[0] == exports[1], "one thread and two differ");
    }
}

/// The files of a run that a golden trace judges.
pub(crate) struct Run {
    /// The output directory.
    out: String,
    /// Gradients of the first step.
    pub(crate) grads: String,
    /// Weights at the end.
    pub(crate) export: String,
}

impl Run {
    /// Files under a prefix.
    pub(crate) fn under(prefix: String) -> Self {
        let (grads, export) = (format!("{prefix}.grads"), format!("{prefix}.export"));
        Self { out: prefix, grads, export }
    }

    /// The flags that train as a golden trace was made.
    pub(crate) fn flags(&self, golden: &Path) -> Vec<String> {
        let file = |name: &str| golden.join(format!("{name}.safetensors")).display().to_string();
        let (init, batches) = (file("init"), file("batches"));
        let flags = [
            ["--init", &init],
            ["--batches", &batches],
            ["--dump-grads", &self.grads],
            ["--export", &self.export],
            ["--out", &self.out],
        ];
        flags.as_flattened().iter().copied().chain(["--quiet"]).map(str::to_owned).collect()
    }

    /// Compares everything with the golden trace.
    pub(crate) fn judge(&self, golden: &Path) {
        let file = |name: &str| golden.join(format!("{name}.safetensors")).display().to_string();
        close(&self.grads, &file("grads0"), GRADIENTS);
        follow(&metrics(&self.out), golden);
        close(&self.export, &file("final"), WEIGHTS);
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn model(name: &str) -> String {
    root().join(format!("models/{name}.giga")).display().to_string()
}

pub(crate) fn golden(case: &str, name: &str) -> String {
    root().join(format!("tests/golden/{case}/{name}.safetensors")).display().to_string()
}

pub(crate) fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn passed(output: &Output) -> &Output {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The message of a command that ended with a code. A message is never a panic.
pub(crate) fn failed(output: &Output, code: i32) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.trim().is_empty() && !message.contains("panicked"), "{message}");
    message
}

/// What a run wrote about each step, without what depends on the clock.
pub(crate) fn metrics(out: &str) -> Vec<BTreeMap<&'static str, Value>> {
    let text = std::fs::read_to_string(Path::new(out).join("metrics.jsonl")).expect("metrics");
    let line = |line: &str| {
        let step: Value = serde_json::from_str(line).expect("one object in a line");
        FIELDS.map(|f| (f, step[f].clone())).into_iter().collect()
    };
    text.lines().map(line).collect()
}

pub(crate) fn number(step: &BTreeMap<&'static str, Value>, field: &str) -> f64 {
    step[field].as_f64().unwrap_or_else(|| panic!("{field}: {step:?}"))
}

/// Compares losses and norms of all steps with a golden trace.
fn follow(steps: &[BTreeMap<&'static str, Value>], golden: &Path) {
    let case = golden.display();
    let golden: Value =
        serde_json::from_slice(&read(golden.join("trace.json"))).expect("a golden trace");
    let golden = golden["trace"].as_array().expect("steps");
    assert_eq!(steps.len(), golden.len());
    let mut wrong = String::new();
    for (step, golden) in steps.iter().zip(golden) {
        for (field, tolerance) in [("step", 0.0), ("lr", 1e-6), ("loss", LOSS), ("grad_norm", NORM)]
        {
            let (ours, theirs) = (number(step, field), golden[field].as_f64().expect("a number"));
            if (ours - theirs).abs() > tolerance * theirs.abs() {
                wrong += &format!("\nstep {}: {field} {ours}, golden {theirs}", step["step"]);
            }
        }
    }
    assert!(wrong.is_empty(), "{case}:{wrong}");
}

/// All tensors of a file, by name.
pub(crate) fn tensors(path: &str) -> BTreeMap<String, Vec<f64>> {
    let bytes = read(path);
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
    let word = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let tensor = |(name, view): (String, TensorView)| {
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        (name, view.data().chunks_exact(4).map(word).collect())
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// Compares the tensors of two files: the same names and shapes, and near values.
fn close(ours: &str, golden: &str, tolerance: f64) {
    let shapes = |path: &str| {
        let bytes = read(path);
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
        let shape = |(name, view): (String, TensorView)| (name, view.shape().to_vec());
        file.tensors().into_iter().map(shape).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(shapes(ours), shapes(golden));
    let values = tensors(ours);
    let mut wrong = String::new();
    for (name, golden) in tensors(golden) {
        let distance = distance(&values[&name], &golden);
        if distance > tolerance {
            wrong += &format!("\n{name}: {distance:e}");
        }
    }
    assert!(wrong.is_empty(), "farther than {tolerance:e} from {golden}:{wrong}");
}

/// Relative Frobenius distance.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>();
    let apart = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (apart / square(&mut b.iter().copied())).sqrt()
}
