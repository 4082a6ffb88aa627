//! `gigac plan`: what it says is about the plan that it describes.

use gigac::compile::{self, CompiledPhase, Request};
use gigac::report::{Live, Report, html, json, text};
use gigac_cost::schedule::seconds;
use gigac_cost::target::{CpuFacts, Device, cpu};
use gigac_ir::graph::{DType, Op, ParamId, Slot, ValueId};
use gigac_ir::kernel::{Access, BufferId, Expr, Stmt};
use gigac_ir::plan::Category;
use gigac_passes::driver::{Alone, drive};
use gigac_passes::options::Options;
use gigac_passes::pass::{Context, Purpose, Stage};
use gigac_passes::pipeline::{self, PIPELINE, Source, position};
use std::collections::BTreeSet;
use std::path::Path;

fn phase(model: &str, sets: &[&str]) -> CompiledPhase {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    phase_with(model, &sets, Options::default())
}

fn phase_with(model: &str, sets: &[String], options: Options) -> CompiledPhase {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(model);
    let request = Request::read(&path, sets, options).expect("the model is there");
    compile::phases(&request, &mut Alone).expect("it compiles").remove(0)
}

fn devices() -> Vec<Device> {
    let gpu = |name| Device::named(name).expect("built in");
    vec![cpu(&CpuFacts::default()), gpu("a100"), gpu("h100")]
}

#[test]
fn figures_agree_with_each_other() {
    let phase = phase("nano.giga", &[]);
    let plan = &phase.programs.step.plan;
    for device in devices() {
        let said = Report::new(&phase, &device);
        let memory = &said.memory;
        let sum: u64 = memory.rows.iter().map(|(_, bytes)| bytes).sum();
        // Buffers are rounded up to whole cache lines.
        assert!(sum <= memory.live && memory.live <= sum + 64 * plan.buffers.len() as u64);
        assert!(memory.live <= memory.arena);
        let most = memory.curve.iter().map(|at| at.values().sum::<u64>()).max();
        assert_eq!(most, Some(sum), "the peak is the highest point of the curve");
        // One stream: kernels and copies one after another.
        let kernels: f64 = said.kernels.iter().map(|k| k.seconds).sum();
        assert!(kernels <= said.step.seconds * (1.0 + 1e-9));
        assert_eq!(said.simulation.busy, [said.simulation.end]);
        assert!(said.step.utilisation() > 0.0 && said.step.utilisation() < 1.0);
    }
}

/// Whoever runs out of memory wants to know by which line of the model.
#[test]
fn buffers_and_kernels_are_called_what_the_model_calls_them() {
    for (model, sets) in [("nano.giga", &[][..]), ("gigachat-pro-29b.giga", &[][..])] {
        let phase = phase(model, sets);
        let plan = &phase.programs.step.plan;
        for param in plan.params.iter().filter(|param| !param.frozen) {
            let (name, moment) = (&param.name, |n| format!("{}, {n} moment", param.name));
            for name in [name.clone(), moment("first"), moment("second"), format!("d {name}")] {
                let found = plan.buffers.iter().filter(|buffer| buffer.name == name).count();
                assert_eq!(found, 1, "{model}: {name}");
            }
        }
        for state in plan.states.iter().filter(|s| s.slot == Slot::Rounded) {
            let name = format!("{}, in bf16", plan.params[state.param as usize].name);
            let found = plan.buffers.iter().filter(|buffer| buffer.name == name);
            let found: Vec<_> = found.map(|buffer| (buffer.category, buffer.offset)).collect();
            assert_eq!(found, [(Category::Copies, state.offset)], "{model}: {name}");
        }
        let said = Report::new(&phase, &devices()[1]);
        let line = |l: &Live| l.line.as_ref().map(|line| (line.number, line.text.clone()));
        let saved = said.memory.peak.live.iter().filter(|l| l.category == Category::Saved);
        let lines: Vec<_> = saved.map(line).collect();
        assert!(lines.iter().all(Option::is_some), "{model}: {lines:?}");
        let gate = |(_, text): &(usize, String)| text == "dot(h, gate; D)";
        assert!(lines.iter().flatten().any(gate), "{model}: {lines:?}");
        let dear = &said.kernels[0];
        assert!(dear.line.as_ref().is_some_and(|line| line.text.contains("dot(")), "{model}");
        assert!(said.kernels.iter().all(|kernel| !kernel.origin.is_empty()), "{model}");
    }
}

