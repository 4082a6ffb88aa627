//! `gigac plan`: the memory of a step by category.

use std::collections::BTreeMap;

use clap::Args;
use gigac_ir::plan::{Category, Plan};
use gigac_passes::driver::Alone;
use gigac_passes::place::launches;
use serde_json::json;

use super::{ModelArgs, print};
use crate::compile;
use crate::failure::Failure;

/// Flags of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `plan`.
///
/// # Errors
/// Mistakes of the model.
pub fn run(args: &PlanArgs) -> Result<(), Failure> {
    for phase in compile::phases(&args.model.read()?, &mut Alone)? {
        let plan = &phase.programs.step.plan;
        let rows = categories(plan);
        if args.json {
            let categories: BTreeMap<String, u64> =
                rows.iter().map(|(c, b)| (format!("{c:?}").to_lowercase(), *b)).collect();
            let object = json!({
                "arena_bytes": plan.arena_bytes,
                "live_bytes": plan.live_bytes,
                "categories": categories,
                "kernels": plan.kernels.len(),
                "launches": launches(&plan.items),
            });
            print(&format!("{object}\n"))?;
            continue;
        }
        let mut text = String::new();
        for (category, bytes) in rows {
            text += &format!(
                "{:<12} {:>12.2} MiB\n",
                format!("{category:?}").to_lowercase(),
                mib(bytes)
            );
        }
        text += &format!(
            "arena        {:>12.2} MiB (lower bound {:.2} MiB)\n{} kernels, {} launches a step\n",
            mib(plan.arena_bytes),
            mib(plan.live_bytes),
            plan.kernels.len(),
            launches(&plan.items)
        );
        print(&text)?;
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes of every category at the position where most is live; states always count.
fn categories(plan: &Plan) -> Vec<(Category, u64)> {
    let moving = |b: &&gigac_ir::plan::PlanBuffer| {
        !matches!(b.category, Category::Weights | Category::Optimizer)
    };
    let live_at = |at: u32| {
        let live = plan.buffers.iter().filter(moving);
        live.filter(move |b| b.live.0 <= at && at <= b.live.1)
    };
    let peak = plan
        .buffers
        .iter()
        .map(|b| b.live.0)
        .max_by_key(|at| (live_at(*at).map(|b| b.bytes).sum::<u64>(), std::cmp::Reverse(*at)))
        .unwrap_or(0);
    let mut rows: BTreeMap<Category, u64> = BTreeMap::new();
    for state in &plan.states {
        let weights = state.slot == gigac_ir::graph::Slot::Weight;
        let category = if weights { Category::Weights } else { Category::Optimizer };
        *rows.entry(category).or_default() += 4 * plan.params[state.param as usize].elements();
    }
    for buffer in live_at(peak) {
        *rows.entry(buffer.category).or_default() += buffer.bytes;
    }
    rows.into_iter().collect()
}
