//! Tensor maps in a layout of our own: the hardware's is not public, and programs only write it
//! through `tensormap.replace` or receive it from the host.

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

/// A tiled tensor in global memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorMap {
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

impl TensorMap {
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
        let element = *TYPES.get(word(104) as usize)?;
        // Interleaved layouts are for images; nothing here uses them.
        (rank <= 5 && word(112) < 4 && word(108) == 0).then(|| TensorMap {
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
