//! What has been seen of the warps of each unit of a launch: a map that is cheap to copy and to join.
//!
//! A fence publishes all that its warp knows, and in a grid whose blocks follow one another that is something about every earlier
//! block. So the map is a tree that shares what two copies have in common: inserting copies one path, joining passes over shared
//! parts, both O(log units).

use std::sync::Arc;

use super::clock::Unit;

/// Clocks of the warps of one unit.
pub(crate) type Seen = Arc<[u32]>;

/// Bits of a unit's number that one level looks at.
const BITS: u32 = 4;
const FAN: usize = 1 << BITS;

#[derive(Debug, Clone)]
enum Node {
    Leaf(Seen),
    Branch([Option<Arc<Node>>; FAN]),
}

/// What has been seen of each unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    /// Levels of branches above the leaves.
    height: u32,
    root: Option<Arc<Node>>,
}

/// The child of a branch at this height that leads to `unit`.
fn child(unit: Unit, height: u32) -> usize {
    (unit >> (BITS * (height - 1))) as usize % FAN
}

impl Knowledge {
    fn holds(&self, unit: Unit) -> bool {
        u64::from(unit) >> (BITS * self.height) == 0
    }

    /// Puts branches above the root until there are `height` of them.
    fn raise(&mut self, height: u32) {
        while self.height < height {
            if let Some(root) = self.root.take() {
                let mut children = [const { None }; FAN];
                children[0] = Some(root);
                self.root = Some(Arc::new(Node::Branch(children)));
            }
            self.height += 1;
        }
    }

    pub(crate) fn get(&self, unit: Unit) -> Option<&Seen> {
        if !self.holds(unit) {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut height = self.height;
        loop {
            match &**node {
                Node::Leaf(seen) => return Some(seen),
                Node::Branch(children) => node = children[child(unit, height)].as_ref()?,
            }
            height -= 1;
        }
    }

    /// Whether an access of that warp at `clock` has been seen.
    pub(crate) fn has(&self, unit: Unit, warp: u32, clock: u32) -> bool {
        self.get(unit).and_then(|s| s.get(warp as usize)).is_some_and(|&c| c >= clock)
    }

    /// Whether nothing is known of any other unit.
    pub(crate) fn is_only(&self, unit: Unit) -> bool {
        let mut node = &self.root;
        let mut height = self.height;
        while let Some(Node::Branch(children)) = node.as_deref() {
            let own = child(unit, height);
            if children.iter().enumerate().any(|(i, c)| c.is_some() && i != own) {
                return false;
            }
            node = &children[own];
            height -= 1;
        }
        self.root.is_none() || self.get(unit).is_some()
    }

    pub(crate) fn insert(&mut self, unit: Unit, seen: Seen) {
        let mut height = self.height;
        while u64::from(unit) >> (BITS * height) != 0 {
            height += 1;
        }
        self.raise(height);
        put(&mut self.root, self.height, unit, seen);
    }

    /// Learns all that `other` has seen.
    pub(crate) fn join(&mut self, other: &Knowledge) {
        if self.height < other.height {
            self.raise(other.height);
        }
        if other.height < self.height {
            let mut raised = other.clone();
            raised.raise(self.height);
            merge(&mut self.root, &raised.root);
        } else {
            merge(&mut self.root, &other.root);
        }
    }
}

fn put(node: &mut Option<Arc<Node>>, height: u32, unit: Unit, seen: Seen) {
    if height == 0 {
        *node = Some(Arc::new(Node::Leaf(seen)));
        return;
    }
    let branch = node.get_or_insert_with(|| Arc::new(Node::Branch([const { None }; FAN])));
    if let Node::Branch(children) = Arc::make_mut(branch) {
        put(&mut children[child(unit, height)], height - 1, unit, seen);
    }
}

/// `a` becomes the union of two trees of the same height; where that is `b`, it becomes `b` itself, so that later joins are short.
fn merge(a: &mut Option<Arc<Node>>, b: &Option<Arc<Node>>) {
    let Some(theirs) = b else { return };
    let Some(mine) = a else {
        *a = Some(theirs.clone());
        return;
    };
    if Arc::ptr_eq(mine, theirs) {
        return;
    }
    match (&**mine, &**theirs) {
        (Node::Leaf(x), Node::Leaf(y)) => {
            let newer = |x: &Seen, y: &Seen| x.iter().zip(y.iter()).any(|(x, y)| x > y);
            if !newer(x, y) {
                *mine = theirs.clone();
            } else if newer(y, x) {
                let both = x.iter().zip(y.iter()).map(|(x, y)| *x.max(y)).collect();
                *mine = Arc::new(Node::Leaf(both));
            }
        }
        (Node::Branch(x), Node::Branch(y)) => {
            let mut both = x.clone();
            both.iter_mut().zip(y).for_each(|(x, y)| merge(x, y));
            if (0..FAN).all(|i| is_same(&both[i], &y[i])) {
                *mine = theirs.clone();
            } else if !(0..FAN).all(|i| is_same(&both[i], &x[i])) {
                *mine = Arc::new(Node::Branch(both));
            }
        }
        _ => unreachable!("two trees of one height have their leaves on one level"),
    }
}

fn is_same(a: &Option<Arc<Node>>, b: &Option<Arc<Node>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Against plain maps: inserts and joins in a fixed pseudo-random order, over units of every height.
    #[test]
    fn a_tree_is_a_map() {
        let mut state = 7u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut trees = vec![(Knowledge::default(), HashMap::<u32, Vec<u32>>::new()); 6];
        let units = [0, 1, 2, 15, 16, 17, 255, 256, 4095, 70_000, 1 << 20, u32::MAX - 1, u32::MAX];
        for _ in 0..2000 {
            let (i, j) = (next(6) as usize, next(6) as usize);
            if next(3) == 0 {
                let unit = units[next(units.len() as u32) as usize];
                let seen = vec![next(50) + 1, next(50) + 1];
                trees[i].0.insert(unit, seen.clone().into());
                trees[i].1.insert(unit, seen);
            } else if i != j {
                let (tree, map) = trees[j].clone();
                trees[i].0.join(&tree);
                for (unit, seen) in map {
                    let mine = trees[i].1.entry(unit).or_insert_with(|| vec![0; 2]);
                    mine.iter_mut().zip(seen).for_each(|(m, s)| *m = s.max(*m));
                }
            }
            for (tree, map) in &trees {
                for unit in units {
                    assert_eq!(tree.get(unit).map(|s| s.to_vec()), map.get(&unit).cloned());
                    let only = map.is_empty() || (map.len() == 1 && map.contains_key(&unit));
                    assert_eq!(tree.is_only(unit), only, "{unit} {map:?}");
                }
            }
        }
    }

    /// Units that each learn what the one before knew share all but one path.
    #[test]
    fn a_chain_of_units_shares_its_past() {
        let mut tree = Knowledge::default();
        (0..1000).for_each(|unit| tree.insert(unit, vec![1].into()));
        let mut later = tree.clone();
        later.insert(1000, vec![1].into());
        let mut old = tree.clone();
        old.join(&later);
        assert!(is_same(&old.root, &later.root), "the union with a successor is the successor");
    }
}
