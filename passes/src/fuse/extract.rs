//! Extraction: the cheapest way to compute some classes, where what is shared is paid for once.
//!
//! The problem is a graph of classes; a class is computed by one of its *candidates*, which has a
//! cost and needs other classes. A solution chooses a candidate for every class that the roots
//! need, without cycles; it costs the sum over these classes. That is NP-hard, so:
//!
//! 1. candidates that are dearer than another and need all that it needs, are dropped;
//! 2. a greedy search over sets gives a solution: every class keeps the cheapest set of choices
//!    known for it, until none gets cheaper;
//! 3. single choices are changed while that helps;
//! 4. branch and bound, by an admissible bound and for a limited number of steps, improves on it or
//!    proves that nothing is cheaper.
//!
//! Everything stops by counts, and ties go to the earlier candidate.

use std::collections::{BTreeMap, BTreeSet};

/// Steps of branch and bound.
const STEPS: usize = 20_000;
/// Sweeps of changes of single choices.
const SWEEPS: usize = 8;

/// One way to compute a class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// What it costs by itself.
    pub(crate) cost: u64,
    /// Classes that it needs, ascending, each once.
    pub(crate) needs: Vec<usize>,
}

/// Classes by number, each with its candidates.
pub(crate) type Problem = Vec<Vec<Candidate>>;

/// A solution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Solution {
    /// The candidate of each class; those of classes that the roots do not need say nothing.
    pub(crate) choice: Vec<Option<usize>>,
    /// The sum over the needed classes.
    pub(crate) cost: u64,
    /// Whether it is proved that nothing is cheaper.
    pub(crate) optimal: bool,
}

/// The cheapest solution found, or none when some root cannot be computed.
pub(crate) fn extract(problem: &Problem, roots: &[usize]) -> Option<Solution> {
    let allowed = pruned(problem);
    let mut choice = greedy(problem, &allowed);
    let mut cost = total(problem, &choice, roots)?;
    improve(problem, &allowed, roots, &mut choice, &mut cost);
    let mut search = Search {
        problem,
        allowed: &allowed,
        least: (0..problem.len()).map(|c| least(problem, &allowed, c)).collect(),
        chosen: vec![None; problem.len()],
        best: Solution { choice, cost, optimal: false },
        steps: 0,
    };
    let open: BTreeSet<usize> = roots.iter().copied().collect();
    search.visit(open, 0);
    search.best.optimal = search.steps < STEPS;
    Some(search.best)
}

/// The candidates of each class that no other makes superfluous.
fn pruned(problem: &Problem) -> Vec<Vec<usize>> {
    let subset = |a: &[usize], b: &[usize]| a.iter().all(|x| b.binary_search(x).is_ok());
    let class = |(number, candidates): (usize, &Vec<Candidate>)| -> Vec<usize> {
        let possible = |i: &usize| candidates[*i].needs.binary_search(&number).is_err();
        let beaten = |i: &usize| {
            let mine = &candidates[*i];
            (0..candidates.len()).filter(possible).any(|j| {
                let other = &candidates[j];
                let cheaper = (other.cost, j) < (mine.cost, *i);
                j != *i && cheaper && subset(&other.needs, &mine.needs)
            })
        };
        (0..candidates.len()).filter(possible).filter(|i| !beaten(i)).collect()
    };
    problem.iter().enumerate().map(class).collect()
}

fn least(problem: &Problem, allowed: &[Vec<usize>], class: usize) -> u64 {
    allowed[class].iter().map(|i| problem[class][*i].cost).min().unwrap_or(0)
}

/// For every class the choice that its cheapest known set of choices makes.
fn greedy(problem: &Problem, allowed: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); problem.len()];
    for (class, candidates) in allowed.iter().enumerate() {
        let needs = candidates.iter().flat_map(|i| &problem[class][*i].needs);
        needs.for_each(|need| users[*need].push(class));
    }
    // For every class the costs of all classes in its set, its own included.
    let mut sets: Vec<Option<BTreeMap<usize, u64>>> = vec![None; problem.len()];
    let mut totals = vec![u64::MAX; problem.len()];
    let mut choice = vec![None; problem.len()];
    let mut waiting: BTreeSet<usize> = (0..problem.len()).collect();
    while let Some(class) = waiting.pop_first() {
        for i in &allowed[class] {
            let candidate = &problem[class][*i];
            let Some(set) = joined(&sets, class, candidate) else { continue };
            let sum = set.values().sum();
            if sum < totals[class] {
                (totals[class], choice[class], sets[class]) = (sum, Some(*i), Some(set));
                waiting.extend(&users[class]);
            }
        }
    }
    choice
}

fn joined(
    sets: &[Option<BTreeMap<usize, u64>>],
    class: usize,
    candidate: &Candidate,
) -> Option<BTreeMap<usize, u64>> {
    let mut set = BTreeMap::from([(class, candidate.cost)]);
    for need in &candidate.needs {
        let needed = sets[*need].as_ref()?;
        if needed.contains_key(&class) {
            return None;
        }
        set.extend(needed);
    }
    Some(set)
}

/// The cost of a choice, or nothing when it is incomplete or has a cycle.
fn total(problem: &Problem, choice: &[Option<usize>], roots: &[usize]) -> Option<u64> {
    let mut sum = 0;
    let mut done = vec![false; problem.len()];
    let mut open = vec![false; problem.len()];
    let mut stack: Vec<(usize, bool)> = roots.iter().map(|r| (*r, false)).collect();
    while let Some((class, leave)) = stack.pop() {
        if leave {
            (open[class], done[class]) = (false, true);
            continue;
        }
        if done[class] {
            continue;
        }
        if open[class] {
            return None;
        }
        open[class] = true;
        let candidate = &problem[class][choice[class]?];
        sum += candidate.cost;
        stack.push((class, true));
        for need in &candidate.needs {
            if open[*need] {
                return None;
            }
            stack.push((*need, false));
        }
    }
    Some(sum)
}

