//! `gigac emulate`: what it answers, compares and refuses.

use std::process::Output;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::support::{Place, failed, model, passed};

/// A kernel that doubles `n` numbers, with its launch and data in a place of its own.
struct Doubling(Place);

impl Doubling {
    const KERNEL: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry double(.param .u64 x, .param .u64 y, .param .u32 n, .param .u64 scratch) {
.reg .pred %p<2>; .reg .b32 %r<3>; .reg .b64 %rd<5>; .reg .f32 %f<2>;
ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u32 %r1, [n];
mov.u32 %r2, %tid.x;
setp.ge.u32 %p1, %r2, %r1;
@%p1 ret;
mul.wide.u32 %rd3, %r2, 4; add.s64 %rd4, %rd1, %rd3; add.s64 %rd3, %rd2, %rd3;
ld.global.f32 %f1, [%rd4];
add.f32 %f1, %f1, %f1;
st.global.f32 [%rd3], %f1;
ret;
}
";

    /// 32 numbers and 16 of guard; what is expected is off by the factor `1 + error`.
    fn new(n: u32, tolerance: f64, error: f32, y_role: &str) -> Self {
        let place = Place::new();
        place.write("kernel.ptx", Self::KERNEL.as_bytes());
        let buffer = |name: &str, role: &str| {
            serde_json::json!({"name": name, "kind": "buffer", "dtype": "f32", "elements": 48, "role": role,
                "tolerance": tolerance})
        };
        let meta = serde_json::json!({
            "entry": "double", "grid": [1, 1, 1], "block": [64, 1, 1], "dynamic_shared_bytes": 0, "target": "sm_80",
            "params": [buffer("x", "in"), buffer("y", y_role),
                {"name": "n", "kind": "scalar", "dtype": "i32", "value": n},
                {"name": "scratch", "kind": "null_pointer"}],
        });
        place.write("meta.json", meta.to_string().as_bytes());
        let x: Vec<f32> = (0..48).map(|i| i as f32 + 1.0).collect();
        let y = [vec![f32::NAN; 32], vec![7.0; 16]].concat();
        let good: Vec<f32> = x[..32].iter().map(|v| 2.0 * v * (1.0 + error)).collect();
        let good = [good, vec![7.0; 16]].concat();
        let bytes =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (x, y, good) = (bytes(&x), bytes(&y), bytes(&good));
        let view = |bytes| TensorView::new(Dtype::F32, vec![48], bytes).expect("48 numbers");
        let mut tensors = vec![("init.x", view(&x[..])), ("init.y", view(&y[..]))];
        if y_role != "in" {
            tensors.push(("expect.y", view(&good[..])));
        }
        let data = safetensors::serialize(tensors, None).expect("tensors");
        place.write("data.safetensors", &data);
        Self(place)
    }

    fn emulate(&self, flags: &[&str]) -> Output {
        let [kernel, meta, data] =
            ["kernel.ptx", "meta.json", "data.safetensors"].map(|name| self.0.path(name));
        let words = ["emulate", &kernel, "--launch", &meta, "--data", &data];
        self.0.gigac(&[&words, flags].concat())
    }
}

#[test]
fn emulate_answers_in_json_in_tensors_and_in_listings() {
    let case = Doubling::new(32, 0.0, 0.0, "out");
    let out = case.0.path("out.safetensors");
    let output = case.emulate(&["--json", "--gpu", "h100", "--out", &out]);
    passed(&output);
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else");
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["instructions"]["st.global.f32"], 1, "one of two warps stores");
    assert_eq!(answer["instructions"]["setp.ge.u32"], 2);
    assert_eq!(answer["global_transactions"], 8, "4 sectors in and 4 out");
    assert_eq!((&answer["shared_transactions"], &answer["bank_conflicts"]), (&0.into(), &0.into()));
    assert_eq!(answer["estimate"]["gpu"], "h100");
    let bytes = std::fs::read(&out).expect("the buffers");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(tensors.tensor("y").expect("y").data()[..8], [0, 0, 0, 64, 0, 0, 128, 64]);
    let output = case.emulate(&["--profile", "--gpu", "h200"]);
    passed(&output);
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let store =
        listing.lines().find(|l| l.contains("st.global.f32")).expect("the line of the store");
    let fields: Vec<&str> =
        store.split('|').next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(fields, ["1", "32.0", "4.0"], "warps, lanes, sectors of a request");
    assert!(listing.contains("on h200 (estimate, bound by"), "{listing}");
}

