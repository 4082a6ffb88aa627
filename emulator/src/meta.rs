//! Launches described by files: a JSON description and a safetensors file with inputs and
//! expected results.

use std::collections::HashMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::launch::{Launch, Module, Report};

/// Elements at the end of every buffer that a kernel must leave alone.
pub const GUARD: usize = 16;

/// The launch description.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Meta {
    /// Kernel name.
    pub entry: String,
    /// Blocks.
    pub grid: Vec<u32>,
    /// Threads.
    pub block: Vec<u32>,
    /// Bytes of dynamic shared memory.
    #[serde(default)]
    pub dynamic_shared_bytes: u32,
    /// Such as `sm_80`.
    #[serde(default)]
    pub target: String,
    /// Blocks per cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Vec<u32>>,
    /// Parameters in PTX order.
    pub params: Vec<Param>,
}

fn is_zero(elements: &u64) -> bool {
    *elements == 0
}

/// One parameter.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Param {
    /// Name, also of its tensors.
    pub name: String,
    /// `buffer`, `scalar` or `null_pointer`.
    pub kind: String,
    /// Element type.
    #[serde(default)]
    pub dtype: String,
    /// Elements of a buffer, the guard included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elements: u64,
    /// Value of a scalar.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub value: serde_json::Value,
    /// `in`, `out` or `inout`.
    #[serde(default)]
    pub role: String,
    /// For `|got - expect| <= tolerance · (1 + |expect|)`.
    #[serde(default)]
    pub tolerance: f64,
}

/// A result that is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// Parameter.
    pub name: String,
    /// First wrong element.
    pub index: usize,
    /// Its value.
    pub got: f64,
    /// What it should be.
    pub expect: f64,
    /// Wrong elements in all.
    pub count: usize,
    /// Elements compared.
    pub elements: usize,
    /// The element is in the guard at the end of the buffer.
    pub guard: bool,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let place = if self.guard { " (in the guard behind the buffer)" } else { "" };
        write!(
            f,
            "`{}`: {} of {} elements differ; element {}{place} is {}, expected {}",
            self.name, self.count, self.elements, self.index, self.got, self.expect
        )
    }
}

/// Element types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float(u8),
    Brain,
    Fp8 { fraction: u8 },
    Signed(u8),
    Unsigned(u8),
}

