//! Text that the model continues.

use gigac_ir::philox::philox;

use super::machine::Machine;
use super::outputs::Logits;
use super::signals;
use crate::data::batch::{Batch, Layout, TOKENS};
use crate::data::stream::Stream;
use crate::error::Result;

/// Samples that are shown at most.
const SHOWN: usize = 4;
/// Prompts are a third of a window, and no longer than this.
const PROMPT: u64 = 96;
/// Tells the randomness of samples from other uses of the seed.
const TAG: u32 = 0x7361_6d70;

/// A prompt from held-out text and its continuation.
pub(super) struct Sample {
    /// The prompt.
    pub(super) prompt: Vec<u32>,
    /// What the model made of it.
    pub(super) continuation: Vec<u32>,
}

/// How to draw.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    /// Tokens to add.
    pub(super) tokens: u64,
    /// Temperature; 0 takes the likeliest token.
    pub(super) temperature: f64,
    /// Step, steps and seed of the run.
    pub(super) at: (u64, u64, u32),
}

/// Continues prompts spread over a text, all rows of a batch at once; a signal to stop ends it
/// with nothing.
///
/// # Errors
/// What the text is refused for.
pub(super) fn samples(
    machine: &mut Machine<'_>,
    logits: &mut Logits<'_>,
    text: &Stream,
    draw: Draw,
) -> Result<Vec<Sample>> {
    let layout = logits.layout.clone();
    let prompt = (layout.time / 3).clamp(1, PROMPT);
    if text.len() < prompt * layout.rows {
        return Ok(Vec::new());
    }
    let mut rows = prompts(text, &layout, prompt)?;
    let mut batch = Batch::new(&layout);
    for (column, info) in layout.columns.iter().enumerate() {
        batch.fill(&layout, column, info.default.unwrap_or(0.0));
    }
    let mut values = Vec::new();
    for turn in 0..draw.tokens {
        if signals::asked_to_stop() {
            return Ok(Vec::new());
        }
        let seen = show(&rows, &layout, &mut batch);
        logits.run(machine, &batch, draw.at)?;
        for (row, tokens) in rows.iter_mut().enumerate() {
            let position = row as u64 * layout.time + seen - 1;
            logits.read(&machine.arena, position, &mut values);
            let counter = [turn as u32, row as u32, 0, 0];
            let word = philox([draw.at.2, TAG], counter)[0];
            tokens.push(pick(&values, draw.temperature, f64::from(word) / 4_294_967_296.0));
        }
    }
    let split = |mut tokens: Vec<u32>| {
        let continuation = tokens.split_off(prompt as usize);
        Sample { prompt: tokens, continuation }
    };
    // Rows are spread over the text; so are those that are shown.
    let apart = rows.len().div_ceil(SHOWN).max(1);
    Ok(rows.into_iter().step_by(apart).map(split).collect())
}

fn prompts(text: &Stream, layout: &Layout, length: u64) -> Result<Vec<Vec<u32>>> {
    let column = layout.find(TOKENS).map(|c| &layout.columns[c]);
    (0..layout.rows)
        .map(|row| {
            let mut tokens = vec![0; length as usize];
            let start = (text.len() - length) / layout.rows * row;
            text.read(start, &mut tokens, |t| column.is_none_or(|c| c.admits(t.into())))?;
            Ok(tokens)
        })
        .collect()
}

/// Writes the last tokens of each row to the batch and gives their number.
fn show(rows: &[Vec<u32>], layout: &Layout, batch: &mut Batch) -> u64 {
    let Some(column) = layout.find(TOKENS) else { return 1 };
    let mut seen = 0;
    for (row, tokens) in (0..).zip(rows) {
        let start = tokens.len().saturating_sub(layout.time as usize);
        for (t, token) in (0..).zip(&tokens[start..]) {
            batch.set(layout, column, row * layout.time + t, (*token).into());
        }
        seen = (tokens.len() - start) as u64;
    }
    seen
}

/// Draws a token: the first whose summed probability passes `unit`.
fn pick(logits: &[f32], temperature: f64, unit: f64) -> u32 {
    let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    let Some(best) = best else { return 0 };
    if temperature == 0.0 {
        return best as u32;
    }
    let weight = |x: &f32| ((f64::from(*x) - f64::from(logits[best])) / temperature).exp();
    let total: f64 = logits.iter().map(weight).sum();
    let mut rest = unit * total;
    for (token, logit) in logits.iter().enumerate() {
        rest -= weight(logit);
        if rest < 0.0 {
            return token as u32;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_by_probability() {
        let logits = [0.0, 1.0, f32::NEG_INFINITY, 1.0];
        assert_eq!(pick(&logits, 0.0, 0.9), 1);
        let counts = (0..1000).fold([0; 4], |mut counts, i| {
            counts[pick(&logits, 1.0, f64::from(i) / 1000.0) as usize] += 1;
            counts
        });
        let e = std::f64::consts::E;
        assert_eq!(counts[2], 0);
        assert!((f64::from(counts[0]) - 1000.0 / (1.0 + 2.0 * e)).abs() < 2.0);
        assert_eq!(pick(&[f32::NAN, f32::NAN], 1.0, 0.5), 0);
    }
}
