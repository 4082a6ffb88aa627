//! Where batches come from: windows of texts, a file of batches, or thin air.

use std::sync::Arc;

use gigac_ir::philox::philox;

use crate::data::batch::{Batch, Column, Layout, TARGETS, TOKENS};
use crate::data::order::Windows;
use crate::data::stream::Stream;
use crate::error::{Error, Result};
use crate::weights::tensors::{Tensor, TensorFile};

/// Fills batches; the contents of a batch depend on the step alone.
pub trait Source: Send {
    /// Writes all columns for a step.
    ///
    /// # Errors
    /// [`Error::Input`] when the data is not what the plan wants.
    fn fill(&mut self, step: u64, batch: &mut Batch) -> Result<()>;
}

/// Windows of texts.
pub struct TextSource {
    stream: Arc<Stream>,
    layout: Layout,
    pick: Pick,
    window: Vec<u32>,
}

/// Which windows make up a batch.
enum Pick {
    /// Every window once per pass, in a random order; steps count from `first_step`.
    Shuffled { windows: Windows, first_step: u64 },
    /// One window after the other.
    InOrder,
}

impl TextSource {
    /// Batches for training, from step `first_step` of the run on.
    ///
    /// # Errors
    /// [`Error::Input`] when the text is too short, or a column is wanted that texts do not have.
    pub fn shuffled(
        stream: Arc<Stream>,
        layout: &Layout,
        seed: u32,
        phase: u32,
        first_step: u64,
    ) -> Result<Self> {
        let time = layout.time;
        let windows = Windows::new(stream.len(), time, seed, phase).ok_or_else(|| {
            let what = format!(
                "the text is too short: {} tokens to train on, a sample needs {}",
                stream.len(),
                time + 1
            );
            Error::file(stream.path(), what)
        })?;
        Self::new(stream, layout, Pick::Shuffled { windows, first_step })
    }

    /// Batches for validation: windows in order, as many batches as [`Self::batches`] says.
    ///
    /// # Errors
    /// [`Error::Input`] when a column is wanted that texts do not have.
    pub fn in_order(stream: Arc<Stream>, layout: &Layout) -> Result<Self> {
        Self::new(stream, layout, Pick::InOrder)
    }

    fn new(stream: Arc<Stream>, layout: &Layout, pick: Pick) -> Result<Self> {
        for column in &layout.columns {
            if !of_text(column) && column.default.is_none() {
                let what = format!(
                    "the model wants a column `{}`, which texts do not have: give it with --batches",
                    column.name
                );
                return Err(Error::file(stream.path(), what));
            }
        }
        let window = vec![0; layout.time as usize + 1];
        Ok(Self { stream, layout: layout.clone(), pick, window })
    }

    /// Number of whole batches of windows in order.
    pub fn batches(&self) -> u64 {
        self.stream.len().saturating_sub(1) / self.layout.time / self.layout.rows
    }

    fn start(&self, step: u64, row: u64) -> u64 {
        match &self.pick {
            Pick::Shuffled { windows, first_step } => {
                windows.start((step - first_step) * self.layout.rows + row)
            }
            Pick::InOrder => (step * self.layout.rows + row) * self.layout.time,
        }
    }

    fn row(&mut self, row: u64, start: u64, batch: &mut Batch) -> Result<()> {
        let layout = &self.layout;
        let column = |name| layout.find(name).filter(|c| of_text(&layout.columns[*c]));
        let (tokens, targets) = (column(TOKENS), column(TARGETS));
        let admits = |column: Option<usize>, token: u32| {
            column.is_none_or(|c| layout.columns[c].admits(token.into()))
        };
        let legal = |token| admits(tokens, token) && admits(targets, token);
        self.stream.read(start, &mut self.window, legal)?;
        for (column, shift) in [(tokens, 0), (targets, 1)] {
            let Some(column) = column else { continue };
            for (t, token) in self.window[shift..].iter().take(layout.time as usize).enumerate() {
                batch.set(layout, column, row * layout.time + t as u64, (*token).into());
            }
        }
        Ok(())
    }
}

impl Source for TextSource {
    fn fill(&mut self, step: u64, batch: &mut Batch) -> Result<()> {
        batch.step = step;
        for (i, column) in self.layout.columns.iter().enumerate() {
            if let (Some(value), false) = (column.default, of_text(column)) {
                batch.fill(&self.layout, i, value);
            }
        }
        (0..self.layout.rows).try_for_each(|row| self.row(row, self.start(step, row), batch))
    }
}

/// Whether texts give a column: `tokens`, and `targets` of the same axes.
fn of_text(column: &Column) -> bool {
    [TOKENS, TARGETS].contains(&column.name.as_str()) && column.like_tokens
}

/// A safetensors file of batches: `tokens` `[steps, B, T + 1]`; other columns `[steps, B, …]` with
/// the other axes of their inputs. `targets` with the axes of `tokens` are the tokens shifted by
/// one unless the file has them.
pub struct BatchFile {
    file: TensorFile,
    layout: Layout,
    steps: u64,
}

