//! The flags of a run.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};
use crate::whole;

/// Flags of `gigac train` and of a built executable.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Text (UTF-8), tokens (`.bin`), or a directory of such files; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// A Hugging Face tokenizer.json; without it bytes are tokens.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Steps in total, also after a resume.
    #[arg(allow_negative_numbers = true, long, value_name = "N")]
    pub steps: Option<u64>,
    /// Where metrics and checkpoints go; nothing is written without it.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue from the newest whole checkpoint in the output directory.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Write a checkpoint every N steps; one is always written at the end.
    #[arg(long, value_name = "N", requires = "out", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    /// Seed of weights, data order and noise; 0 by default.
    #[arg(allow_negative_numbers = true, long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=i64::from(i32::MAX)))]
    pub seed: Option<u32>,
    /// Worker threads; all cores by default. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Initial weights by their published names.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Train on exactly these batches, in order: tensor `tokens`, `[steps, B, T + 1]`.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "data")]
    pub batches: Option<PathBuf>,
    /// Write the gradients of the first step, before clipping.
    #[arg(long, value_name = "FILE.safetensors")]
    pub dump_grads: Option<PathBuf>,
    /// Write the logits of the first batch before any update.
    #[arg(long, value_name = "FILE.safetensors")]
    pub dump_logits: Option<PathBuf>,
    /// Write the weights at the end, by their published names.
    #[arg(long, value_name = "FILE.safetensors")]
    pub export: Option<PathBuf>,
    /// Compute the loss on held-out text every N steps; it is always computed at the end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub validate_every: Option<u64>,
    /// Batches of held-out text for the loss during the run; all of it counts at the end.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    pub validate_batches: u64,
    /// Percent of each text, at its end, that is not trained on.
    #[arg(allow_negative_numbers = true, long, value_name = "PERCENT", default_value_t = 5.0)]
    pub held_out: f64,
    /// Print one JSON object at the end, on stdout: steps, tokens, last loss, held-out loss.
    #[arg(long)]
    pub json: bool,
    /// Tokens to generate for each sample at the end; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub sample_tokens: u64,
    /// Temperature of the samples; 0 takes the likeliest token.
    #[arg(allow_negative_numbers = true, long, value_name = "X", default_value_t = 0.8)]
    pub temperature: f64,
    /// No progress, samples or notes on stderr.
    #[arg(long)]
    pub quiet: bool,
    /// Watch memory: freed buffers are filled with NaN, and reading what nothing has written stops the
    /// run. For tests; slow.
    #[arg(long)]
    pub poison: bool,
}

impl Options {
    /// Checks what the flags' own types do not say, and that files can be written where they ask
    /// for them.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::Io`].
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Usage(what.to_owned()));
        if self.data.is_empty() && self.batches.is_none() {
            return wrong("say what to train on: --data PATH, or --batches FILE.safetensors");
        }
        if !(0.0..=50.0).contains(&self.held_out) {
            return wrong("--held-out is a percentage from 0 to 50");
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong("--temperature is a number from 0");
        }
        let outputs = [&self.export, &self.dump_grads, &self.dump_logits];
        let outputs: Vec<&PathBuf> = outputs.into_iter().flatten().collect();
        for (index, path) in outputs.iter().enumerate() {
            if outputs[..index].contains(path) {
                return wrong(&format!("{}: two flags write this file", path.display()));
            }
            whole::probe(path)?;
        }
        Ok(())
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, usize::from)
    }
}
