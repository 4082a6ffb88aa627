//! Nothing of a training step is left to the host, and when something is, it is named.

use gigac_ir::kernel::Machine;
use gigac_ir::plan::Item;
use gigac_ir::train::{OnNan, Schedule, Settings};
use gigac_passes::desync::{Dependence, certify};
use gigac_passes::place::Placed;
use gigac_passes::{form, place, reuse};

use super::{decoder, step};

fn settings() -> Settings {
    Settings {
        clip: Some(1.0),
        on_nan: OnNan::Skip,
        schedule: Schedule::Cosine { peak: 1e-3, warmup: 10, floor: 0.1 },
        ..Settings::default()
    }
}

fn placed(settings: &Settings, micro: u64) -> Placed {
    place::place(
        reuse::reuse(form::form(step(&decoder(3), settings, micro), "k", false, Machine::Cpu)),
        "step",
    )
}

/// What is missing when a plan that was made for some settings has to do what others say.
fn missing(made_for: &Settings, judged_by: &Settings) -> Vec<String> {
    let errors = certify(&placed(made_for, 1), judged_by).expect_err("something is missing");
    let all = errors.len();
    let mut tasks: Vec<String> = errors
        .into_iter()
        .map(|e| match e {
            Dependence::Decision { task, .. } => task.to_owned(),
            other => other.to_string(),
        })
        .collect();
    tasks.sort();
    tasks.dedup();
    assert!(all > 5, "all parameters are concerned");
    tasks
}

#[test]
fn steps_are_certified() {
    for micro in [1, 3] {
        let certificate = certify(&placed(&settings(), micro), &settings()).expect("certified");
        assert_eq!(certificate.decisions, ["loss", "schedule", "clip", "NaN"]);
        assert!(certificate.inputs.contains(&"step".to_owned()), "{certificate}");
    }
}

#[test]
fn a_clip_that_is_not_there_is_missed() {
    let without = Settings { clip: None, ..settings() };
    certify(&placed(&without, 1), &without).expect("certified");
    assert_eq!(missing(&without, &settings()), ["clip the gradients"]);
}

#[test]
fn a_guard_that_is_not_there_is_missed() {
    let without = Settings { on_nan: OnNan::Keep, ..settings() };
    assert_eq!(missing(&without, &settings()), ["decide whether to skip the step"]);
}

#[test]
fn a_schedule_that_is_not_there_is_missed() {
    // Bias correction reads the number of the step too: it is off here.
    let mut constant = Settings { schedule: Schedule::Constant { rate: 1e-3 }, ..settings() };
    let gigac_ir::train::Optimizer::AdamW { beta1, beta2, .. } = &mut constant.optimizer;
    (*beta1, *beta2) = (0.0, 0.0);
    let cosine = Settings { schedule: settings().schedule, ..constant.clone() };
    assert_eq!(missing(&constant, &cosine), ["set the learning rate"]);
}

#[test]
fn an_update_that_is_left_out_is_missed() {
    let mut placed = placed(&settings(), 1);
    let last = placed.plan.items.iter().rposition(|i| matches!(i, Item::Launch { .. }));
    placed.plan.items.remove(last.expect("the optimizer stands last"));
    let errors = certify(&placed, &settings()).expect_err("an update is missing");
    let left = errors.iter().filter(|e| matches!(e, Dependence::Update { .. }));
    assert!(left.clone().count() > 0, "{errors:?}");
    assert!(left.clone().all(|e| e.to_string().contains("is left to the host")));
}
