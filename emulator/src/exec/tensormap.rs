//! Tensor maps in a layout of our own: the hardware's is not public, and programs only write it
//! through `tensormap.replace` or receive it from the host, which makes it with [`TensorMap::encode`].

use crate::error::LaunchError;
use crate::types::Ty;

/// Fields of a map that `tensormap.replace` can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Field {
    Address,
    Rank,
    Box,
    Dim,
    Stride,
    ElementStride,
    Type,
    Interleave,
    Swizzle,
    Fill,
    Atomicity,
}

/// A tiled tensor in global memory, as bulk tensor copies (TMA) read it.
///
/// Axes begin with the innermost, as for `cuTensorMapEncodeTiled`. The encoded map is an argument of
/// 128 bytes (`Launch::bytes`), or lies in a buffer.
///
/// ```
/// use gigac_emulator::types::Ty;
/// use gigac_emulator::{Memory, TensorMap};
///
/// let mut memory = Memory::new();
/// let x = memory.buffer("x", vec![0; 64 * 128 * 2]);
/// let map = TensorMap::tiled(Ty::BF16, x, &[128, 64], &[256], &[64, 32]).swizzle(128);
/// assert_eq!(map.encode()?.len(), 128);
/// // A row of 64 bf16 fills 128 bytes; 128 of them do not fit the swizzle.
/// let wide = TensorMap::tiled(Ty::BF16, x, &[128, 64], &[256], &[128, 32]).swizzle(128);
/// assert!(wide.encode().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    address: u64,
    dims: Vec<u32>,
    /// Bytes between neighbours along dimension 1 and up.
    strides: Vec<u64>,
    boxes: Vec<u32>,
    /// Steps between the elements of a box that are moved.
    steps: Vec<u32>,
    element: Ty,
    /// 0 none, 1: 32 bytes, 2: 64 bytes, 3: 128 bytes.
    swizzle: u32,
    /// Places outside the tensor are NaN instead of zero.
    fill_nan: bool,
}

/// Element types by the number that `tensormap.replace` gives them.
const TYPES: [Ty; 12] = [
    Ty::U8,
    Ty::U16,
    Ty::U32,
    Ty::S32,
    Ty::U64,
    Ty::S64,
    Ty::F16,
    Ty::F32,
    Ty::F32,
    Ty::F64,
    Ty::BF16,
    Ty::TF32,
];

impl TensorMap {
    /// A tensor of `dims` elements at `address`, `strides` bytes apart along every axis but the
    /// innermost, of which boxes of `boxes` elements are moved.
    pub fn tiled(element: Ty, address: u64, dims: &[u32], strides: &[u64], boxes: &[u32]) -> Self {
        TensorMap {
            address,
            dims: dims.to_vec(),
            strides: strides.to_vec(),
            boxes: boxes.to_vec(),
            steps: vec![1; dims.len()],
            element,
            swizzle: 0,
            fill_nan: false,
        }
    }

    /// Swizzles rows of 32, 64 or 128 bytes of shared memory; 0 for none.
    pub fn swizzle(mut self, bytes: u32) -> Self {
        self.swizzle = match bytes {
            0 => 0,
            32 => 1,
            64 => 2,
            128 => 3,
            _ => u32::MAX,
        };
        self
    }

    /// Moves only every n-th element of a box along each axis.
    pub fn element_strides(mut self, steps: &[u32]) -> Self {
        self.steps = steps.to_vec();
        self
    }

    /// Fills what lies outside the tensor with NaN instead of zero.
    pub fn fill_nan(mut self, on: bool) -> Self {
        self.fill_nan = on;
        self
    }

