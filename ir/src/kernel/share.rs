//! When two arguments of a kernel may be the same memory.
//!
//! `new`, which the kernel makes, may lie where `old` lies when every access to an element of
//! `old` comes before the first store to the same element of `new`. Grid points run in any order, so
//! the two accesses must belong to the same grid point, and inside it statements run in order. Code
//! generators may take statements of one block in windows of lanes, so two accesses of one block
//! must be to the same element in every lane. Products are tiled in ways of their own, and load what
//! an epilogue reads when a store needs it: there the store must also be the last of its block.
//!
//! An offset is a number whose digits are the positions of variables. Both accesses have the same
//! digits at the variables of the grid and of the loops around both of them when those variables have
//! the same strides in both offsets, everything else stays below the smallest of these strides or
//! is the same in both as well, and the strides do not run into each other.

use super::{BufferId, Expr, Factor, Kernel, Offset, Stmt, Term, TileId, VarId};

/// An access to a buffer.
#[derive(Clone)]
struct Visit<'k> {
    offset: &'k Offset,
    store: bool,
    /// Where it stands: numbers of statements, outermost block first.
    path: Vec<usize>,
    /// The loops around it, outermost first; the n-th one is at the n-th number of the path.
    loops: Vec<VarId>,
    /// Whether neither stores nor loops follow in its block.
    last: bool,
}

impl Visit<'_> {
    /// The block that it stands in.
    fn block(&self) -> &[usize] {
        &self.path[..self.path.len() - 1]
    }
}

impl Kernel {
    /// Whether the argument `new`, which the kernel makes, may lie where its argument `old` lies.
    pub fn may_lie_over(&self, new: BufferId, old: BufferId) -> bool {
        let storage = |buffer: BufferId| self.buffers[buffer.0 as usize].storage;
        if storage(old) != storage(new) {
            return false;
        }
        let mut visits =
            Visits { of: [old, new], found: [vec![], vec![]], adds: false, dots: false };
        visits.block(&self.body, &mut Vec::new(), &mut Vec::new());
        let Visits { found: [olds, news], adds, dots, .. } = visits;
        // What is added to must hold what it held.
        let ordered = |a: &Visit<'_>, b: &Visit<'_>| match dots {
            true => element_by_element(a, b) && b.last,
            false if a.block() == b.block() => element_by_element(a, b),
            false => precedes(self, a, b),
        };
        let mut stores = news.iter().filter(|v| v.store).peekable();
        !adds && stores.peek().is_some() && stores.all(|b| olds.iter().all(|a| ordered(a, b)))
    }
}

/// Collects the accesses to two buffers.
struct Visits<'k> {
    of: [BufferId; 2],
    found: [Vec<Visit<'k>>; 2],
    /// Whether there is a store that adds to one of them.
    adds: bool,
    /// Whether there is a product.
    dots: bool,
}

impl<'k> Visits<'k> {
    fn block(&mut self, stmts: &'k [Stmt], path: &mut Vec<usize>, loops: &mut Vec<VarId>) {
        for (i, stmt) in stmts.iter().enumerate() {
            path.push(i);
            let last = || stmts[i + 1..].iter().all(|s| matches!(s, Stmt::Let(..)));
            let mut access = |buffer: BufferId, offset, store| {
                let (path, loops, last) = (path.clone(), loops.clone(), last());
                self.access(buffer, Visit { offset, store, path, loops, last });
            };
            match stmt {
                Stmt::Let(_, Expr::Load { buffer, offset, .. }) => access(*buffer, offset, false),
                Stmt::Store { buffer, offset, accumulate, .. } => {
                    access(*buffer, offset, true);
                    self.adds |= *accumulate && self.of.contains(buffer);
                }
                Stmt::Loop { var, body, .. } => {
                    loops.push(*var);
                    self.block(body, path, loops);
                    loops.pop();
                }
                Stmt::Let(_, expr) => self.dots |= matches!(expr, Expr::Dot(..)),
                Stmt::When(_) => {}
            }
            path.pop();
        }
    }

    fn access(&mut self, buffer: BufferId, visit: Visit<'k>) {
        for (of, found) in self.of.iter().zip(&mut self.found) {
            if *of == buffer {
                found.push(visit.clone());
            }
        }
    }
}

/// Whether one access stands before another in one block, at the same elements.
fn element_by_element(a: &Visit<'_>, b: &Visit<'_>) -> bool {
    a.block() == b.block() && a.path < b.path && a.offset == b.offset
}

