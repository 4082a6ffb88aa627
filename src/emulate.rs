//! `gigac emulate`: run PTX from any compiler on the CPU and say what is wrong with it.

use std::path::PathBuf;
use std::process::ExitCode;

use gigac_emulator::meta::{Meta, Mismatch};
use gigac_emulator::{Checks, GPUS, Isa, Module, Report, Schedule};
use gigac_runtime::console::{answer, say};

/// Runs a PTX kernel on the CPU, checks it, and compares its results with the expected ones.
#[derive(Debug, Clone, clap::Args)]
pub struct EmulateArgs {
    /// PTX text.
    kernel: PathBuf,
    /// Launch description (JSON): entry, grid, block, parameters.
    #[arg(long)]
    launch: PathBuf,
    /// Buffers before the launch and expected results (safetensors).
    #[arg(long)]
    data: PathBuf,
    /// Writes all buffers after the launch (safetensors).
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints one JSON object with findings, mismatches and counts.
    #[arg(long)]
    json: bool,
    /// Prints the PTX listing with counts, and a roofline estimate.
    #[arg(long)]
    profile: bool,
    /// GPU of the roofline estimate.
    #[arg(long, default_value = "a100", value_parser = gpu_name)]
    gpu: String,
    /// Order in which the warps of a block advance.
    #[arg(long, value_enum, default_value = "lowest")]
    schedule: Order,
    /// The best vector instructions of this machine to use; results are the same with all.
    #[arg(long, value_enum)]
    simd: Option<Simd>,
    /// Seed of `--schedule random`.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// When asynchronous copies and products land.
    #[arg(long = "async", value_enum, default_value = "at-wait")]
    landing: Landing,
    /// Switches one check off, or all of them with `all` (repeatable).
    #[arg(long, value_name = "CHECK", value_parser = check_name)]
    no_check: Vec<String>,
    /// Runs only these blocks (linear numbers, comma-separated); results are then not compared.
    #[arg(long, value_delimiter = ',')]
    blocks: Vec<u64>,
    /// Host threads; one makes the order of float atomics reproducible.
    #[arg(long)]
    threads: Option<usize>,
    /// Different findings after which the launch stops.
    #[arg(long, default_value_t = 20)]
    max_findings: usize,
}

/// `--schedule`
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Order {
    /// One instruction per warp in turn.
    LockStep,
    /// The lowest warp runs until it waits.
    Lowest,
    /// The highest warp runs until it waits.
    Highest,
    /// A random warp for a random while.
    Random,
}

/// `--simd`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Simd {
    /// None but those that every processor of this kind has.
    Baseline,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
}

impl From<Simd> for Isa {
    fn from(simd: Simd) -> Isa {
        match simd {
            Simd::Baseline => Isa::Baseline,
            Simd::Avx2 => Isa::Avx2,
            Simd::Avx512 => Isa::Avx512,
        }
    }
}

/// `--async`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Landing {
    /// As late as the wait allows, which shows missing waits.
    AtWait,
    /// At once.
    AtOnce,
}

fn check_name(name: &str) -> Result<String, String> {
    if name == "all" || Checks::NAMES.contains(&name) {
        return Ok(name.to_string());
    }
    Err(format!("one of all, {}", Checks::NAMES.join(", ")))
}

fn gpu_name(name: &str) -> Result<String, String> {
    let names: Vec<&str> = GPUS.iter().map(|g| g.name).collect();
    if names.contains(&name) {
        Ok(name.to_string())
    } else {
        Err(format!("one of {}", names.join(", ")))
    }
}

/// Why the command ends early: the exit code and what to print.
type Failure = (u8, String);

/// Exit code for input that is wrong: a program, a launch, a result.
const WRONG: u8 = 1;
/// Exit code for files that cannot be read or written.
const MACHINE: u8 = 3;

