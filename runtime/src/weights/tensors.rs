//! Files of tensors in the safetensors format: reading by memory map, writing as a stream.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::json;

use crate::error::{Error, Result};

/// Longest header that is read: names and shapes of some hundred thousand tensors.
const MAX_HEADER: u64 = 100 << 20;

/// A file of tensors, mapped.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    data: usize,
    metadata: Metadata,
}

/// A tensor of a file.
pub struct Tensor<'f> {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Shape, row-major.
    pub shape: Vec<u64>,
    /// Elements, little-endian.
    pub bytes: &'f [u8],
}

impl TensorFile {
    /// Maps a file and checks its header: lengths, offsets without gaps or overlaps, types.
    ///
    /// # Errors
    /// [`Error::Input`] when the file is damaged, [`Error::Io`] when it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let info = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if !info.is_file() {
            return Err(Error::file(path, "not a file"));
        }
        let bytes = info.len();
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let damaged = |what: String| Error::file(path, format!("not a safetensors file: {what}"));
        let mut length = [0; 8];
        let read = file.read(&mut length).map_err(Error::io("read", path))?;
        let header = u64::from_le_bytes(length);
        if read < 8 || header > MAX_HEADER || header + 8 > bytes {
            return Err(damaged(format!(
                "it has {bytes} bytes, and its header claims to have {header}"
            )));
        }
        // SAFETY: the file is not changed while it is read; who truncates it meanwhile ends the
        // program with a bus error, as with every mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|e| damaged(explain(&map, &e)))?;
        Ok(Self { path: path.to_owned(), map, data: header + 8, metadata })
    }

    /// The path it was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.tensors().into_keys()
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        Some(Tensor {
            dtype: info.dtype,
            shape: info.shape.iter().map(|s| *s as u64).collect(),
            bytes: &self.map[self.data + start..self.data + end],
        })
    }
}

/// What is wrong with a file, for people.
fn explain(map: &[u8], error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "its header describes more or fewer bytes than the {} of the file: it was cut, or not written to its end",
            map.len()
        ),
        SafeTensorError::TensorInvalidInfo => {
            "the shape and type of a tensor do not give the length of its data".to_owned()
        }
        other => other.to_string(),
    }
}

/// Why a tensor's elements cannot be had as asked.
pub type Reason = String;

impl Tensor<'_> {
    /// Copies elements that begin at `first` as f32.
    pub fn read_f32(&self, first: u64, out: &mut [f32]) -> Result<(), Reason> {
        macro_rules! read {
            ($ty:ty, $convert:expr) => {{
                let elements = self.bytes.chunks_exact(size_of::<$ty>()).skip(first as usize);
                for (bytes, value) in elements.zip(out) {
                    *value = $convert(<$ty>::from_le_bytes(bytes.try_into().expect("exact chunk")));
                }
            }};
        }
        match self.dtype {
            Dtype::F32 => read!(f32, |x| x),
            Dtype::F16 => read!(f16, f16::to_f32),
            Dtype::BF16 => read!(bf16, bf16::to_f32),
            Dtype::F64 => read!(f64, |x| x as f32),
            other => return Err(format!("has type {other:?}, expected F32, F16, BF16 or F64")),
        }
        Ok(())
    }

    /// One element as an integer.
    pub fn int(&self, index: usize) -> Result<i64, Reason> {
        macro_rules! at {
            ($ty:ty) => {{
                let bytes = &self.bytes[index * size_of::<$ty>()..][..size_of::<$ty>()];
                <$ty>::from_le_bytes(bytes.try_into().expect("exact length")) as i64
            }};
        }
        Ok(match self.dtype {
            Dtype::I32 => at!(i32),
            Dtype::I64 => at!(i64),
            Dtype::U8 | Dtype::BOOL => at!(u8),
            Dtype::I8 => at!(i8),
            Dtype::U16 => at!(u16),
            Dtype::I16 => at!(i16),
            Dtype::U32 => at!(u32),
            // What does not fit is negative, and no range holds it.
            Dtype::U64 => at!(u64),
            other => return Err(format!("has type {other:?}, expected integers")),
        })
    }

    /// Whether elements are integers or truth values.
    pub fn is_int(&self) -> bool {
        self.bytes.is_empty() || self.int(0).is_ok()
    }
}

/// Name, type (as the format writes it), shape and number of bytes of a tensor to be written.
pub struct Entry {
    /// Name.
    pub name: String,
    /// Type: `F32`, `I32`.
    pub dtype: &'static str,
    /// Shape.
    pub shape: Vec<u64>,
}