    /// The map as bytes.
    ///
    /// # Errors
    /// What the driver refuses: ranks, boxes, strides and alignments that the hardware cannot do.
    pub fn encode(&self) -> Result<[u8; Self::BYTES], LaunchError> {
        let kind = self.check().map_err(|e| LaunchError::Arguments(format!("tensor map: {e}")))?;
        let mut out = [0; Self::BYTES];
        let mut put = |field, ordinal: usize, value: u64| {
            let Some((at, size)) = Self::field(field, ordinal as u32) else {
                unreachable!("a checked map has only fields that exist");
            };
            out[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(Field::Address, 0, self.address);
        put(Field::Rank, 0, self.rank() as u64 - 1);
        put(Field::Type, 0, kind as u64);
        put(Field::Swizzle, 0, u64::from(self.swizzle));
        put(Field::Fill, 0, u64::from(self.fill_nan));
        for d in 0..self.rank() {
            put(Field::Dim, d, u64::from(self.dims[d]));
            put(Field::Box, d, u64::from(self.boxes[d]));
            put(Field::ElementStride, d, u64::from(self.steps[d]));
        }
        self.strides.iter().enumerate().for_each(|(d, &s)| put(Field::Stride, d, s));
        Ok(out)
    }

    /// Number of the element type, if the map is one that the driver accepts.
    fn check(&self) -> Result<usize, String> {
        let rank = self.rank();
        let kind = TYPES.iter().position(|t| *t == self.element);
        let Some(kind) = kind else { return Err("elements of this type cannot be moved".into()) };
        if !(1..=5).contains(&rank) {
            return Err(format!("{rank} axes, 1 to 5 are possible"));
        }
        if (self.strides.len(), self.boxes.len(), self.steps.len()) != (rank - 1, rank, rank) {
            return Err("a stride for each axis but the first, a box and a step for each".into());
        }
        if !self.address.is_multiple_of(16) || self.strides.iter().any(|s| !s.is_multiple_of(16)) {
            return Err("the address and the strides must be multiples of 16".into());
        }
        if self.dims.contains(&0) || self.boxes.iter().any(|b| !(1..=256).contains(b)) {
            return Err("an axis must have elements, and a box 1 to 256 along each".into());
        }
        if self.steps.iter().any(|s| !(1..=8).contains(s)) {
            return Err("element strides are 1 to 8".into());
        }
        let row = self.boxes[0] * self.element.bytes();
        if !row.is_multiple_of(16) {
            return Err(format!("rows of {row} bytes, which is no multiple of 16"));
        }
        let span = match self.swizzle {
            0 => u32::MAX,
            s @ 1..=3 => 16 << s,
            _ => return Err("the swizzle is over 0, 32, 64 or 128 bytes".into()),
        };
        if row > span {
            return Err(format!("rows of {row} bytes do not fit a swizzle over {span}"));
        }
        Ok(kind)
    }

    pub(crate) const BYTES: usize = 128;

    /// Offset and size of a field.
    pub(crate) fn field(field: Field, ordinal: u32) -> Option<(usize, usize)> {
        let i = ordinal as usize;
        Some(match field {
            Field::Address => (0, 8),
            Field::Dim if i < 5 => (8 + 4 * i, 4),
            Field::Stride if i < 4 => (32 + 8 * i, 8),
            Field::Box if i < 5 => (64 + 4 * i, 4),
            Field::ElementStride if i < 5 => (84 + 4 * i, 4),
            Field::Type => (104, 4),
            Field::Interleave => (108, 4),
            Field::Swizzle => (112, 4),
            Field::Fill => (116, 4),
            Field::Rank => (120, 4),
            Field::Atomicity => (124, 4),
            _ => return None,
        })
    }

    pub(crate) fn parse(bytes: &[u8; Self::BYTES]) -> Option<TensorMap> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        // The stored rank is one less than the number of dimensions.
        let rank = word(120) as usize + 1;
        let element = *TYPES.get(word(104) as usize)?;
        let boxed = rank <= 5 && (0..rank).all(|i| (1..=256).contains(&word(64 + 4 * i)));
        // Interleaved layouts are for images; nothing here uses them.
        (boxed && word(112) < 4 && word(108) == 0).then(|| TensorMap {
            address: long(0),
            dims: (0..rank).map(|i| word(8 + 4 * i)).collect(),
            strides: (0..rank - 1).map(|i| long(32 + 8 * i)).collect(),
            boxes: (0..rank).map(|i| word(64 + 4 * i)).collect(),
            steps: (0..rank).map(|i| word(84 + 4 * i).max(1)).collect(),
            element,
            swizzle: word(112),
            fill_nan: word(116) != 0,
        })
    }

    /// What places outside the tensor hold.
    pub(crate) fn fill(&self) -> [u8; 16] {
        if !self.fill_nan {
            return [0; 16];
        }
        let one = match self.element {
            Ty::F16 | Ty::BF16 => 0x7fff_7fff_7fff_7fff,
            Ty::F64 => 0x7fff_ffff_ffff_ffff,
            _ => 0x7fff_ffff_7fff_ffff_u64,
        };
        let mut out = [0; 16];
        out.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&one.to_le_bytes()));
        out
    }

    /// Elements of the box along a dimension that are moved.
    fn count(&self, d: usize) -> u64 {
        u64::from(self.boxes[d].div_ceil(self.steps[d]))
    }

    pub(crate) fn rank(&self) -> usize {
        self.dims.len()
    }

    pub(crate) fn element(&self) -> Ty {
        self.element
    }

    pub(crate) fn box_bytes(&self) -> u64 {
        (0..self.rank()).map(|d| self.count(d)).product::<u64>() * u64::from(self.element.bytes())
    }

    /// Calls `f(global address or none, shared address, bytes)` for each part of the box at `at`.
    pub(crate) fn pieces(
        &self,
        at: &[i64],
        shared: u64,
        mut f: impl FnMut(Option<u64>, u64, usize),
    ) {
        let element = u64::from(self.element.bytes());
        let inner = self.count(0);
        let rows: u64 = (1..self.rank()).map(|d| self.count(d)).product();
        for row in 0..rows {
            let mut rest = row;
            let mut inside = true;
            let mut base = self.address;
            for (d, &corner) in at.iter().enumerate().skip(1) {
                let i = corner + (rest % self.count(d) * u64::from(self.steps[d])) as i64;
                rest /= self.count(d);
                inside &= (0..i64::from(self.dims[d])).contains(&i);
                base = base.wrapping_add_signed(i.wrapping_mul(self.strides[d - 1] as i64));
            }
            self.row(at[0], (base, inside), shared + row * inner * element, &mut f);
        }
    }

    /// The parts of one row of a box.
    fn row(
        &self,
        corner: i64,
        (base, inside): (u64, bool),
        shared: u64,
        f: &mut impl FnMut(Option<u64>, u64, usize),
    ) {
        let element = u64::from(self.element.bytes());
        let (inner, step) = (self.count(0), i64::from(self.steps[0]));
        let x = |column: u64| corner + column as i64 * step;
        let holds = |column: u64| inside && (0..i64::from(self.dims[0])).contains(&x(column));
        let mut column = 0;
        while column < inner {
            let target = shared + column * element;
            let here = holds(column);
            let source = base.wrapping_add_signed(x(column) * element as i64);
            // As many elements as stay on one side of the bounds and in one 16-byte unit.
            let most = if step == 1 { ((16 - target % 16) / element).max(1) } else { 1 };
            let mut n = 1;
            while n < most.min(inner - column) && holds(column + n) == here {
                n += 1;
            }
            // The largest power of two that is aligned on both sides.
            let fits = |b: &u64| {
                *b <= n * element
                    && (!here || source.is_multiple_of(*b))
                    && target.is_multiple_of(*b)
            };
            let bytes = [16, 8, 4, 2].into_iter().find(fits).unwrap_or(element).max(element);
            f(here.then_some(source), swizzle(target, self.swizzle), bytes as usize);
            column += bytes / element;
        }
    }
}

/// Permutes 16-byte units within 32-, 64- or 128-byte rows by the row number.
pub(crate) fn swizzle(address: u64, mode: u32) -> u64 {
    let rows = match mode {
        1 => address >> 7 & 1,
        2 => address >> 7 & 3,
        3 => address >> 7 & 7,
        _ => 0,
    };
    address ^ rows << 4
}
