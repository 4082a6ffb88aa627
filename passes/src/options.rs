//! What a user switches: passes by name, and how far the optional ones go.

use std::collections::BTreeSet;

use gigac_cost::target::{CpuFacts, Device, Kind, cpu};
use gigac_ir::kernel::Machine;
use gigac_ir::nearest::{Nearest, nearest};
use thiserror::Error;

use crate::pass::{Need, Pass};
use crate::pipeline::{PIPELINE, find};

/// Which passes run, and how freely.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    disabled: BTreeSet<&'static str>,
    /// Only rewrites that keep every bit: no sum is added in another order.
    pub exact: bool,
    device: Device,
    /// Bytes that the arena of a training step may have; without a limit nothing is dropped.
    pub memory: Option<u64>,
    /// Whether a training step may keep what does not fit in the host's memory.
    pub offload: bool,
    /// Optional passes from this position of the list on are off.
    pub limit: usize,
}

impl Default for Options {
    /// All passes, for a CPU of two threads, without a limit of memory: what is chosen does not
    /// depend on the machine that compiles.
    fn default() -> Self {
        Self {
            disabled: BTreeSet::new(),
            exact: false,
            device: cpu(&CpuFacts::default()),
            memory: None,
            offload: false,
            limit: PIPELINE.len(),
        }
    }
}

/// Why a pass cannot be switched off.
#[derive(Debug, Error)]
pub enum OptionError {
    /// There is no pass of this name.
    #[error("there is no pass `{name}`: {near}")]
    Unknown {
        /// The name.
        name: String,
        /// The name that may have been meant, or all names.
        near: Nearest,
    },
    /// Nothing works without it.
    #[error("`{name}` cannot be switched off: {reason}")]
    Necessary {
        /// The pass.
        name: &'static str,
        /// What it is needed for.
        reason: &'static str,
    },
}

impl Options {
    /// The device that choices are made for: a GPU, or the CPU of [`Options::default`], never one
    /// whose figures were measured, so that the same text gives the same program everywhere.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The kind of machine that kernels are formed for: that of the device.
    pub fn machine(&self) -> Machine {
        self.device.machine()
    }

    /// Makes choices and kernels for a GPU; a CPU changes nothing.
    pub fn aim(&mut self, device: &Device) {
        if device.kind == Kind::Gpu {
            self.device = device.clone();
        }
    }

    /// Switches a pass off, wherever it stands in the list.
    ///
    /// # Errors
    /// When there is no such pass, or none can do without it.
    pub fn disable(&mut self, name: &str) -> Result<(), OptionError> {
        let pass = named(name)?;
        if let Need::Necessary(reason) = pass.need {
            return Err(OptionError::Necessary { name: pass.name, reason });
        }
        self.disabled.insert(pass.name);
        Ok(())
    }

    /// Switches a pass on again.
    pub fn enable(&mut self, pass: &Pass) {
        self.disabled.remove(pass.name);
    }

    /// These options with the other optional passes off as well, and the passes that this takes
    /// away, in their order.
    pub fn bare(&self) -> (Self, Vec<&'static Pass>) {
        let mut bare = self.clone();
        let taken = PIPELINE.iter().filter(|p| p.need == Need::Optional);
        let taken = taken.filter(|p| bare.disabled.insert(p.name)).collect();
        (bare, taken)
    }

    /// The passes that are switched off, by name.
    pub fn disabled(&self) -> impl Iterator<Item = &'static str> {
        self.disabled.iter().copied()
    }

    /// Whether the pass at a position of the list runs.
    pub fn runs(&self, position: usize, pass: &Pass) -> bool {
        pass.need != Need::Optional || position < self.limit && !self.disabled.contains(pass.name)
    }
}

/// The pass of a name.
///
/// # Errors
/// [`OptionError::Unknown`] proposes the nearest name.
pub fn named(name: &str) -> Result<&'static Pass, OptionError> {
    find(name).ok_or_else(|| {
        let mut names: Vec<&str> = PIPELINE.iter().map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        let advice = format!("the passes are {}", names.join(", "));
        OptionError::Unknown { name: name.to_owned(), near: nearest(name, names, advice) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_pass_is_an_error_with_the_nearest_name() {
        let error = Options::default().disable("hosit").unwrap_err();
        assert_eq!(error.to_string(), "there is no pass `hosit`: did you mean `hoist`?");
        let error = Options::default().disable("vectorise everything").unwrap_err();
        assert!(error.to_string().contains("dead, decompose, desync, differentiate"), "{error}");
    }

    #[test]
    fn a_necessary_pass_says_why() {
        let error = Options::default().disable("form").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`form` cannot be switched off: without it there are no kernels"
        );
    }

    #[test]
    fn bare_options_leave_out_what_is_left() {
        let mut options = Options::default();
        options.disable("fold").expect("an optional pass");
        let (mut bare, taken) = options.bare();
        let names: Vec<&str> = taken.iter().map(|p| p.name).collect();
        assert!(names.starts_with(&["hoist", "dead"]), "{names:?}");
        taken.iter().for_each(|p| bare.enable(p));
        assert_eq!(bare, options);
    }

    #[test]
    fn a_limit_leaves_the_necessary_passes() {
        let options = Options { limit: 0, ..Options::default() };
        let left = PIPELINE.iter().enumerate().filter(|(i, p)| options.runs(*i, p));
        assert!(left.clone().all(|(_, p)| p.need != Need::Optional));
        assert!(left.count() >= 5);
    }
}