impl BatchFile {
    /// Opens a file and checks it against what the plan wants.
    ///
    /// # Errors
    /// [`Error::Input`] names the tensor that is missing or has another type or shape.
    pub fn open(path: &std::path::Path, layout: &Layout) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let tokens =
            file.get(TOKENS).ok_or_else(|| Error::file(path, "it has no tensor `tokens`"))?;
        let steps = tokens.shape.first().copied().unwrap_or(0);
        expect(&file, TOKENS, &tokens, &[steps, layout.rows, layout.time + 1])?;
        for column in layout.columns.iter().filter(|c| c.name != TOKENS) {
            let Some(tensor) = file.get(&column.name) else {
                if column.default.is_none() && !of_text(column) {
                    let what = format!("it has no tensor `{}`, which the model wants", column.name);
                    return Err(Error::file(path, what));
                }
                continue;
            };
            let shape = [&[steps, column.rows], &column.sample[..]].concat();
            expect(&file, &column.name, &tensor, &shape)?;
        }
        let batches = Self { file, layout: layout.clone(), steps };
        batches.check()?;
        Ok(batches)
    }

    /// Checks the values of all steps, so that a run does not end in the middle.
    fn check(&self) -> Result<()> {
        for column in &self.layout.columns {
            let Some(tensor) = self.file.get(&column.name) else { continue };
            let elements = tensor.shape.iter().product();
            (0..elements).try_for_each(|at| self.value(&tensor, column, at).map(drop))?;
        }
        Ok(())
    }

    /// Number of steps in the file.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Copies a column's values of a step; a row of the tensor is `stride` long and its values
    /// begin at `shift`.
    fn copy(
        &self,
        tensor: &Tensor<'_>,
        place: (u64, u64),
        step: u64,
        to: (usize, &mut Batch),
    ) -> Result<()> {
        let ((stride, shift), (index, batch)) = (place, to);
        let column = &self.layout.columns[index];
        for row in 0..column.rows {
            let from = (step * column.rows + row) * stride + shift;
            for t in 0..column.width {
                let value = self.value(tensor, column, from + t)?;
                match value {
                    Value::Int(value) => {
                        batch.set(&self.layout, index, row * column.width + t, value)
                    }
                    Value::Real(value) => {
                        batch.set_real(&self.layout, index, row * column.width + t, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, tensor: &Tensor<'_>, column: &Column, at: u64) -> Result<Value> {
        let bad = |what: String| {
            Error::file(self.file.path(), format!("tensor for `{}`: {what}", column.name))
        };
        if !tensor.is_int() {
            let mut value = [0.0];
            tensor.read_f32(at, &mut value).map_err(bad)?;
            return Ok(Value::Real(value[0].into()));
        }
        let value = tensor.int(at as usize).map_err(bad)?;
        if column.admits(value) {
            return Ok(Value::Int(value));
        }
        let range =
            column.range.map_or(String::new(), |(lo, hi)| format!(", expected {lo} … {}", hi - 1));
        Err(bad(format!("element {at} is {value}{range}")))
    }
}

enum Value {
    Int(i64),
    Real(f64),
}

fn expect(file: &TensorFile, name: &str, tensor: &Tensor<'_>, shape: &[u64]) -> Result<()> {
    let bad = |what| Err(Error::file(file.path(), format!("tensor `{name}` has {what}")));
    if name == TOKENS && !tensor.is_int() {
        return bad(format!("type {:?}, expected I32", tensor.dtype));
    }
    if tensor.shape != shape {
        return bad(format!("shape {:?}, the model wants {shape:?}", tensor.shape));
    }
    Ok(())
}

impl Source for BatchFile {
    fn fill(&mut self, step: u64, batch: &mut Batch) -> Result<()> {
        if step >= self.steps {
            let what = format!("it has {} steps, step {step} is wanted", self.steps);
            return Err(Error::file(self.file.path(), what));
        }
        batch.step = step;
        let long = self.layout.time + 1;
        for (i, column) in self.layout.columns.iter().enumerate() {
            let own = (column.width, 0);
            let (tensor, place) = match (self.file.get(&column.name), column.name.as_str()) {
                (tensor, TOKENS) => (tensor, (long, 0)),
                (None, TARGETS) if of_text(column) => (self.file.get(TOKENS), (long, 1)),
                (tensor, _) => (tensor, own),
            };
            match tensor {
                Some(tensor) => self.copy(&tensor, place, step, (i, batch))?,
                None => batch.fill(&self.layout, i, column.default.unwrap_or(0.0)),
            }
        }
        Ok(())
    }
}

/// Random values in the range of each column, for benchmarks.
pub struct Synthetic {
    layout: Layout,
    seed: u32,
}

impl Synthetic {
    /// Values for a layout.
    pub fn new(layout: &Layout, seed: u32) -> Self {
        Self { layout: layout.clone(), seed }
    }
}

impl Source for Synthetic {
    fn fill(&mut self, step: u64, batch: &mut Batch) -> Result<()> {
        batch.step = step;
        for (i, column) in self.layout.columns.iter().enumerate() {
            if let Some(value) = column.default {
                batch.fill(&self.layout, i, value);
                continue;
            }
            for index in 0..column.rows * column.width {
                let counter = [index as u32, (index >> 32) as u32, step as u32, i as u32];
                let word = philox([self.seed, 0], counter)[0];
                match column.range {
                    Some((lo, hi)) => {
                        let value = lo.max(0) + i64::from(word) % (hi - lo.max(0)).max(1);
                        batch.set(&self.layout, i, index, value);
                    }
                    None => {
                        batch.set_real(&self.layout, i, index, f64::from(word) / 4_294_967_296.0)
                    }
                }
            }
        }
        Ok(())
    }
}