impl Entry {
    /// An f32 tensor.
    pub fn f32(name: impl Into<String>, shape: Vec<u64>) -> Self {
        Self { name: name.into(), dtype: "F32", shape }
    }

    /// Bytes; both types have four per element.
    fn bytes(&self) -> u64 {
        4 * self.shape.iter().product::<u64>()
    }
}

/// Writes tensors in the order of `entries`; `data` streams the bytes of one of them at a time.
///
/// # Errors
/// What writing fails with.
pub fn write<W: Write>(
    out: &mut W,
    entries: &[Entry],
    mut data: impl FnMut(usize, &mut W) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.bytes();
        let info = json!({
            "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [offset, end]
        });
        header.insert(entry.name.clone(), info);
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The data begins aligned.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    (0..entries.len()).try_for_each(|i| data(i, out))
}

/// Writes f32 values, little-endian.
pub fn write_f32<W: Write + ?Sized>(out: &mut W, values: &[f32]) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    for chunk in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(chunk) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        out.write_all(&buffer[..4 * chunk.len()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let entries = [Entry::f32("b", vec![2, 2]), Entry::f32("a", vec![])];
        let values = [vec![1.0, 2.0, 3.0, -4.5], vec![7.0]];
        crate::whole::write(&path, |out| write(out, &entries, |i, out| write_f32(out, &values[i])))
            .unwrap();
        let read = TensorFile::open(&path).unwrap();
        let b = read.get("b").unwrap();
        let mut out = [0.0; 3];
        b.read_f32(1, &mut out).unwrap();
        assert_eq!((b.shape, out), (vec![2, 2], [2.0, 3.0, -4.5]));
        assert_eq!(read.get("a").unwrap().shape, [0_u64; 0]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary is left");
    }

    #[test]
    fn halves_widen() {
        let header = r#"{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},
            "d":{"dtype":"F64","shape":[1],"data_offsets":[4,12]}}"#;
        let mut bytes = with_header(header, 0);
        bytes.extend(f16::from_f32(1.5).to_le_bytes());
        bytes.extend(bf16::from_f32(-2.0).to_le_bytes());
        bytes.extend(0.1_f64.to_le_bytes());
        let file = file(&bytes);
        let read = TensorFile::open(file.path()).unwrap();
        let value = |name| {
            let mut out = [0.0];
            read.get(name).unwrap().read_f32(0, &mut out).unwrap();
            out[0]
        };
        assert_eq!((value("h"), value("b"), value("d")), (1.5, -2.0, 0.1));
    }

    #[test]
    fn hostile_headers_are_input_errors() {
        let overlapping = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        let wrong_length = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
        let overflow =
            r#"{"a":{"dtype":"F32","shape":[18446744073709551615,8],"data_offsets":[0,8]}}"#;
        let cases = [
            vec![],
            vec![1, 2, 3],
            u64::MAX.to_le_bytes().to_vec(),
            1_000_u64.to_le_bytes().to_vec(),
            with_header("{", 0),
            with_header(overlapping, 12),
            with_header(wrong_length, 8),
            with_header(overflow, 8),
            with_header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
        ];
        for bytes in cases {
            let file = file(&bytes);
            let error = TensorFile::open(file.path()).map(drop).unwrap_err();
            assert_eq!(error.exit_code(), 1, "{error}");
            let name = file.path().display().to_string();
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert_eq!(TensorFile::open(Path::new("/nowhere")).map(drop).unwrap_err().exit_code(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            length in 0_u64..300,
        ) {
            let mut bytes = bytes;
            let n = bytes.len().min(8);
            bytes[..n].copy_from_slice(&length.to_le_bytes()[..n]);
            let file = file(&bytes);
            let _ = TensorFile::open(file.path());
        }

        /// A good file with one byte changed: read or refused, and no tensor leaves the file.
        #[test]
        fn damaged_headers_are_read_or_refused(at in 0_usize..150, byte in any::<u8>()) {
            let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I32","shape":[1,2],"data_offsets":[8,16]}}"#;
            let mut bytes = with_header(header, 16);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let file = file(&bytes);
            if let Ok(read) = TensorFile::open(file.path()) {
                for name in read.names() {
                    let tensor = read.get(&name).unwrap();
                    let elements = tensor.shape.iter().product::<u64>() as usize;
                    let mut out = vec![0.0; elements];
                    let _ = tensor.read_f32(0, &mut out);
                    (0..elements).for_each(|i| drop(tensor.int(i)));
                }
            }
        }
    }
}