/// Runs the command.
///
/// Exit codes: 0 if every result matches and nothing illegal happened, 1 if not or if the input is
/// wrong, 3 if a file cannot be read or written.
pub fn run(args: &EmulateArgs) -> ExitCode {
    match emulate(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err((code, message)) => {
            say(message);
            ExitCode::from(code)
        }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
    std::fs::read(path).map_err(|e| {
        let wrong = matches!(e.kind(), NotFound | IsADirectory | PermissionDenied);
        let code = if wrong { WRONG } else { MACHINE };
        (code, format!("cannot read {}: {e}", path.display()))
    })
}

fn emulate(args: &EmulateArgs) -> Result<bool, Failure> {
    let name = args.kernel.display();
    let text = String::from_utf8_lossy(&read(&args.kernel)?).into_owned();
    let description = String::from_utf8_lossy(&read(&args.launch)?).into_owned();
    let data = read(&args.data)?;
    let wrong = |e: String| (WRONG, e);
    let isa = args.simd.map_or_else(Isa::detect, Isa::from);
    let module = Module::parse_for(&text, isa).map_err(|e| {
        let help = e.help.as_ref().map_or(String::new(), |h| format!("\nhelp: {h}"));
        (
            WRONG,
            format!("{name}:{}:{}: {}\n  | {}{help}", e.line, e.column, e.message, e.source_line),
        )
    })?;
    let meta =
        Meta::parse(&description).map_err(|e| wrong(format!("{}: {e}", args.launch.display())))?;
    let mut launch = meta
        .launch(&module, &data)
        .map_err(wrong)?
        .schedule(schedule(args))
        .async_at_once(args.landing == Landing::AtOnce)
        .checks(checks(args))
        .profile(args.json || args.profile)
        .max_findings(args.max_findings.max(1));
    if let Some(threads) = args.threads {
        launch = launch.threads(threads);
    }
    if !args.blocks.is_empty() {
        launch = launch.only_blocks(args.blocks.clone());
    }
    let report = launch.run().map_err(|e| wrong(e.to_string()))?;
    let mismatches = if args.blocks.is_empty() {
        meta.compare(&report, &data).map_err(wrong)?
    } else {
        Vec::new()
    };
    if let Some(out) = &args.out {
        let bytes = meta.to_safetensors(&report).map_err(wrong)?;
        std::fs::write(out, bytes).map_err(|e| (MACHINE, format!("{}: {e}", out.display())))?;
    }
    print(args, &report, &mismatches).map_err(|e| (MACHINE, e.to_string()))?;
    Ok(report.findings.is_empty() && mismatches.is_empty())
}

fn schedule(args: &EmulateArgs) -> Schedule {
    match args.schedule {
        Order::LockStep => Schedule::LockStep,
        Order::Lowest => Schedule::LowestFirst,
        Order::Highest => Schedule::HighestFirst,
        Order::Random => Schedule::Random(args.seed),
    }
}

fn checks(args: &EmulateArgs) -> Checks {
    let mut checks = Checks::ALL;
    for name in &args.no_check {
        if name == "all" {
            checks = Checks::NONE;
        } else {
            checks.set(name, false);
        }
    }
    checks
}

/// Findings and mismatches go to stderr; counts to stdout, as text or as one JSON object.
fn print(
    args: &EmulateArgs,
    report: &Report,
    mismatches: &[Mismatch],
) -> gigac_runtime::Result<()> {
    report.findings.iter().for_each(|f| say(format_args!("{f}\n")));
    mismatches.iter().for_each(|m| say(format_args!("mismatch: {m}\n")));
    if !report.printed.is_empty() {
        say(report.printed.trim_end());
    }
    let gpu = GPUS.iter().find(|g| g.name == args.gpu);
    let bound = gpu.map(|g| report.profile.roofline(g));
    if args.json {
        return answer(json(args, report, mismatches, bound));
    }
    if args.profile {
        answer(report.listing().trim_end())?;
        if let Some((seconds, by)) = bound {
            let time = seconds * 1e6;
            answer(format_args!(
                "at least {time:.2} us on {} (estimate, bound by {by})",
                args.gpu
            ))?;
        }
    }
    let p = &report.profile;
    if report.findings.is_empty() && mismatches.is_empty() {
        say(format_args!(
            "ok: {} blocks, {} warp instructions, no finding",
            report.blocks, p.warp_instructions
        ));
    } else {
        say(format_args!(
            "{} findings, {} buffers with wrong values",
            report.findings.len(),
            mismatches.len()
        ));
    }
    Ok(())
}

fn json(
    args: &EmulateArgs,
    report: &Report,
    mismatches: &[Mismatch],
    bound: Option<(f64, &str)>,
) -> serde_json::Value {
    let p = &report.profile;
    let mut value = serde_json::to_value(p).unwrap_or_default();
    let extra = serde_json::json!({
        "ok": report.findings.is_empty() && mismatches.is_empty(),
        "findings": report.findings,
        "mismatches": mismatches,
        "blocks": report.blocks,
        "global_transactions": p.global_sectors,
        "estimate": bound.map(|(seconds, by)| serde_json::json!({"gpu": args.gpu, "seconds": seconds, "bound_by": by})),
    });
    if let (Some(all), serde_json::Value::Object(extra)) = (value.as_object_mut(), extra) {
        all.extend(extra);
    }
    value
}
