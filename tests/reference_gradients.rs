//! The reference interpreter against PyTorch: loss and gradients of step 0 of the golden models.
//!
//! What kernels compute is judged by the interpreter, so the interpreter is judged here, together
//! with the language, the prelude and differentiation. PyTorch computed in f32, we in f64: what is
//! left between them is its rounding.

use std::path::{Path, PathBuf};

use gigac_frontend::{Mode, Source, compile};
use gigac_ir::graph::{AxisId, Graph, InputId, NamePart, Param, ParamId, Role, Slot};
use gigac_ir::interpret::{Bindings, interpret};
use gigac_ir::tensor::Tensor;
use gigac_ir::train::Settings;
use gigac_passes::pass::Purpose;
use gigac_passes::pipeline::{self, Source as Compiled};
use safetensors::SafeTensors;

/// Relative Frobenius distance, and relative distance of losses.
const TOLERANCE: f64 = 2e-6;

#[test]
fn llama_nano() {
    check("nano", "llama-nano");
}

#[test]
fn gpt2_nano() {
    check("gpt2-nano", "gpt2-nano");
}

fn check(model: &str, case: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden").join(case);
    let joint = joint(&root.join(format!("models/{model}.giga")));
    joint.verify().expect("joint graphs are well formed");
    let results = interpret(&joint, &bindings(&joint, &golden)).expect("everything is bound");
    let bytes = read(&golden, "grads0.safetensors");
    let expected = SafeTensors::deserialize(&bytes).expect("golden gradients");
    for ((role, _), value) in joint.results().zip(&results) {
        match role {
            Role::Loss => {
                let loss = golden_loss(&golden);
                assert!((value.data[0] - loss).abs() < TOLERANCE * loss, "{}", value.data[0]);
            }
            Role::Gradient(id) => {
                let param = &joint.params[id.index()];
                let distance = distance(
                    &stored_order(&joint, param, value),
                    &tensors(&joint, param, &expected),
                );
                assert!(distance < TOLERANCE, "{}: {distance:e}", param.name);
            }
            _ => {}
        }
    }
}

fn joint(path: &PathBuf) -> Graph {
    let text = std::fs::read_to_string(path).expect("a shipped model");
    let source = Source::new(path.display().to_string(), text);
    let load = |name: &str| Err(format!("no model uses `{name}`"));
    let model = compile(&source, &load, &[], Mode { training: true });
    let training = &model.expect("shipped models are right").graph;
    let settings = &Settings::default();
    let source = Compiled { training, evaluating: training, settings, micro: 1, prefix: "" };
    pipeline::graph_before(source, Purpose::Step, "optimizer")
}

fn read(golden: &Path, name: &str) -> Vec<u8> {
    std::fs::read(golden.join(name)).expect("golden files are shipped")
}

fn golden_loss(golden: &Path) -> f64 {
    let trace: serde_json::Value =
        serde_json::from_slice(&read(golden, "trace.json")).expect("a golden trace");
    trace["trace"][0]["loss"].as_f64().expect("a loss for step 0")
}

/// The initial weights and the first batch: `tokens` are all but the last of a row, `targets` all
/// but the first.
fn bindings(joint: &Graph, golden: &Path) -> Bindings {
    let (init, batches) = (read(golden, "init.safetensors"), read(golden, "batches.safetensors"));
    let init = SafeTensors::deserialize(&init).expect("golden weights");
    let batches = SafeTensors::deserialize(&batches).expect("golden batches");
    let mut bindings = Bindings::default();
    for (i, param) in joint.params.iter().enumerate() {
        let key = (ParamId(i as u32), Slot::Weight);
        bindings.params.insert(key, tensors(joint, param, &init));
    }
    let tokens = batches.tensor("tokens").expect("golden tokens");
    let row = tokens.shape()[2];
    let first: Vec<f64> = tokens.data()[..4 * row * tokens.shape()[1]]
        .chunks_exact(4)
        .map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    for (i, input) in joint.inputs.iter().enumerate() {
        let skip = usize::from(input.name == "targets");
        let rows = first.chunks(row).flat_map(|r| &r[skip..skip + row - 1]);
        bindings.inputs.insert(InputId(i as u32), rows.copied().collect());
    }
    bindings
}

/// All stored tensors of a parameter, one after the other: its elements, as its spread axes stand
/// in front.
fn tensors(graph: &Graph, param: &Param, file: &SafeTensors) -> Vec<f64> {
    let axes = param.axes();
    assert_eq!(axes[..param.stored.spread.len()], param.stored.spread, "{}", param.name);
    let sizes: Vec<u64> = param.stored.spread.iter().map(|a| graph.size(*a)).collect();
    let count: u64 = sizes.iter().product();
    let names = (0..count).map(|i| name(param, &digits(i, &sizes)));
    names
        .flat_map(|name| {
            let tensor = file.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
            let word = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            tensor.data().chunks_exact(4).map(word).collect::<Vec<f64>>()
        })
        .collect()
}

/// The positions along axes of a row-major index.
fn digits(mut index: u64, sizes: &[u64]) -> Vec<u64> {
    let mut digits = vec![0; sizes.len()];
    for (digit, size) in digits.iter_mut().zip(sizes).rev() {
        *digit = index % size;
        index /= size;
    }
    digits
}

fn name(param: &Param, at: &[u64]) -> String {
    let position = |axis: &AxisId| {
        let i = param.stored.spread.iter().position(|a| a == axis);
        at[i.expect("names use spread axes")]
    };
    let part = |part: &NamePart| match part {
        NamePart::Text(text) => text.clone(),
        NamePart::Number { constant, terms } => {
            let sum: i64 = terms.iter().map(|(a, c)| c * position(a) as i64).sum();
            (constant + sum).to_string()
        }
        NamePart::Choice { axis, names } => names[position(axis) as usize].clone(),
    };
    param.stored.name.iter().map(part).collect()
}

fn stored_order(graph: &Graph, param: &Param, value: &Tensor) -> Vec<f64> {
    let axes = param.axes();
    let sizes: Vec<usize> = axes.iter().map(|a| graph.size(*a) as usize).collect();
    value.arranged(&axes, &sizes).data
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>();
    let apart = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (apart / square(&mut b.iter().copied())).sqrt()
}
