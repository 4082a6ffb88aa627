//! States and inputs of a program.

use std::collections::BTreeMap;

use crate::graph::{DType, Feed, Graph, Init, InputId, ParamId, Slot};
use crate::interpret::InterpretError;
use crate::philox::{philox, uniform};
use crate::pointwise::Pointwise;

/// What comes from outside.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// States in storage order. Moments that are absent are zero, copies are the weights rounded.
    pub params: BTreeMap<(ParamId, Slot), Vec<f64>>,
    /// Columns of the data in the order of the input's axes.
    pub inputs: BTreeMap<InputId, Vec<f64>>,
    /// Number of the step.
    pub step: u64,
    /// Number of steps of the run.
    pub steps: u64,
    /// Seed of the run.
    pub seed: u64,
}

impl Bindings {
    /// States and data of a run under way that look random and are the same every time. Weights
    /// spread like their initial values, and all numbers are f32s, so that machines that compute in
    /// f32 start from the same ones.
    pub fn example(graph: &Graph) -> Self {
        let mut params = BTreeMap::new();
        for (i, param) in graph.params.iter().enumerate() {
            let count = graph.elements(&param.axes());
            let (middle, width) = match param.init {
                Init::Constant(c) => (c, 0.1),
                Init::Normal { std } | Init::Truncated { std } => (0.0, 12_f64.sqrt() * std),
                Init::Uniform { lo, hi } => ((lo + hi) / 2.0, hi - lo),
            };
            let id = ParamId(i as u32);
            let mut put = |slot, from: [f64; 2]| {
                let key = [i as u32, slot as u32];
                let number = |x: f64| f64::from((from[0] + x * from[1]) as f32);
                params.insert((id, slot), words(key, count).map(|w| number(uniform(w))).collect());
            };
            put(Slot::Weight, [middle - width / 2.0, width]);
            put(Slot::Moment1, [-0.01, 0.02]);
            put(Slot::Moment2, [0.001, 0.01]);
        }
        let mut inputs = BTreeMap::new();
        for (i, input) in graph.inputs.iter().enumerate() {
            if !matches!(input.feed, Feed::Data | Feed::Optional(_)) {
                continue;
            }
            let words = words([i as u32, u32::MAX], graph.elements(&input.ty.axes));
            let data = match input.ty.dtype {
                DType::Int { lo, hi } => {
                    let span = (hi - lo).max(1) as u64;
                    words.map(|w| (lo + (u64::from(w) % span) as i64) as f64).collect()
                }
                DType::Bool => words.map(|w| f64::from(w & 1)).collect(),
                DType::F32 | DType::Bf16 => words.map(|w| uniform(w) - 0.5).collect(),
            };
            inputs.insert(InputId(i as u32), data);
        }
        Self { params, inputs, step: 3, steps: 10, seed: 7 }
    }

    /// A state of a parameter of a graph, in storage order.
    ///
    /// # Errors
    /// When nothing is bound to it, or too much or too little.
    pub fn state(
        &self,
        graph: &Graph,
        param: ParamId,
        slot: Slot,
    ) -> Result<Vec<f64>, InterpretError> {
        let def = &graph.params[param.index()];
        let expected = graph.elements(&def.axes());
        match self.params.get(&(param, slot)) {
            Some(data) => counted(&def.name, expected, data.clone()),
            None => match slot {
                Slot::Weight => Err(InterpretError::Unbound(def.name.clone())),
                Slot::Moment1 | Slot::Moment2 => Ok(vec![0.0; expected as usize]),
                Slot::Rounded => {
                    let weights = self.state(graph, param, Slot::Weight)?;
                    let round = Pointwise::Bf16.def().eval;
                    Ok(weights.into_iter().map(|x| round(&[x])).collect())
                }
            },
        }
    }

    /// An input of a graph, in the order of its axes.
    ///
    /// # Errors
    /// When nothing is bound to it, too much or too little, or an int outside its range.
    pub fn input(&self, graph: &Graph, input: InputId) -> Result<Vec<f64>, InterpretError> {
        let def = &graph.inputs[input.index()];
        let expected = graph.elements(&def.ty.axes);
        let data = match (self.inputs.get(&input), def.feed) {
            (Some(data), _) => data.clone(),
            (None, Feed::Optional(x)) => vec![x; expected as usize],
            (None, Feed::Step) => vec![self.step as f64],
            (None, Feed::Steps) => vec![self.steps as f64],
            (None, Feed::Seed) => vec![self.seed as f64],
            (None, Feed::Data) => return Err(InterpretError::Unbound(def.name.clone())),
        };
        let data = counted(&def.name, expected, data)?;
        if let DType::Int { lo, hi } = def.ty.dtype {
            let legal = |x: &f64| *x >= lo as f64 && *x < hi as f64 && x.fract() == 0.0;
            if let Some(value) = data.iter().copied().find(|x| !legal(x)) {
                return Err(InterpretError::Range { name: def.name.clone(), value, lo, hi });
            }
        }
        Ok(data)
    }
}

fn counted(name: &str, expected: u64, data: Vec<f64>) -> Result<Vec<f64>, InterpretError> {
    match data.len() {
        got if got as u64 == expected => Ok(data),
        got => Err(InterpretError::Count { name: name.to_owned(), expected, got }),
    }
}

/// Random words for a key.
fn words(key: [u32; 2], count: u64) -> impl Iterator<Item = u32> {
    (0..count.div_ceil(4)).flat_map(move |i| philox(key, [i as u32, 0, 0, 0])).take(count as usize)
}
