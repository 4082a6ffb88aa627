//! Launches of several kernels: under every schedule they leave the bits that a launch of each of them leaves, which are near
//! those of the kernel interpreter.

use std::path::Path;

use gigac::compile::{self, Request};
use gigac_codegen::nvptx::{GpuTarget, compile_launch};
use gigac_cost::target::Device;
use gigac_ir::kernel::{Access, Arithmetic, Buffer, Kernel};
use gigac_ir::plan::Launched;
use gigac_passes::driver::Alone;
use gigac_passes::options::Options;
use gigac_passes::pass::{Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE};

use super::{additions, content, gpu, tolerance};

/// Checks what a model's training step launches together; gives how many kernels each launch has.
fn check(model: &str, sets: &[&str]) -> Vec<usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{model}.giga"));
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let mut options = Options::default();
    options.aim(&Device::named("a100").expect("built in"));
    let request = Request::read(&path, &sets, options).expect("models of tests are right");
    let phases = compile::checked(&request).expect("models of tests are right");
    let (source, options) = (phases[0].source(), &request.options);
    let end = PIPELINE.len();
    let Stage::Placed(placed) = pipeline::compile(source, Purpose::Step, options, end, &mut Alone)
    else {
        unreachable!("the pipeline ends with a plan")
    };
    let several = placed.plan.launched().into_iter().filter(|launch| launch.kernels.len() > 1);
    several
        .map(|Launched { name, kernels }| {
            let of = |kernel: &u32| &placed.kernels[*kernel as usize];
            check_launch(&name, &kernels.iter().map(of).collect::<Vec<_>>());
            kernels.len()
        })
        .collect()
}

fn check_launch(name: &str, kernels: &[&Kernel]) {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let parts: Vec<gpu::Part> = kernels
        .iter()
        .map(|kernel| gpu::Part {
            kernel,
            arguments: arguments(kernel).map(|b| content(b, &mut state)).collect(),
            scalars: vec![0; kernel.scalars.len()],
        })
        .collect();
    let mut alone = Vec::new();
    for gpu::Part { kernel, arguments: given, scalars } in &parts {
        let results = gpu::run(kernel, given, scalars).swap_remove(0).1;
        let mut expect = given.clone();
        kernel.interpret(&mut expect, scalars, Arithmetic::F32).expect("the arguments fit");
        for ((buffer, x), y) in arguments(kernel).zip(&results).zip(&expect) {
            let bound = tolerance(buffer.storage, additions(kernel));
            let near = |(x, y): (&f64, &f64)| {
                x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= bound * y.abs().max(1.0)
            };
            assert!(x.iter().zip(y).all(near), "{name}, {}: {kernel}", buffer.name);
        }
        alone.extend(results);
    }
    let code = compile_launch(name, kernels, GpuTarget::Sm80).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(code.ptx.matches(".entry").count(), 1, "{name}");
    assert!(!code.ptx.contains(".local") && !code.ptx.contains(".func"), "{}", code.ptx);
    for (schedule, together) in gpu::run_launch(&code, &parts) {
        let same = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
        let equal = together.iter().flatten().zip(alone.iter().flatten()).all(same);
        assert!(equal && together.len() == alone.len(), "{schedule:?}: {name}");
    }
}

fn arguments(kernel: &Kernel) -> impl Iterator<Item = &Buffer> {
    kernel.buffers.iter().filter(|b| b.access != Access::Local)
}

/// One launch updates all parameters, of which nano has this many.
#[test]
fn nano_step() {
    for sets in [&["T=16"][..], &["T=16", "train.precision=bf16"]] {
        let launches = check("nano", sets);
        assert!(launches.len() > 3 && launches.iter().any(|parts| *parts >= 12), "{launches:?}");
    }
}

#[test]
fn other_steps() {
    for model in ["gpt2-nano", "moe-nano"] {
        assert!(!check(model, &["train.precision=bf16"]).is_empty(), "{model}");
    }
}