/// Every shipped model in bf16: no program makes a copy of a weight any more, every copy that there is is
/// read by one, and a step writes it where it lies. In f32 there are none.
#[test]
fn weights_in_bf16_are_states() {
    for name in &shipped() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
        for precision in ["f32", "bf16"] {
            let sets = [format!("train.precision={precision}")];
            let request = Request::read(&path, &sets, Options::default()).expect("a model");
            let mut read = BTreeSet::new();
            let phases = compile::checked(&request).expect("a model");
            for phase in &phases {
                for purpose in [Purpose::Step, Purpose::Evaluate, Purpose::Outputs] {
                    let at = position("chunk");
                    let stage = pipeline::compile(
                        phase.source(),
                        purpose,
                        &request.options,
                        at,
                        &mut Alone,
                    );
                    let Stage::Graph(graph) = stage else { unreachable!("`chunk` takes a graph") };
                    let state = |value: &ValueId| {
                        let mut nodes = graph.root.nodes.iter();
                        let node = nodes.find(|n| n.results.contains(value))?;
                        Some(node.op.clone()).filter(|op| matches!(op, Op::Param(..)))
                    };
                    for node in &graph.root.nodes {
                        match node.op {
                            Op::Param(param, Slot::Rounded) => _ = read.insert(param),
                            Op::Cast(DType::Bf16) => {
                                assert_eq!(state(&node.operands[0]), None, "{name} {purpose:?}");
                            }
                            _ => {}
                        }
                    }
                }
                let params = phase.graph.params.iter().zip(0..);
                let rounded = params.filter(|(p, _)| p.rounded).map(|(_, i)| ParamId(i));
                assert_eq!(read, rounded.collect(), "{name} in {precision}");
            }
            assert_eq!(read.is_empty(), precision == "f32", "{name}");
        }
    }
}

fn shipped() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let files = std::fs::read_dir(folder).expect("models are shipped");
    let names = files.map(|f| f.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names: Vec<String> = names.filter(|name| name != "prelude.giga").collect();
    assert!(names.iter().any(|name| name.contains("29b")) && names.len() > 9, "{names:?}");
    names
}

/// For every shipped model, on a CPU and an A100, in both precisions, within several limits: the
/// arena is within 2 % of what is live at one time, whatever was dropped to get there.
#[test]
fn arenas_are_near_their_lower_bounds() {
    let devices = [cpu(&CpuFacts::default()), Device::named("a100").expect("built in")];
    std::thread::scope(|scope| {
        for name in shipped() {
            let devices = &devices;
            scope.spawn(move || {
                for device in devices {
                    for precision in ["f32", "bf16"] {
                        within_limits(&name, device, precision);
                    }
                }
            });
        }
    });
}

fn within_limits(name: &str, device: &Device, precision: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    let mut options = Options::default();
    options.aim(device);
    let sets = [format!("train.precision={precision}")];
    let request = Request::read(&path, &sets, options).expect("the model is there");
    let phases = compile::checked(&request).expect("shipped models are right");
    let Source { settings, micro, prefix, .. } = phases[0].source();
    let (purpose, mut options) = (Purpose::Step, request.options);
    // Nothing before this pass knows of the limit.
    let limited = position("checkpoint");
    let before = pipeline::compile(phases[0].source(), purpose, &options, limited, &mut Alone);
    let Stage::Formed(formed) = before else { unreachable!("what is dropped is of kernels") };
    let mut arena = |memory: u64| {
        options.memory = Some(memory);
        let context = Context { purpose, settings, micro, prefix, options: &options };
        let stage = Stage::Formed(formed.clone());
        let rest = drive(&PIPELINE[limited..], limited, stage, &context, &mut Alone);
        let Stage::Placed(placed) = rest else { unreachable!("the list ends with a plan") };
        let (arena, live) = (placed.plan.arena_bytes, placed.plan.live_bytes);
        let what = format!("{name} {precision} on {} in {memory}", device.name);
        assert!(arena * 100 <= live * 102, "{what}: {arena} bytes, {live} live");
        arena
    };
    let (all, least) = (arena(1 << 50), arena(1));
    for part in [1, 3, 5, 7, 9] {
        let limit = least + (all - least) / 10 * part;
        assert!(arena(limit) <= limit, "{name} {precision} in {limit}");
    }
}

/// Whether a kernel reads what lies in a buffer before it has written there; none when it does neither.
fn reads_first(body: &[Stmt], buffer: BufferId) -> Option<bool> {
    body.iter().find_map(|stmt| match stmt {
        Stmt::Let(_, Expr::Load { buffer: b, .. }) => (*b == buffer).then_some(true),
        Stmt::Store { buffer: b, accumulate, .. } => (*b == buffer).then_some(*accumulate),
        Stmt::Loop { body, .. } => reads_first(body, buffer),
        _ => None,
    })
}

