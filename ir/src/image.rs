//! Machine code as data: what a code generator for CPUs makes and an executor maps.
//!
//! An image is one flat, position-independent run of bytes, code and constants together, without
//! references to anything outside it. To run a kernel, map the bytes executable at any address
//! aligned to [`ALIGNMENT`] and call the entry's offset as a [`KernelFn`].

use serde::{Deserialize, Serialize};

use crate::kernel::Access;

/// Alignment that the bytes of an image, and the scratch memory of its kernels, need.
pub const ALIGNMENT: u64 = 64;

/// A compiled kernel: `(buffers, scalars, first, last, scratch)`.
///
/// Runs the grid points `first..last`, linearised with the last grid variable fastest. `buffers`
/// are the addresses of all but local buffers, in order; `scalars` the int arguments; `scratch` is
/// memory of the calling thread alone, as large as [`Entry::scratch`] says. A kernel may leave
/// there what helps it in the thread's next call of the same launch: the executor zeroes the first
/// [`ALIGNMENT`] bytes before the first one.
pub type KernelFn = unsafe extern "C" fn(*const *mut u8, *const i64, u64, u64, *mut u8);

/// Code of a set of kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Code and constants.
    pub bytes: Vec<u8>,
    /// CPU features that the code uses; see [`missing_features`].
    pub features: Vec<String>,
    /// The kernels, in the order they were compiled.
    pub entries: Vec<Entry>,
}

/// One kernel in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the kernel.
    pub name: String,
    /// Where its code begins in the bytes.
    pub offset: u64,
    /// Number of grid points.
    pub grid_points: u64,
    /// Bytes of scratch memory that each thread needs.
    pub scratch: u64,
    /// Direction of each argument buffer.
    pub args: Vec<Access>,
    /// Number of int arguments.
    pub scalars: u32,
}

impl Image {
    /// The entry of a kernel.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }
}

/// Features of x86-64-v3, as the Rust standard library names them.
pub const X86_64_V3: &[&str] =
    &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2", "xsave"];

/// Features of x86-64-v4: those of v3 and AVX-512.
pub const X86_64_V4: &[&str] = &[
    "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sse4.2", "xsave",
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl",
];

/// Those of some features that the CPU in hand lacks. Features this crate does not know are
/// missing everywhere.
pub fn missing_features<S: AsRef<str>>(features: &[S]) -> Vec<&str> {
    features.iter().map(AsRef::as_ref).filter(|f| !has_feature(f)).collect()
}

#[cfg(target_arch = "x86_64")]
fn has_feature(feature: &str) -> bool {
    macro_rules! table {
        ($($name:tt)*) => {
            match feature {
                $($name => std::is_x86_feature_detected!($name),)*
                _ => false,
            }
        };
    }
    table!(
        "avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe" "popcnt" "sse4.2" "xsave"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"
    )
}

#[cfg(not(target_arch = "x86_64"))]
fn has_feature(_: &str) -> bool {
    false
}