/// The classes that a choice needs.
fn needed(problem: &Problem, choice: &[Option<usize>], roots: &[usize]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut stack = roots.to_vec();
    while let Some(class) = stack.pop() {
        if found.insert(class) {
            let chosen = choice[class].map(|i| &problem[class][i].needs);
            stack.extend(chosen.into_iter().flatten());
        }
    }
    found
}

fn improve(
    problem: &Problem,
    allowed: &[Vec<usize>],
    roots: &[usize],
    choice: &mut [Option<usize>],
    cost: &mut u64,
) {
    for _ in 0..SWEEPS {
        let before = *cost;
        for class in needed(problem, choice, roots) {
            for i in &allowed[class] {
                let old = choice[class].replace(*i);
                match total(problem, choice, roots) {
                    Some(new) if new < *cost => *cost = new,
                    _ => choice[class] = old,
                }
            }
        }
        if *cost == before {
            break;
        }
    }
}

/// Branch and bound: classes that are needed and not decided are open.
struct Search<'p> {
    problem: &'p Problem,
    allowed: &'p [Vec<usize>],
    /// The cheapest candidate of each class.
    least: Vec<u64>,
    chosen: Vec<Option<usize>>,
    best: Solution,
    steps: usize,
}

impl Search<'_> {
    fn visit(&mut self, open: BTreeSet<usize>, spent: u64) {
        let bound = spent + open.iter().map(|c| self.least[*c]).sum::<u64>();
        if bound >= self.best.cost || self.steps >= STEPS {
            return;
        }
        self.steps += 1;
        // What leaves no choice goes first.
        let Some(class) = open.iter().copied().min_by_key(|c| self.allowed[*c].len()) else {
            self.best = Solution { choice: self.chosen.clone(), cost: spent, optimal: false };
            return;
        };
        let mut order = self.allowed[class].clone();
        order.sort_by_key(|i| (self.problem[class][*i].cost, *i));
        for i in order {
            let candidate = &self.problem[class][i];
            if candidate.needs.iter().any(|need| self.reaches(*need, class)) {
                continue;
            }
            let mut rest = open.clone();
            rest.remove(&class);
            rest.extend(candidate.needs.iter().filter(|c| self.chosen[**c].is_none()));
            self.chosen[class] = Some(i);
            self.visit(rest, spent + candidate.cost);
            self.chosen[class] = None;
        }
    }

    /// Whether the decided choices lead from one class to another.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut stack = vec![from];
        while let Some(class) = stack.pop() {
            if class == to {
                return true;
            }
            if seen.insert(class)
                && let Some(i) = self.chosen[class]
            {
                stack.extend(&self.problem[class][i].needs);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigac_ir::philox::philox;

    /// Random numbers below a bound.
    struct Random {
        key: u32,
        count: u32,
    }

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.count += 1;
            philox([self.key, 5], [self.count, 0, 0, 0])[0] as usize % bound
        }
    }

    fn problem(key: u32) -> Problem {
        let mut random = Random { key, count: 0 };
        let classes = 3 + random.below(6);
        (0..classes)
            .map(|_| {
                (0..1 + random.below(3))
                    .map(|_| {
                        let mut needs: Vec<usize> =
                            (0..random.below(4)).map(|_| random.below(classes)).collect();
                        needs.sort_unstable();
                        needs.dedup();
                        Candidate { cost: random.below(20) as u64, needs }
                    })
                    .collect()
            })
            .collect()
    }

    /// The cheapest of all choices.
    fn brute_force(problem: &Problem, roots: &[usize]) -> Option<u64> {
        let mut choice: Vec<Option<usize>> = vec![Some(0); problem.len()];
        let mut best = None;
        loop {
            if let Some(cost) = total(problem, &choice, roots) {
                best = Some(best.map_or(cost, |b: u64| b.min(cost)));
            }
            let Some(class) =
                (0..problem.len()).find(|c| choice[*c].is_some_and(|i| i + 1 < problem[*c].len()))
            else {
                return best;
            };
            choice[class] = choice[class].map(|i| i + 1);
            choice[..class].fill(Some(0));
        }
    }

    #[test]
    fn agrees_with_brute_force() {
        let mut solved = 0;
        for key in 0..3000 {
            let problem = problem(key);
            let roots = [0, problem.len() - 1];
            let best = brute_force(&problem, &roots);
            let found = extract(&problem, &roots);
            assert_eq!(found.as_ref().map(|s| s.cost), best, "{problem:?}");
            if let Some(solution) = found {
                assert!(solution.optimal);
                assert_eq!(total(&problem, &solution.choice, &roots), Some(solution.cost));
                solved += 1;
            }
        }
        assert!(solved > 1000, "only {solved} problems have a solution");
    }

    /// Two users of one dear class pay for it once: sharing decides, not the cheaper tree.
    #[test]
    fn shared_classes_count_once() {
        let candidate = |cost, needs: &[usize]| Candidate { cost, needs: needs.to_vec() };
        let problem = vec![
            vec![candidate(1, &[1, 2])],
            vec![candidate(6, &[]), candidate(1, &[3])],
            vec![candidate(6, &[]), candidate(1, &[3])],
            vec![candidate(8, &[])],
        ];
        let solution = extract(&problem, &[0]).expect("a solution");
        assert_eq!((solution.cost, solution.optimal), (11, true));
        assert_eq!(solution.choice[1..3], [Some(1), Some(1)]);
    }
}