/// Whether one access comes before another at every element that both touch.
fn precedes(kernel: &Kernel, a: &Visit<'_>, b: &Visit<'_>) -> bool {
    let around = a.loops.iter().zip(&b.loops).enumerate();
    let both = around.take_while(|(i, _)| a.path[..=*i] == b.path[..=*i]);
    let mut vars: Vec<VarId> = both.map(|(_, (var, _))| *var).collect();
    vars.extend(kernel.grid.iter().filter(|v| kernel.var(**v).tiles() > 1));
    a.path < b.path && same_digits(kernel, &vars, a.offset, b.offset)
}

/// Whether equal elements have equal positions of the variables in both offsets.
fn same_digits(kernel: &Kernel, vars: &[VarId], a: &Offset, b: &Offset) -> bool {
    let [Some(a_parts), Some(b_parts)] = [a, b].map(|o| Parts::of(kernel, vars, o)) else {
        return false;
    };
    let apart = a.collision(kernel, vars).is_none() && b.collision(kernel, vars).is_none();
    apart
        && a_parts.digits == b_parts.digits
        && a_parts.scalars == b_parts.scalars
        && a_parts.high == b_parts.high
        && a_parts.clear()
        && b_parts.clear()
}

/// The terms of an offset, sorted by what they have to do with some variables.
struct Parts {
    /// Terms of the variables.
    digits: Vec<Term>,
    /// Terms of scalars.
    scalars: Vec<Term>,
    /// Other terms with at least the smallest stride of the variables: stride and positions.
    high: Vec<(u64, u64)>,
    /// Strides and positions of the variables' terms.
    strides: Vec<(u64, u64)>,
    /// Smallest and largest value of the rest.
    low: (i64, i64),
}

