//! What a kernel does: products, vector operations and bytes, read off its tile program.
//!
//! Counts are exact for the program as written: a statement inside a loop counts for every turn,
//! a value that does not vary along a loop's variable is computed once a turn, and lanes past an
//! extent count nothing. Bytes of memory are those that differ: what several grid points load is
//! counted once, since caches serve the rest.

use std::collections::{BTreeMap, BTreeSet};

use gigac_ir::kernel::{
    Access, BufferId, Expr, Factor, Kernel, Offset, Stmt, Storage, TileId, VarId,
};
use gigac_ir::pointwise::Pointwise;

use crate::skip::{Definitions, definitions, share};

/// Vector operations of one random number: the rounds of Philox.
const NOISE: u64 = 60;

/// A matrix product inside a kernel, or many equal ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Number of products.
    pub batch: u64,
    /// Rows of the result: positions of the left operand alone.
    pub rows: u64,
    /// Columns: positions of the right operand alone.
    pub cols: u64,
    /// Length of each sum.
    pub depth: u64,
    /// Rows and columns that a grid point computes, in the kernel as it is.
    pub tile: [u64; 2],
    /// How the operands lie in memory: bf16 only when both do.
    pub storage: Storage,
    /// The share that is computed, where turns of loops are left out.
    pub share: f64,
    /// Whether the left and the right operand are loaded for this product: none that an earlier one
    /// along the same variable has.
    pub loads: [bool; 2],
}

impl Product {
    /// Whether it has the sizes of another one and takes an operand that is loaded already.
    pub(crate) fn is_sibling(&self, other: &Self) -> bool {
        let sizes = |p: &Self| [p.batch, p.rows, p.cols, p.depth];
        sizes(self) == sizes(other) && self.loads.contains(&false)
    }

    /// Floating-point operations; a multiply-add is two.
    pub fn flops(&self) -> f64 {
        let [batch, rows, cols, depth] =
            [self.batch, self.rows, self.cols, self.depth].map(|n| n as f64);
        2.0 * batch * rows * cols * depth * self.share
    }
}

/// What a launch of a kernel does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Matrix products.
    pub products: Vec<Product>,
    /// All other operations on single elements, by the prices of the pointwise table.
    pub vector: f64,
    /// Different bytes read from memory.
    pub read: f64,
    /// Different bytes written to memory.
    pub written: f64,
    /// Bytes that all grid points together load and store.
    pub moved: f64,
    /// Grid points.
    pub points: u64,
}

impl Work {
    /// The work of one launch.
    pub fn of(kernel: &Kernel) -> Self {
        let mut count = Count {
            kernel,
            blocks: kernel.grid.clone(),
            work: Self { points: kernel.grid_points(), ..Self::default() },
            touched: BTreeMap::new(),
            memory: BTreeMap::new(),
            dots: BTreeSet::new(),
            multiplied: BTreeSet::new(),
            definitions: definitions(kernel),
            share: 1.0,
        };
        count.stmts(&kernel.body);
        count.finish()
    }

    /// Operations of the products.
    pub fn product_flops(&self) -> f64 {
        self.products.iter().map(Product::flops).sum()
    }

    /// Different bytes read and written.
    pub fn bytes(&self) -> f64 {
        self.read + self.written
    }
}

struct Count<'k> {
    kernel: &'k Kernel,
    /// Variables of the grid and of the loops around the statement.
    blocks: Vec<VarId>,
    work: Work,
    /// Different elements of each buffer by access: several loads at one offset are one.
    touched: BTreeMap<(BufferId, bool), Vec<(Offset, f64)>>,
    /// Storage of the memory that a tile was loaded from, or that it was rounded to.
    memory: BTreeMap<TileId, Storage>,
    /// Results of dots.
    dots: BTreeSet<TileId>,
    /// Operands of dots, with the variables that they are summed along.
    multiplied: BTreeSet<(TileId, VarId)>,
    definitions: Definitions<'k>,
    /// The share of the turns of the loops around the statement that are not left out.
    share: f64,
}