fn kind(dtype: &str) -> Option<Kind> {
    Some(match dtype {
        "f16" | "fp16" | "float16" => Kind::Float(2),
        "f32" | "fp32" | "float32" => Kind::Float(4),
        "f64" | "fp64" | "float64" => Kind::Float(8),
        "bf16" | "bfloat16" => Kind::Brain,
        "f8e4m3" | "fp8e4nv" | "f8_e4m3" | "float8_e4m3fn" => Kind::Fp8 { fraction: 3 },
        "f8e5m2" | "fp8e5" | "f8_e5m2" | "float8_e5m2" => Kind::Fp8 { fraction: 2 },
        "i8" | "s8" | "int8" => Kind::Signed(1),
        "i16" | "s16" | "int16" => Kind::Signed(2),
        "i32" | "s32" | "int32" => Kind::Signed(4),
        "i64" | "s64" | "int64" => Kind::Signed(8),
        "u8" | "b8" | "i1" | "bool" | "u1" | "uint8" => Kind::Unsigned(1),
        "u16" | "b16" | "uint16" => Kind::Unsigned(2),
        "u32" | "b32" | "uint32" => Kind::Unsigned(4),
        "u64" | "b64" | "uint64" => Kind::Unsigned(8),
        _ => return None,
    })
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Float(n) | Kind::Signed(n) | Kind::Unsigned(n) => usize::from(n),
            Kind::Brain => 2,
            Kind::Fp8 { .. } => 1,
        }
    }

    fn value(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(word);
        let shift = 64 - 8 * bytes.len() as u32;
        match self {
            Kind::Float(2) => f16::from_bits(bits as u16).to_f64(),
            Kind::Float(4) => f64::from(f32::from_bits(bits as u32)),
            Kind::Float(_) => f64::from_bits(bits),
            Kind::Brain => bf16::from_bits(bits as u16).to_f64(),
            Kind::Fp8 { fraction: 3 } => crate::num::Format::E4M3.decode(bits as u32),
            Kind::Fp8 { .. } => crate::num::Format::E5M2.decode(bits as u32),
            Kind::Signed(_) => ((bits << shift) as i64 >> shift) as f64,
            Kind::Unsigned(_) => bits as f64,
        }
    }

    fn is_integer(self) -> bool {
        matches!(self, Kind::Signed(_) | Kind::Unsigned(_))
    }

    /// Bytes of a JSON value.
    fn encode(self, value: &serde_json::Value) -> Option<Vec<u8>> {
        let number = match value {
            serde_json::Value::Bool(b) => f64::from(u8::from(*b)),
            serde_json::Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "nan" => f64::NAN,
                "inf" | "infinity" => f64::INFINITY,
                "-inf" | "-infinity" => f64::NEG_INFINITY,
                other => other.parse().ok()?,
            },
            other => other.as_f64()?,
        };
        let whole =
            value.as_i64().map(|v| v as u64).or(value.as_u64()).unwrap_or(number as i64 as u64);
        Some(match self {
            Kind::Float(2) => f16::from_f64(number).to_le_bytes().to_vec(),
            Kind::Float(4) => (number as f32).to_le_bytes().to_vec(),
            Kind::Float(_) => number.to_le_bytes().to_vec(),
            Kind::Brain => bf16::from_f64(number).to_le_bytes().to_vec(),
            Kind::Fp8 { .. } => return None,
            Kind::Signed(n) | Kind::Unsigned(n) => whole.to_le_bytes()[..usize::from(n)].to_vec(),
        })
    }
}

fn three(values: &[u32]) -> [u32; 3] {
    std::array::from_fn(|i| values.get(i).copied().unwrap_or(1))
}

impl Meta {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Meta, String> {
        serde_json::from_str(text).map_err(|e| format!("the launch description: {e}"))
    }

    /// The launch, with the initial content of its buffers from `data` (a safetensors file).
    ///
    /// # Errors
    /// If a tensor is missing or does not fit its parameter.
    pub fn launch(&self, module: &Module, data: &[u8]) -> Result<Launch, String> {
        let tensors = SafeTensors::deserialize(data).map_err(|e| format!("the data file: {e}"))?;
        let mut launch = Launch::new(module, &self.entry)
            .grid(three(&self.grid))
            .block(three(&self.block))
            .dynamic_shared(self.dynamic_shared_bytes);
        if let Some(cluster) = &self.cluster {
            launch = launch.cluster(three(cluster));
        }
        for param in &self.params {
            launch = param.pass(launch, &tensors)?;
        }
        Ok(launch)
    }

    /// Compares the buffers of a report with the expected tensors.
    ///
    /// # Errors
    /// If a tensor does not fit its parameter.
    pub fn compare(&self, report: &Report, data: &[u8]) -> Result<Vec<Mismatch>, String> {
        let tensors = SafeTensors::deserialize(data).map_err(|e| format!("the data file: {e}"))?;
        let mut wrong = Vec::new();
        for param in self.params.iter().filter(|p| p.kind == "buffer") {
            let Some(got) = report.buffer(&param.name) else { continue };
            let initial = tensors.tensor(&format!("init.{}", param.name)).ok();
            let expect = match tensors.tensor(&format!("expect.{}", param.name)) {
                Ok(expect) => expect.data(),
                Err(_) => match (&initial, param.role.as_str()) {
                    (Some(initial), "in") => initial.data(),
                    _ => continue,
                },
            };
            wrong.extend(param.compare(got, expect)?);
        }
        Ok(wrong)
    }

