//! `gigac check`: parses and checks a model, prints its size and price.

use clap::Args;
use gigac_passes::price;
use serde_json::json;

use super::{ModelArgs, print};
use crate::failure::Failure;

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `check`.
///
/// # Errors
/// Mistakes of the model.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let model = args.model.read()?.model(&[], true)?;
    let graph = &model.graph;
    let price = price::price(graph);
    let parameters = graph.parameter_count();
    if args.json {
        let object = json!({
            "model": graph.name,
            "parameters": parameters,
            "flops_per_token": number(price.flops_per_token),
            "model_flops_per_token": number(price.model_flops_per_token),
        });
        return print(&format!("{object}\n"));
    }
    print(&format!(
        "model {}\nparameters {parameters}\nflops_per_token {}\nmodel_flops_per_token {}\n",
        graph.name, price.flops_per_token, price.model_flops_per_token
    ))
}

/// Whole numbers without a fraction.
fn number(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value < 2_f64.powi(63) { json!(value as u64) } else { json!(value) }
}
