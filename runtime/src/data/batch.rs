//! The inputs of one run of a plan, as bytes ready for the arena.

use gigac_ir::graph::Feed;
use gigac_ir::kernel::Storage;
use gigac_ir::plan::{Plan, PlanInput};
use half::bf16;

use crate::exec::arena::Arena;

/// Name of the column that texts fill.
pub const TOKENS: &str = "tokens";
/// Name of the column that defaults to the tokens shifted by one.
pub const TARGETS: &str = "targets";

/// A column that a plan wants from the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Element type.
    pub storage: Storage,
    /// For ints: the range that values must lie in.
    pub range: Option<(i64, i64)>,
    /// Value where the data has none; without it the data must have the column.
    pub default: Option<f64>,
    /// Number of samples.
    pub rows: u64,
    /// Sizes of the axes that a sample has.
    pub sample: Vec<u64>,
    /// Values of one sample.
    pub width: u64,
    /// Whether it has the axes of `tokens`.
    pub like_tokens: bool,
    /// Place in the arena.
    offset: u64,
}

/// The columns that a plan wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// All columns.
    pub columns: Vec<Column>,
    /// Number of samples.
    pub rows: u64,
    /// Tokens of a sample.
    pub time: u64,
}

impl Layout {
    /// What a plan wants. Time is the last axis of `tokens`; the axes before it number the
    /// samples.
    pub fn new(plan: &Plan) -> Self {
        let tokens = plan.input(TOKENS).map_or(&[][..], |t| &t.axes);
        let columns: Vec<Column> =
            plan.inputs.iter().filter_map(|input| Column::new(input, tokens)).collect();
        let tokens = columns.iter().find(|c| c.name == TOKENS);
        let (rows, time) = tokens.map_or((1, 1), |c| (c.rows, c.width));
        Self { columns, rows, time }
    }

    /// Bytes of one batch.
    pub fn bytes(&self) -> u64 {
        self.columns.iter().fold(0, |sum, c| sum.saturating_add(c.bytes()))
    }

    /// Index of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}

impl Column {
    fn new(input: &PlanInput, tokens: &[(String, u64)]) -> Option<Self> {
        let default = match input.feed {
            Feed::Data => None,
            Feed::Optional(value) => Some(value),
            Feed::Step | Feed::Steps | Feed::Seed => return None,
        };
        let batch = &tokens[..tokens.len().saturating_sub(1)];
        let shared = input.axes.iter().zip(batch).take_while(|(a, b)| a == b).count();
        let sizes: Vec<u64> = input.axes.iter().map(|(_, size)| *size).collect();
        let (rows, sample) = sizes.split_at(shared);
        Some(Self {
            name: input.name.clone(),
            storage: input.storage,
            range: input.range,
            default,
            rows: rows.iter().product(),
            sample: sample.to_vec(),
            width: sample.iter().product(),
            like_tokens: input.axes == tokens,
            offset: input.offset,
        })
    }

    fn bytes(&self) -> u64 {
        self.rows.saturating_mul(self.width).saturating_mul(self.storage.bytes())
    }

    /// Whether an int may stand in the column.
    pub fn admits(&self, value: i64) -> bool {
        let fits = self.storage != Storage::I32 || i32::try_from(value).is_ok();
        fits && self.range.is_none_or(|(lo, hi)| (lo..hi).contains(&value))
    }
}

/// Values of all columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it is for.
    pub step: u64,
    columns: Vec<Vec<u8>>,
}

impl Batch {
    /// Room for a layout's values.
    pub fn new(layout: &Layout) -> Self {
        Self {
            step: 0,
            columns: layout.columns.iter().map(|c| vec![0; c.bytes() as usize]).collect(),
        }
    }

    /// Sets an int value.
    pub fn set(&mut self, layout: &Layout, column: usize, index: u64, value: i64) {
        match layout.columns[column].storage {
            Storage::I32 => self.put(column, index, (value as i32).to_le_bytes()),
            _ => self.set_real(layout, column, index, value as f64),
        }
    }

    /// Sets a real value.
    pub fn set_real(&mut self, layout: &Layout, column: usize, index: u64, value: f64) {
        match layout.columns[column].storage {
            Storage::F32 => self.put(column, index, (value as f32).to_le_bytes()),
            Storage::Bf16 => self.put(column, index, bf16::from_f64(value).to_le_bytes()),
            Storage::I32 => self.put(column, index, (value as i32).to_le_bytes()),
            Storage::Bool => self.put(column, index, [u8::from(value != 0.0)]),
        }
    }

    /// Sets every value of a column.
    pub fn fill(&mut self, layout: &Layout, column: usize, value: f64) {
        let count = layout.columns[column].rows * layout.columns[column].width;
        (0..count).for_each(|i| self.set_real(layout, column, i, value));
    }

    fn put<const N: usize>(&mut self, column: usize, index: u64, bytes: [u8; N]) {
        self.columns[column][index as usize * N..][..N].copy_from_slice(&bytes);
    }

    /// Copies all values to where the plan reads them. Allocates nothing.
    pub fn feed(&self, layout: &Layout, arena: &mut Arena) {
        for (column, bytes) in layout.columns.iter().zip(&self.columns) {
            arena.slice_mut(column.offset, bytes.len()).copy_from_slice(bytes);
        }
    }

    /// The `part`-th run of samples that fills another layout of the same columns, and whose
    /// values are then in `other`.
    pub fn part(&self, layout: &Layout, part: u64, other: &Layout, out: &mut Self) {
        for (target, column) in out.columns.iter_mut().zip(&other.columns) {
            if let Some(source) = layout.find(&column.name) {
                let bytes = target.len();
                target.copy_from_slice(&self.columns[source][part as usize * bytes..][..bytes]);
            }
        }
    }
}

/// Sets the scalars that every plan may ask for: number of the step, of steps, the seed.
pub fn feed_scalars(plan: &Plan, arena: &mut Arena, step: u64, steps: u64, seed: u32) {
    for input in &plan.inputs {
        let value = match input.feed {
            Feed::Step => step,
            Feed::Steps => steps,
            Feed::Seed => seed.into(),
            Feed::Data | Feed::Optional(_) => continue,
        };
        match input.storage {
            Storage::F32 => arena.slice_mut::<f32>(input.offset, 1)[0] = value as f32,
            _ => arena.slice_mut::<i32>(input.offset, 1)[0] = value as i32,
        }
    }
}