    /// The buffers of a report as a safetensors file, with the dtypes of the data file.
    ///
    /// # Errors
    /// If a buffer cannot be written as a tensor.
    pub fn to_safetensors(&self, report: &Report) -> Result<Vec<u8>, String> {
        let mut views = HashMap::new();
        for param in self.params.iter().filter(|p| p.kind == "buffer") {
            let (Some(bytes), Some(dtype)) = (report.buffer(&param.name), dtype(&param.dtype))
            else {
                continue;
            };
            let view =
                safetensors::tensor::TensorView::new(dtype, vec![param.elements as usize], bytes)
                    .map_err(|e| format!("buffer `{}`: {e}", param.name))?;
            views.insert(param.name.clone(), view);
        }
        safetensors::serialize(&views, None).map_err(|e| e.to_string())
    }
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match kind(name)? {
        Kind::Float(2) => Dtype::F16,
        Kind::Float(4) => Dtype::F32,
        Kind::Float(_) => Dtype::F64,
        Kind::Brain => Dtype::BF16,
        Kind::Fp8 { fraction: 3 } => Dtype::F8_E4M3,
        Kind::Fp8 { .. } => Dtype::F8_E5M2,
        Kind::Signed(1) => Dtype::I8,
        Kind::Signed(2) => Dtype::I16,
        Kind::Signed(4) => Dtype::I32,
        Kind::Signed(_) => Dtype::I64,
        Kind::Unsigned(1) => Dtype::U8,
        Kind::Unsigned(2) => Dtype::U16,
        Kind::Unsigned(4) => Dtype::U32,
        Kind::Unsigned(_) => Dtype::U64,
    })
}

impl Param {
    fn kind(&self) -> Result<Kind, String> {
        kind(&self.dtype)
            .ok_or_else(|| format!("parameter `{}`: unknown dtype `{}`", self.name, self.dtype))
    }

    fn pass(&self, launch: Launch, tensors: &SafeTensors) -> Result<Launch, String> {
        match self.kind.as_str() {
            "null_pointer" => Ok(launch.null()),
            "scalar" => match self.kind()?.encode(&self.value) {
                Some(bytes) => Ok(launch.bytes(&bytes)),
                None => {
                    Err(format!("parameter `{}`: {} is no {}", self.name, self.value, self.dtype))
                }
            },
            "buffer" => {
                let bytes = self.elements * self.kind()?.bytes() as u64;
                match tensors.tensor(&format!("init.{}", self.name)) {
                    Ok(initial) if initial.data().len() as u64 == bytes => {
                        Ok(launch.buffer(&self.name, initial.data().to_vec()))
                    }
                    Ok(initial) => Err(format!(
                        "`init.{}` has {} bytes, the parameter {bytes}",
                        self.name,
                        initial.data().len()
                    )),
                    Err(_) => Ok(launch.fresh_buffer(&self.name, bytes)),
                }
            }
            other => Err(format!("parameter `{}`: unknown kind `{other}`", self.name)),
        }
    }

    fn compare(&self, got: &[u8], expect: &[u8]) -> Result<Option<Mismatch>, String> {
        let kind = self.kind()?;
        if got.len() != expect.len() {
            return Err(format!(
                "`expect.{}` has {} bytes, the buffer {}",
                self.name,
                expect.len(),
                got.len()
            ));
        }
        let size = kind.bytes();
        let elements = got.len() / size;
        let mut first = None;
        let mut count = 0;
        for i in 0..elements {
            let (g, e) = (&got[i * size..][..size], &expect[i * size..][..size]);
            let guard = i + GUARD >= elements;
            let exact = guard || self.role == "in" || kind.is_integer();
            if g == e || !exact && close(kind.value(g), kind.value(e), self.tolerance) {
                continue;
            }
            count += 1;
            first.get_or_insert((i, kind.value(g), kind.value(e), guard));
        }
        Ok(first.map(|(index, got, expect, guard)| Mismatch {
            name: self.name.clone(),
            index,
            got,
            expect,
            count,
            elements,
            guard,
        }))
    }
}

fn close(got: f64, expect: f64, tolerance: f64) -> bool {
    got == expect
        || got.is_nan() && expect.is_nan()
        || (got - expect).abs() <= tolerance * (1.0 + expect.abs())
}