impl Parts {
    /// None when a tile of unknown range takes part, or a stride is negative.
    fn of(kernel: &Kernel, vars: &[VarId], offset: &Offset) -> Option<Self> {
        let (mut digits, mut scalars, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut strides = Vec::new();
        for term in &offset.terms {
            let stride = u64::try_from(term.coefficient).ok()?;
            let size = || Some((stride, term.factor.positions(kernel)?));
            match term.factor {
                Factor::Tile(tile) => {
                    others.push((stride, loaded_below(kernel, &kernel.body, tile)?));
                }
                Factor::Scalar(_) => scalars.push(*term),
                Factor::Digit { var, .. } if vars.contains(&var) => {
                    digits.push(*term);
                    strides.push(size()?);
                }
                Factor::Digit { .. } => others.push(size()?),
            }
        }
        let least = strides.iter().map(|(stride, _)| *stride).min().unwrap_or(u64::MAX);
        let (below, mut high): (Vec<_>, Vec<_>) = others.into_iter().partition(|(s, _)| *s < least);
        let reach: u64 = below.iter().map(|(stride, positions)| stride * (positions - 1)).sum();
        high.sort_unstable();
        digits.sort_unstable();
        scalars.sort_unstable();
        let low = (offset.constant, offset.constant.checked_add_unsigned(reach)?);
        Some(Self { digits, scalars, high, strides, low })
    }

    /// Whether no term runs into the next larger one.
    fn clear(&self) -> bool {
        let mut all = [&self.strides[..], &self.high].concat();
        all.sort_unstable();
        let Some((least, _)) = all.first() else { return true };
        let mut reach = u128::from(*least) - 1;
        let within = self.low.0 >= 0 && self.low.1 as u128 <= reach;
        within
            && all.iter().all(|(stride, positions)| {
                let clear = u128::from(*stride) > reach;
                reach += u128::from(*stride) * u128::from(positions - 1);
                clear
            })
    }
}

/// What an int tile is below, when it is loaded from a buffer that says so.
fn loaded_below(kernel: &Kernel, stmts: &[Stmt], tile: TileId) -> Option<u64> {
    stmts.iter().find_map(|stmt| match stmt {
        Stmt::Let(value, Expr::Load { buffer, mask: None, .. }) if *value == tile => {
            kernel.buffers[buffer.0 as usize].below.filter(|below| *below > 0)
        }
        Stmt::Loop { body, .. } => loaded_below(kernel, body, tile),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `y` may lie over `x` in a kernel over 6 rows of 8.
    fn shares(body: &str) -> bool {
        let text = format!(
            "kernel k \"\" {{\n  read x: f32[48]\n  read i: i32[6]\n  write y: f32[48]\n  \
             var r: 6 / 1\n  var c: 8 / 4\n  var d: 8 / 4\n  grid r\n{body}\n}}\n"
        );
        let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        kernel.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        kernel.may_lie_over(BufferId(2), BufferId(0))
    }

    #[test]
    fn element_by_element_shares() {
        assert!(shares("loop c {\n %0: f32[r, c] = load x[8*r + c]\n store y[8*r + c] = %0\n }"));
    }

    #[test]
    fn the_next_element_must_not_be_gone() {
        let body = "loop c {\n %0: f32[r, c] = load x[40 - 8*r + c]\n store y[8*r + c] = %0\n }";
        assert!(!shares(body));
        // Row 8·r + c of `x` is read when column r of `y` has been written.
        assert!(!shares("loop c {\n %0: f32[r, c] = load x[8*r + c]\n store y[r + 6*c] = %0\n }"));
    }

    #[test]
    fn lanes_of_one_block_must_not_meet() {
        // A generator may store the first lanes before it loads the last ones.
        let body = "loop c {\n %0: f32[r, c] = load x[8*r - c + 7]\n store y[8*r + c] = %0\n }";
        assert!(!shares(body));
    }

    #[test]
    fn an_epilogue_shares_what_it_stores_last() {
        let shares = |stores: &str| {
            let text = format!(
                "kernel k \"\" {{\n read x: f32[48]\n read a: f32[24]\n read b: f32[32]\n \
                 write y: f32[48]\n write z: f32[48]\n var r: 6 / 6\n var c: 8 / 8\n \
                 var k: 4 / 4\n grid r, c\n %0: f32[r, c] = 0.0\n \
                 loop k carry (%1: f32[r, c] = %0 -> %2) {{\n %3: f32[r, k] = load a[4*r + k]\n \
                 %4: f32[c, k] = load b[4*c + k]\n %5: f32[r, c] = dot %3, %4 along k\n \
                 %6: f32[r, c] = add %1, %5\n next %6\n }}\n %7: f32[r, c] = load x[8*r + c]\n \
                 %8: f32[r, c] = add %2, %7\n {stores}\n}}"
            );
            let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            kernel.verify().unwrap_or_else(|e| panic!("{e:?}\n{text}"));
            kernel.may_lie_over(BufferId(3), BufferId(0))
        };
        let (y, z) = ("store y[8*r + c] = %2\n", "store z[8*r + c] = %8\n");
        assert!(shares(&format!("{z}{y}")));
        // The residual is loaded when `z` needs it.
        assert!(!shares(&format!("{y}{z}")));
    }

    #[test]
    fn a_row_read_before_it_is_written_shares() {
        let sum = "%0: f32 = 0.0\n loop c carry (%1: f32[r, c] = %0 -> %2) {\n \
                   %3: f32[r, c] = load x[8*r + c]\n %4: f32[r, c] = add %1, %3\n next %4\n }\n \
                   %5: f32[r] = reduce sum %2 along c\n";
        let write = "loop d {\n %6: f32[r, d] = load x[8*r + d]\n store y[8*r + d] = %6\n }\n";
        assert!(shares(&format!("{sum}{write}")));
        // The other way round the sum would be one of new elements.
        assert!(!shares(&format!("{write}{sum}")));
    }

    #[test]
    fn a_row_read_at_a_place_that_the_data_choose_shares() {
        let body = |below: &str| {
            format!(
                "read j: i32[6]{below}\n var r: 6 / 1\n var c: 8 / 4\n grid r\n \
                 %0: i32[r] = load j[r]\n %1: f32[r] = load x[8*r + %0]\n loop c {{\n \
                 store y[8*r + c] = %1\n }}"
            )
        };
        let shares = |below: &str| {
            let text = format!(
                "kernel k \"\" {{\n read x: f32[48]\n write y: f32[48]\n {}\n}}",
                body(below)
            );
            let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            kernel.may_lie_over(BufferId(1), BufferId(0))
        };
        assert!(shares(" below 8"));
        assert!(!shares(" below 9"), "the next row");
        assert!(!shares(""), "anywhere");
    }

    #[test]
    fn another_point_may_still_read() {
        // Every point reads the whole of `x`, one element of each row.
        let body = "loop c {\n %0: f32[c] = load x[6*c]\n store y[8*r + c] = %0\n }";
        assert!(!shares(body));
        let body = "%0: i32[r] = load i[r]\n %1: f32[r] = load x[%0]\n loop c {\n \
                    store y[8*r + c] = %1\n }";
        assert!(!shares(body));
    }
}
