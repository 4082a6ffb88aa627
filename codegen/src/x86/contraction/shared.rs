//! Kernels whose sums all have the same rows and columns: one sum of products, or products of one
//! operand with several others.
//!
//! Several sums are computed tile by tile: the tile of the first one, the same tile of the second
//! one, and so on, while the operand that they share is in the first cache. A store follows the tile
//! of the last sum that it reads; sums that wait for it lie in memory meanwhile.

use std::collections::BTreeSet;
use std::ops::{Deref, Range};

use gigac_ir::kernel::{Kernel, VarId};

use crate::pattern::{Product, Products, Store, Sum};

/// A kernel of products with its parts named.
pub(super) struct Contraction<'k> {
    of: Products<'k>,
    /// The variable whose positions are rows of the results.
    pub(super) rows: VarId,
    /// The variable along which the results are contiguous.
    pub(super) cols: VarId,
    /// All products, loop after loop.
    pub(super) products: Vec<Product>,
    /// For each store of the epilogue, the product behind which it stands.
    behind: Vec<usize>,
}

impl<'k> Deref for Contraction<'k> {
    type Target = Products<'k>;

    fn deref(&self) -> &Products<'k> {
        &self.of
    }
}

impl<'k> Contraction<'k> {
    /// Names the parts of a verified kernel.
    ///
    /// # Errors
    /// The first part that does not fit.
    pub(super) fn recognise(kernel: &'k Kernel) -> Result<Self, &'static str> {
        let of = Products::recognise(kernel)?;
        let Sum { rows, cols, .. } = of.sums[0];
        if of.sums.iter().any(|s| (s.rows, s.cols) != (rows, cols)) {
            return Err("its sums have different rows or columns");
        }
        let products = of.loops.concat();
        let behind = behind(&of, &products);
        Ok(Self { of, rows, cols, products, behind })
    }

    /// The products of each loop, by number.
    pub(super) fn loops(&self) -> impl Iterator<Item = Range<usize>> {
        self.of.loops.iter().scan(0, |at, products| {
            let from = *at;
            *at += products.len();
            Some(from..*at)
        })
    }

    /// The first product of the same loop with the same operand of rows.
    pub(super) fn first_with_rows(&self, product: usize) -> usize {
        self.first_alike(product, |p| p.lhs)
    }

    /// The first product of the same loop with the same operand of columns.
    pub(super) fn first_with_cols(&self, product: usize) -> usize {
        self.first_alike(product, |p| p.rhs)
    }

    fn first_alike<T: PartialEq>(&self, product: usize, of: impl Fn(&Product) -> T) -> usize {
        let mut inside = self.loops().filter(|range| range.contains(&product));
        let mut range = inside.next().expect("every product is of a loop");
        let wanted = of(&self.products[product]);
        range.find(|i| of(&self.products[*i]) == wanted).expect("it is like itself")
    }

    /// Whether a product is the first of its sum.
    pub(super) fn starts(&self, product: usize) -> bool {
        let sum = self.products[product].sum;
        self.products[..product].iter().all(|p| p.sum != sum)
    }

    /// Whether a product is the last of its sum.
    pub(super) fn ends(&self, product: usize) -> bool {
        last_product(&self.products, self.products[product].sum) == product
    }

    /// The stores behind a product.
    pub(super) fn stores_behind(&self, product: usize) -> impl Iterator<Item = &Store<'k>> {
        let stores = self.stores.iter().zip(&self.behind);
        stores.filter(move |(_, behind)| **behind == product).map(|(store, _)| store)
    }

    /// The sums that the stores behind a product read beside its own, by number.
    pub(super) fn read_behind(&self, product: usize) -> BTreeSet<usize> {
        let mut sums = self.sums_of(self.stores_behind(product).flat_map(Store::operands));
        sums.remove(&self.products[product].sum);
        sums
    }

    /// Whether stores behind later products read the sum of a product.
    pub(super) fn waits(&self, product: usize) -> bool {
        let sum = self.products[product].sum;
        (0..self.products.len()).any(|p| p != product && self.read_behind(p).contains(&sum))
    }
}

/// For each store the product behind which it stands: all sums that it reads are there, and no store
/// overtakes one in front of it.
fn behind(of: &Products<'_>, products: &[Product]) -> Vec<usize> {
    let needs = |store: &Store<'_>| {
        let sums = of.sums_of(store.operands()).into_iter();
        sums.map(|sum| last_product(products, sum)).max().unwrap_or(products.len() - 1)
    };
    let mut before = 0;
    let in_order = of.stores.iter().map(|store| {
        before = before.max(needs(store));
        before
    });
    in_order.collect()
}

fn last_product(products: &[Product], sum: usize) -> usize {
    products.iter().rposition(|p| p.sum == sum).expect("every sum has a product")
}
