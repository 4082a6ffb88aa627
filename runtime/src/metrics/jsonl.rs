//! `metrics.jsonl`: one JSON object per step. What is not finite is written as `null`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Record;
use crate::error::{Error, Result};

/// Name of the file in a run's folder.
pub const FILE: &str = "metrics.jsonl";

/// Appends lines, one write for each.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    names: Vec<String>,
}

impl Lines {
    /// Opens the file of a run; `names` are the model's own metrics.
    pub(super) fn open(run: &Path, names: &[String]) -> Result<Self> {
        let path = run.join(FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("append to", &path))?;
        Ok(Self { path, file, names: names.to_vec() })
    }

    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = Value::Object(object(record, &self.names)).to_string();
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))
    }

    /// Makes all lines durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

/// Reals computed in f32 are printed as short as f32 allows, and read back to the same bits.
fn short(value: f64) -> Value {
    let narrow = value as f32;
    if f64::from(narrow) == value {
        // The shortest decimal of an f32 is a number in JSON unless it is not finite.
        serde_json::from_str(&narrow.to_string()).unwrap_or(Value::Null)
    } else {
        json!(value)
    }
}

fn object(record: &Record, names: &[String]) -> Map<String, Value> {
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
    put("step", record.step.into());
    put("loss", short(record.loss));
    put("grad_norm", short(record.grad_norm));
    put("lr", short(record.lr));
    put("tokens", record.tokens.into());
    put("step_seconds", json!(record.seconds));
    put("tokens_per_second", json!(record.tokens_per_second()));
    put("flops_utilisation", json!(record.utilisation));
    put("nan_gradients", json!(record.nan_gradients as u64));
    put("host_syncs", record.host_syncs.into());
    put("ring_waits", record.ring_waits.into());
    put("allocations", record.allocations.into());
    for (name, value) in names.iter().zip(&record.metrics) {
        put(name, short(*value));
    }
    if let Some(validation) = record.validation {
        put("validation_loss", json!(validation.loss));
        put("validation_bits_per_byte", json!(validation.bits_per_byte));
    }
    line
}

/// Drops the lines from step `steps` on, and whatever a killed run left of a last line.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read or cut.
pub fn cut(run: &Path, steps: u64) -> Result<()> {
    let path = run.join(FILE);
    if !path.exists() {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(Error::io("cut", &path))?;
    let (mut reader, mut line, mut kept) = (BufReader::new(&file), Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(Error::io("read", &path))?;
        if read == 0 || step(&line).is_none_or(|step| step >= steps) {
            break;
        }
        kept += read as u64;
    }
    file.set_len(kept).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))
}

/// The step of a complete line.
fn step(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    serde_json::from_slice::<Value>(line).ok()?.get("step")?.as_u64()
}

/// Steps with their losses.
pub(super) type Curve = Vec<(f64, f64)>;

/// The losses of a run, and its validation losses.
pub(super) fn losses(run: &Path) -> Result<(Curve, Curve)> {
    let path = run.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let (mut train, mut held) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let number = |name: &str| line.get(name).and_then(Value::as_f64);
        let Some(step) = number("step") else { continue };
        train.extend(number("loss").map(|loss| (step, loss)));
        held.extend(number("validation_loss").map(|loss| (step, loss)));
    }
    Ok((train, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Validation;
    use gigac_ir::train::STEP_FIELDS;

    #[test]
    fn lines_have_all_fields() {
        let record = Record {
            validation: Some(Validation { loss: 1.0, bits_per_byte: None }),
            loss: 0.1_f32.into(),
            grad_norm: f64::NAN,
            metrics: vec![2.0],
            step_tokens: 8,
            seconds: 0.5,
            ..Record::default()
        };
        let line = object(&record, &["balance".to_owned()]);
        let mut names: Vec<&str> = STEP_FIELDS.into_iter().chain(["balance"]).collect();
        names.sort_unstable();
        assert_eq!(line.keys().collect::<Vec<_>>(), names);
        let line = Value::Object(line).to_string();
        assert!(line.contains("\"loss\":0.1,"), "{line}");
        assert!(line.contains("\"grad_norm\":null"), "{line}");
        assert!(line.contains("\"tokens_per_second\":16.0"), "{line}");
        assert!(line.contains("\"balance\":2"), "{line}");
    }

    #[test]
    fn cutting_drops_later_and_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines::open(folder.path(), &[]).unwrap();
        for step in 0..5 {
            lines.write(&Record { step, ..Record::default() }).unwrap();
        }
        let path = folder.path().join(FILE);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"step\":5,\"lo")).unwrap();
        cut(folder.path(), 9).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        cut(folder.path(), 3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        cut(&folder.path().join("nowhere"), 3).unwrap();
    }
}