/// What a kernel reads and writes it has written itself: nothing of what lay there before comes in. So runs
/// that watch memory need to look at nothing but what is only read.
#[test]
fn kernels_write_first_what_they_update() {
    let mut updates = 0;
    for name in ["bench-s", "gpt2-124m", "moe-nano", "gigachat-pro-29b"] {
        for precision in ["f32", "bf16"] {
            let sets = [format!("train.precision={precision}")];
            let phase = phase_with(&format!("{name}.giga"), &sets, Options::default());
            for kernel in &phase.programs.step.kernels {
                for (i, buffer) in kernel.buffers.iter().enumerate() {
                    if buffer.access == Access::ReadWrite {
                        let first = reads_first(&kernel.body, BufferId(i as u32));
                        assert_eq!(first, Some(false), "{name} {precision}: {kernel}");
                        updates += 1;
                    }
                }
            }
        }
    }
    assert!(updates > 8, "attention and lookups update in every model");
}

#[test]
fn a_faster_device_is_faster_and_layers_add_up() {
    let [shallow, deep] = ["L=2", "L=200"].map(|layers| phase("nano.giga", &[layers]));
    let [slow, fast] = ["a100", "h100"].map(|name| Device::named(name).expect("built in"));
    let of = |phase, device| Report::new(phase, device).step.seconds;
    assert!(of(&deep, &fast) < of(&deep, &slow));
    let (two, many) = (of(&shallow, &slow), of(&deep, &slow));
    assert!(many > 30.0 * two, "{two} s for 2 layers, {many} s for 200");
    let spans = |phase| Report::new(phase, &slow).simulation.spans.len();
    let some = phase("nano.giga", &["L=20"]);
    assert_eq!(spans(&deep), spans(&some), "what is simulated does not grow with depth");
}

/// What is left to the host is named with its place in the model file.
#[test]
fn nothing_depends_on_the_host() {
    let mut phase = phase("nano.giga", &[]);
    let device = Device::named("a100").expect("built in");
    let said = Report::new(&phase, &device);
    assert!(text::text(&said).contains("nothing depends on it"));
    assert_eq!(json::json(&said)["host_dependences"].as_array().map(Vec::len), Some(0));
    let items = &mut phase.programs.step.plan.items;
    items.truncate(items.len() - 1);
    let said = Report::new(&phase, &device);
    let found = said.host.as_ref().expect_err("an update is missing");
    let line = found.iter().find(|line| line.contains("is left to the host")).expect("an update");
    let place: Vec<&str> = line.split(':').collect();
    assert!(place[0].ends_with("nano.giga"), "{line}");
    let number: usize = place[1].parse().expect("a line");
    let model = include_str!("../models/nano.giga");
    let name = line.split('`').nth(1).expect("a parameter").trim_start_matches("block.");
    assert!(model.lines().nth(number - 1).expect("the line").contains(name), "{line}");
    assert!(text::text(&said).contains(line));
}

#[test]
fn all_forms_say_the_same() {
    let phase = phase("nano.giga", &[]);
    let mut said = Report::new(&phase, &Device::named("a100").expect("built in"));
    said.cluster = Some("of eight one is used".into());
    let (text, json, html) = (text::text(&said), json::json(&said), html::html(&said));
    assert_eq!(json["cluster"].as_str(), said.cluster.as_deref());
    assert!(text.contains("of eight one is used") && html.contains("of eight one is used"));
    let step = said.step.seconds;
    assert_eq!(json["step_s"].as_f64(), Some(step));
    assert_eq!(json["arena_bytes"].as_u64(), Some(said.memory.arena));
    assert_eq!(json["kernel_times"].as_array().map(Vec::len), Some(said.kernels.len()));
    assert!(text.contains(&format!("{step:.6} s")), "{text}");
    assert!(text.contains(&said.memory.peak.what), "{text}");
    assert!(html.contains(&format!("{step:.6} s")));
    for outside in ["http:", "https:", "src=", "@import"] {
        assert!(!html.contains(outside), "the page needs nothing else");
    }
}

#[test]
fn traces_are_whole() {
    let phase = phase("nano.giga", &["L=50"]);
    let said = Report::new(&phase, &Device::named("a100").expect("built in"));
    let text = gigac_cost::trace::chrome(&said.schedule, &said.simulation);
    let trace: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let spans = events.iter().filter(|e| e["ph"] == "X");
    let total: f64 = spans.clone().map(|e| e["dur"].as_f64().expect("a length")).sum();
    let busy: f64 = said.simulation.busy.iter().map(|b| seconds(*b)).sum();
    assert!((total / 1e6 / busy - 1.0).abs() < 1e-9, "{total} us of {busy} s");
    assert!(spans.count() < 1000);
}