impl Count<'_> {
    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(tile, expr) => self.define(*tile, expr),
                Stmt::When(_) => {}
                Stmt::Loop { var, body, .. } => self.turns(*var, body),
                Stmt::Store { buffer, offset, value, accumulate, .. } => {
                    let vars = &self.kernel.ty(*value).vars;
                    self.access(*buffer, offset, vars, true);
                    if *accumulate {
                        self.access(*buffer, offset, vars, false);
                    }
                }
            }
        }
    }

    /// The turns of a loop that are not left out.
    fn turns(&mut self, var: VarId, body: &[Stmt]) {
        let (before, masks) = (self.share, body.iter());
        self.blocks.push(var);
        for mask in masks.filter_map(|s| if let Stmt::When(mask) = s { Some(*mask) } else { None })
        {
            self.share *= share(self.kernel, &self.definitions, mask, &self.blocks);
        }
        self.stmts(body);
        self.blocks.pop();
        self.share = before;
    }

    fn define(&mut self, tile: TileId, expr: &Expr) {
        let vars = &self.kernel.ty(tile).vars;
        let price = match expr {
            // Adding a product to the sum so far is part of the multiply-add.
            Expr::Pointwise(Pointwise::Add, operands)
                if operands.iter().any(|o| self.dots.contains(o)) =>
            {
                0
            }
            Expr::Pointwise(function, _) => {
                if *function == Pointwise::Bf16 {
                    self.memory.insert(tile, Storage::Bf16);
                }
                u64::from(function.def().flops)
            }
            Expr::Noise { .. } => NOISE,
            Expr::Load { buffer, offset, .. } => {
                self.memory.insert(tile, self.buffer(*buffer));
                self.access(*buffer, offset, vars, false);
                0
            }
            Expr::Reduce(_, operand, _) => {
                self.work.vector += self.executed(&self.kernel.ty(*operand).vars);
                0
            }
            Expr::Dot(a, b, along) => {
                self.product(*a, *b, *along);
                self.dots.insert(tile);
                0
            }
            Expr::Real(_) | Expr::Int(_) | Expr::Bool(_) | Expr::Index(_) => 0,
        };
        self.work.vector += price as f64 * self.executed(vars);
    }

    fn buffer(&self, buffer: BufferId) -> Storage {
        self.kernel.buffers[buffer.0 as usize].storage
    }

    /// Elements that a statement of such a type computes in one launch.
    fn executed(&self, vars: &[VarId]) -> f64 {
        let turns = self.blocks.iter().map(|v| {
            let var = self.kernel.var(*v);
            if vars.contains(v) { var.extent } else { var.tiles() }
        });
        let lanes = vars.iter().filter(|v| !self.blocks.contains(v));
        let lanes = lanes.map(|v| self.kernel.var(*v).tile.min(self.kernel.var(*v).extent));
        self.share * turns.chain(lanes).map(|n| n as f64).product::<f64>()
    }

    fn access(&mut self, buffer: BufferId, offset: &Offset, vars: &[VarId], written: bool) {
        let memory = &self.kernel.buffers[buffer.0 as usize];
        if memory.access == Access::Local {
            return;
        }
        self.work.moved += self.executed(vars) * memory.storage.bytes() as f64;
        let different = self.positions(offset).min(memory.elements as f64);
        let accesses = self.touched.entry((buffer, written)).or_default();
        if accesses.iter().all(|(known, _)| known != offset) {
            accesses.push((offset.clone(), different));
        }
    }

    /// Positions that an offset's variables have together, through int tiles too.
    fn positions(&self, offset: &Offset) -> f64 {
        let mut vars = BTreeSet::new();
        for term in &offset.terms {
            match term.factor {
                Factor::Digit { var, .. } => {
                    vars.insert(var);
                }
                Factor::Tile(tile) => vars.extend(&self.kernel.ty(tile).vars),
                Factor::Scalar(_) => {}
            }
        }
        vars.iter().map(|v| self.kernel.var(*v).extent as f64).product()
    }

    fn product(&mut self, a: TileId, b: TileId, along: VarId) {
        let of = |tile: TileId| -> BTreeSet<VarId> {
            self.kernel.ty(tile).vars.iter().copied().filter(|v| *v != along).collect()
        };
        let (left, right) = (of(a), of(b));
        let extent = |vars: &mut dyn Iterator<Item = &VarId>| -> u64 {
            vars.map(|v| self.kernel.var(*v).extent).product()
        };
        let tile = |vars: &mut dyn Iterator<Item = &VarId>| -> u64 {
            vars.map(|v| self.kernel.var(*v).tile.min(self.kernel.var(*v).extent)).product()
        };
        // Blocks that neither operand varies along compute the product again in each turn.
        let again = self.blocks.iter().filter(|v| !left.contains(v) && !right.contains(v));
        let again = again.filter(|v| **v != along).map(|v| self.kernel.var(*v).tiles());
        let storage = match (self.memory.get(&a), self.memory.get(&b)) {
            (Some(Storage::Bf16), Some(Storage::Bf16)) => Storage::Bf16,
            _ => Storage::F32,
        };
        let inside = self.blocks.contains(&along);
        let depth = self.kernel.var(along);
        self.work.products.push(Product {
            batch: extent(&mut left.intersection(&right)) * again.product::<u64>(),
            rows: extent(&mut left.difference(&right)),
            cols: extent(&mut right.difference(&left)),
            depth: if inside { depth.extent } else { depth.tile.min(depth.extent) },
            tile: [tile(&mut left.difference(&right)), tile(&mut right.difference(&left))],
            storage,
            share: self.share,
            loads: [a, b].map(|operand| self.multiplied.insert((operand, along))),
        });
    }

    fn finish(mut self) -> Work {
        for ((buffer, written), accesses) in &self.touched {
            let memory = &self.kernel.buffers[buffer.0 as usize];
            let elements: f64 = accesses.iter().map(|(_, n)| n).sum();
            let bytes = elements.min(memory.elements as f64) * memory.storage.bytes() as f64;
            if *written {
                self.work.written += bytes;
            } else {
                self.work.read += bytes;
            }
        }
        self.work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(text: &str) -> Work {
        let kernel = Kernel::parse(text).unwrap();
        kernel.verify().unwrap();
        Work::of(&kernel)
    }

    #[test]
    fn product() {
        let work = work(
            r#"kernel linear "y" {
              read x: bf16[131072]
              read w: bf16[98304]
              write y: f32[196608]
              var t: 512 / 128
              var f: 384 / 100
              var d: 256 / 32
              grid t, f
              %0: f32[t, f] = 0.0
              loop d carry (%1: f32[t, f] = %0 -> %2) {
                %3: f32[t, d] = load x[256*t + d]
                %4: f32[f, d] = load w[256*f + d]
                %5: f32[t, f] = dot %3, %4 along d
                %6: f32[t, f] = add %1, %5
                next %6
              }
              store y[384*t + f] = %2
            }"#,
        );
        let product = Product {
            batch: 1,
            rows: 512,
            cols: 384,
            depth: 256,
            tile: [128, 100],
            storage: Storage::Bf16,
            share: 1.0,
            loads: [true; 2],
        };
        assert_eq!(work.products, [product]);
        assert_eq!(work.vector, 0.0, "the sum is part of the multiply-add");
        assert_eq!((work.read, work.written), (2.0 * (131072.0 + 98304.0), 4.0 * 196608.0));
        // Each of 4 column blocks loads all of x, each of 4 row blocks all of w.
        assert_eq!(work.moved, 2.0 * 4.0 * (131072.0 + 98304.0) + 4.0 * 196608.0);
        assert_eq!(work.points, 16);
    }

    #[test]
    fn rows_with_ragged_tiles() {
        let work = work(
            r#"kernel rows "y" {
              read x: f32[700]
              write y: f32[700]
              write s: f32[7]
              var r: 7 / 1
              var c: 100 / 64
              var e: 100 / 64
              grid r
              %0: f32 = 0.0
              loop c carry (%1: f32[r, c] = %0 -> %2) {
                %3: f32[r, c] = load x[100*r + c]
                %4: f32[r, c] = exp %3
                %5: f32[r, c] = add %1, %4
                next %5
              }
              %6: f32[r] = reduce sum %2 along c
              store s[r] = %6
              loop e {
                %7: f32[r, e] = load x[100*r + e]
                %8: f32[r, e] = div %7, %6
                store y[100*r + e] = %8
              }
            }"#,
        );
        // exp and add on 700 elements, a tile of 64 lanes reduced for each row, a division.
        assert_eq!(work.vector, 700.0 * 13.0 + 7.0 * 64.0 + 700.0 * 4.0);
        assert_eq!((work.read, work.written), (2800.0, 2828.0));
        assert_eq!(work.moved, 2.0 * 2800.0 + 2800.0 + 28.0);
    }

    /// The attention of `docs/kernel-ir.md`: a causal mask leaves out 6 of 16 tiles.
    #[test]
    fn masked_tiles_cost_nothing() {
        let page = include_str!("../../docs/kernel-ir.md");
        let blocks = page.split("```kernel").skip(1).filter_map(|b| b.split("```").next());
        let text = blocks.into_iter().find(|b| b.contains("kernel attention")).unwrap();
        let masked = work(text);
        let full = work(&text.replace("when %15", ""));
        assert_eq!(masked.products.len(), 2);
        for (masked, full) in masked.products.iter().zip(&full.products) {
            assert_eq!(full.flops(), 2.0 * 2.0 * 256.0 * 256.0 * 64.0);
            assert_eq!(masked.flops(), full.flops() * 10.0 / 16.0);
        }
        assert_eq!(masked.products[1].tile, [64, 64]);
        assert!(masked.vector < 0.7 * full.vector);
        assert_eq!(masked.bytes(), full.bytes(), "everything is read by some tile");
    }

    #[test]
    fn gathers_touch_what_they_read() {
        let work = work(
            r#"kernel gather "y" {
              read table: f32[64000]
              read at: i32[10]
              write y: f32[640]
              var t: 10 / 1
              var d: 64 / 64
              grid t
              %0: i32[t] = load at[t]
              loop d {
                %1: f32[t, d] = load table[d + 64*%0]
                store y[64*t + d] = %1
              }
            }"#,
        );
        assert_eq!((work.read, work.written), (4.0 * 650.0, 4.0 * 640.0));
    }
}