#[test]
fn emulate_compares_with_tolerance_and_guards_exactly() {
    passed(&Doubling::new(32, 1e-2, 1e-3, "out").emulate(&[]));
    let message = failed(&Doubling::new(32, 1e-5, 1e-3, "out").emulate(&[]), 1);
    assert!(message.contains("`y`: 32 of 48 elements differ; element 0 is 2"), "{message}");
    // The 33rd thread writes into the guard; no tolerance covers that.
    let message = failed(&Doubling::new(33, 1e9, 0.0, "out").emulate(&[]), 1);
    assert!(
        message.contains("element 32 (in the guard behind the buffer) is 66, expected 7"),
        "{message}"
    );
    let message = failed(&Doubling::new(32, 1e9, 0.0, "in").emulate(&[]), 1);
    assert!(message.contains("`y`: 32 of 48 elements differ"), "{message}");
    let beyond = Doubling::new(64, 1e9, 0.0, "out").emulate(&["--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&beyond.stdout).expect("JSON");
    assert_eq!(answer["findings"][0]["kind"], "out_of_bounds");
    assert_eq!(answer["findings"][0]["at"]["line"], 11);
    assert_eq!(answer["findings"][0]["at"]["thread"][0], 48);
    assert!(answer["findings"][0]["address"].is_u64(), "{answer}");
}

#[test]
fn emulate_says_whose_fault_it_is() {
    let case = Doubling::new(32, 0.0, 0.0, "out");
    let wrong = Doubling::KERNEL.replace("add.f32", "add.f33");
    case.0.write("kernel.ptx", wrong.as_bytes());
    let message = failed(&case.emulate(&[]), 1);
    assert!(message.contains("kernel.ptx:12:") && message.contains("add.f33"), "{message}");
    case.0.write("kernel.ptx", Doubling::KERNEL.as_bytes());
    failed(&case.emulate(&["--gpu", "v100"]), 2);
    failed(&case.emulate(&["--no-check", "everything"]), 2);
    failed(&case.0.gigac(&["emulate", &case.0.path("kernel.ptx")]), 2);
    failed(&case.emulate(&["--out", &case.0.path("no/such/folder")]), 3);
    case.0.write("meta.json", b"{}");
    let message = failed(&case.emulate(&[]), 1);
    assert!(message.contains("meta.json") && message.contains("entry"), "{message}");
    for (order, seed) in [("lock-step", "0"), ("highest", "0"), ("random", "5")] {
        passed(&Doubling::new(32, 0.0, 0.0, "out").emulate(&["--schedule", order, "--seed", seed]));
    }
}

/// Every kernel of a step goes from the model file to the emulator with nothing but its own files.
#[test]
fn kernels_that_are_emitted_can_be_emulated() {
    let place = Place::new();
    let folder = place.path("kernels");
    let model = model("nano");
    let bf16 = ["--set", "train.precision=bf16"];
    passed(&place.gigac(
        &[&["emit", "ptx", &model, "--target", "sm_80", "-o", &folder], &bf16[..]].concat(),
    ));
    let files = std::fs::read_dir(&folder).expect("the folder of kernels");
    let names = files.map(|f| f.expect("a file").path().display().to_string());
    let metas: Vec<String> = names.filter(|name| name.ends_with(".meta.json")).collect();
    assert!(metas.len() > 30, "{}", metas.len());
    assert!(metas.iter().any(|meta| meta.contains("_together_")), "{metas:?}");
    for meta in metas {
        let text = std::fs::read_to_string(&meta).expect("a launch");
        let launch: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let buffers = launch["params"].as_array().expect("parameters").iter();
        let buffers = buffers.filter(|p| p["kind"] == "buffer").map(|p| {
            let elements = p["elements"].as_u64().expect("a count") as usize;
            let (dtype, bytes) = match p["dtype"].as_str() {
                Some("f32") => (Dtype::F32, 4),
                Some("bf16") => (Dtype::BF16, 2),
                Some("i32") => (Dtype::I32, 4),
                _ => (Dtype::BOOL, 1),
            };
            let name = format!("init.{}", p["name"].as_str().expect("a name"));
            (name, dtype, elements, vec![0; bytes * elements])
        });
        let buffers: Vec<_> = buffers.collect();
        let tensors = buffers.iter().map(|(name, dtype, elements, bytes)| {
            (name, TensorView::new(*dtype, vec![*elements], bytes).expect("whole elements"))
        });
        let data = safetensors::serialize(tensors, None).expect("tensors");
        let data = place.write("data.safetensors", &data);
        let ptx = meta.replace(".meta.json", ".ptx");
        passed(&place.gigac(&["emulate", &ptx, "--launch", &meta, "--data", &data]));
    }
}
