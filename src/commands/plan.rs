//! `gigac plan`: the memory of a training step and its time on a target.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use gigac_cost::target::{Cluster, Device, TargetError, cpu};
use gigac_cost::trace;
use gigac_passes::checkpoint::{CHECKPOINT, compare};
use gigac_passes::driver::{Alone, Observer, Ran};
use gigac_passes::pass::{Pass, Purpose, Stage};
use gigac_passes::pipeline;
use serde_json::Value;

use super::{ModelArgs, print};
use crate::compile::Request;
use crate::failure::Failure;
use crate::report::{Report, checkpoint, html, json, text};
use crate::{compile, machine};

/// Flags of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The device whose time is simulated: cpu, a100, h100, or a cluster (a100x8 …), of which one
    /// device is taken.
    #[arg(long, default_value = "cpu")]
    target: String,
    /// A cluster from a file, or a built-in one by name.
    #[arg(long, value_name = "C.toml", conflicts_with = "target")]
    cluster: Option<String>,
    /// Measures this CPU first instead of taking figures that follow from its features.
    #[arg(long)]
    measure: bool,
    /// Threads of the CPU (default: all cores).
    #[arg(long)]
    threads: Option<u32>,
    /// Explains what a pass chose, and compares it with other rules.
    #[arg(long, value_enum, value_name = "PASS")]
    explain: Option<Explained>,
    /// Writes the plot of an explanation.
    #[arg(long, value_name = "F.svg", requires = "explain")]
    plot: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes the simulated step for Perfetto (<https://ui.perfetto.dev>).
    #[arg(long, value_name = "T.json")]
    trace: Option<PathBuf>,
    /// Writes the report as one self-contained page.
    #[arg(long, value_name = "R.html")]
    html: Option<PathBuf>,
}

/// The passes that can explain themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Explained {
    /// What is kept for the way back, and what is computed again.
    Checkpoint,
}

/// Runs `plan`.
///
/// # Errors
/// Mistakes of the model or the cluster, an unknown target, files that cannot be written.
pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    let (device, cluster) = device(args)?;
    let mut request = args.model.read()?;
    let given = request.options.memory;
    let limit = given.unwrap_or(device.arena_limit());
    request.options.memory = Some(limit);
    request.options.aim(&device);
    if args.explain.is_some() {
        return explain(args, &request, given);
    }
    let mut notes = Notes::default();
    let phases = compile::phases(&request, &mut notes)?;
    let many = phases.len() > 1;
    let mut objects = Vec::new();
    for (i, phase) in phases.iter().enumerate() {
        let mut report = Report::new(phase, &device);
        report.memory.limit = limit;
        report.cluster.clone_from(&cluster);
        report.memory.checkpoint = notes.checkpoint.get(i).cloned();
        let file = |path: &Path| if many { numbered(path, i) } else { path.to_owned() };
        if let Some(path) = &args.trace {
            write(&file(path), &trace::chrome(&report.schedule, &report.simulation))?;
        }
        if let Some(path) = &args.html {
            write(&file(path), &html::html(&report))?;
        }
        if args.json {
            objects.push(json::json(&report));
        } else {
            print(&text::text(&report))?;
        }
    }
    print_object(objects)
}

/// Prints one object: of the only phase, or of the first one with those of all under `phases`.
fn print_object(mut objects: Vec<Value>) -> Result<(), Failure> {
    let all = objects.clone();
    let Some(first) = objects.first_mut() else { return Ok(()) };
    if all.len() > 1 {
        first["phases"] = all.into();
    }
    print(&format!("{first}\n"))
}

/// Keeps what the passes say about memory.
#[derive(Default)]
struct Notes {
    /// For each phase.
    checkpoint: Vec<String>,
}

impl Observer for Notes {
    fn now(&mut self) -> Duration {
        Duration::ZERO
    }

    fn watches(&self, _: &Pass) -> bool {
        false
    }

    fn ran(&mut self, ran: &Ran<'_>) {
        if ran.pass.name == CHECKPOINT.name {
            self.checkpoint.push(ran.report.to_string());
        }
    }
}

/// Explains rematerialisation for every phase.
fn explain(args: &PlanArgs, request: &Request, limit: Option<u64>) -> Result<(), Failure> {
    let checked = compile::checked(request)?;
    let many = checked.len() > 1;
    let mut objects = Vec::new();
    for (i, phase) in checked.iter().enumerate() {
        let options = &request.options;
        let end = pipeline::position(CHECKPOINT.name);
        let stage = pipeline::compile(phase.source(), Purpose::Step, options, end, &mut Alone);
        let Stage::Formed(formed) = stage else {
            unreachable!("kernels are formed before anything is dropped")
        };
        let comparison = compare(&formed, options, limit, options.offload);
        if let Some(path) = &args.plot {
            let path = if many { numbered(path, i) } else { path.clone() };
            write(&path, &checkpoint::svg(&comparison))?;
        }
        if args.json {
            objects.push(checkpoint::json(&comparison));
        } else {
            let title = format!("{} on {}", phase.graph.name, options.device().title);
            print(&checkpoint::text(&title, &comparison))?;
        }
    }
    print_object(objects)
}

/// `report.html` as `report-1.html`.
fn numbered(path: &Path, phase: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    path.with_file_name(format!("{stem}-{phase}{extension}"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::io("write", path, &e))
}

/// The device, and what to say of the cluster that it was taken from.
fn device(args: &PlanArgs) -> Result<(Device, Option<String>), Failure> {
    let of = |cluster: Cluster| {
        let count = cluster.nodes * cluster.devices;
        let note = format!(
            "of `{}` one device is used, as if it were alone: sharding over its {count} devices and their \
             network is not part of plans yet",
            cluster.name
        );
        (cluster.device, Some(note))
    };
    let wrong = |e: TargetError| Failure::Usage(e.to_string());
    if let Some(cluster) = &args.cluster {
        return Ok(match Cluster::named(cluster) {
            Ok(cluster) => of(cluster),
            Err(_) => {
                let path = Path::new(cluster);
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Failure::Input(format!(
                        "{}; as a file: {e}",
                        TargetError::Unknown(cluster.clone())
                    ))
                })?;
                let named = |e| Failure::Input(format!("{cluster}: {e}"));
                of(Cluster::parse(&text).map_err(named)?)
            }
        });
    }
    if args.target == "cpu" {
        let facts = if args.measure {
            machine::measured(args.threads)?
        } else {
            machine::facts(args.threads)
        };
        return Ok((cpu(&facts), None));
    }
    let cluster = |_| Cluster::named(&args.target).map(of);
    Device::named(&args.target).map(|device| (device, None)).or_else(cluster).map_err(wrong)
}
