//! The `train` block as plain settings.

use gigac_ir::graph::DType;
use gigac_ir::train::{OnNan, Optimizer, Phase, Precision, Schedule, Settings, Train};

use super::Checker;
use super::value::{Eval, Failed};
use crate::error::{Cause, Report};
use crate::number::Number;
use crate::source::Span;
use crate::syntax::ast::{Arg, Binding, Call, Expr, ExprKind, Ident, Setting};
use gigac_ir::nearest::nearest;

/// The lines of a `train` block.
pub(crate) const LINES: [&str; 7] =
    ["optimizer", "schedule", "batch", "clip", "precision", "on_nan", "phase"];

/// The arguments of an optimizer or a schedule: name and default; `None` must be given.
type Arguments = &'static [(&'static str, Option<f64>)];

const ADAMW: Arguments = &[
    ("beta1", Some(0.9)),
    ("beta2", Some(0.95)),
    ("eps", Some(1e-8)),
    ("weight_decay", Some(0.1)),
    ("decay_by_rate", Some(1.0)),
];
const CONSTANT: Arguments = &[("lr", None)];
const COSINE: Arguments = &[("peak", None), ("warmup", Some(0.0)), ("floor", Some(0.0))];
const WSD: Arguments =
    &[("peak", None), ("warmup", Some(0.0)), ("decay", None), ("floor", Some(0.0))];

impl Checker {
    /// Reads the block; `--set train.…` replaces what it says.
    pub(crate) fn train(&mut self, settings: &[Setting]) -> Option<Train> {
        let errors = self.reports.len();
        let frame = self.declaration_frame(0);
        let train = self.with_frame(frame, |checker| {
            let mut result = Settings::default();
            let mut phases = Vec::new();
            let absent = checker.absent_lines(settings);
            for setting in settings.iter().chain(&absent) {
                if let Setting::Phase { tokens, settings, .. } = setting {
                    phases.push((tokens, settings));
                } else {
                    checker.apply_setting(&mut result, setting, true);
                }
            }
            let phases =
                phases.into_iter().map(|(tokens, own)| checker.phase(&result, tokens, own));
            let phases = phases.collect::<Vec<_>>().into_iter().flatten().collect();
            Train { settings: result, phases }
        });
        (self.reports.len() == errors).then_some(train)
    }

    /// Lines that the block lacks and a `--set` speaks of, with their defaults.
    fn absent_lines(&mut self, settings: &[Setting]) -> Vec<Setting> {
        let mut absent = Vec::new();
        for line in LINES.into_iter().filter(|line| *line != "phase") {
            self.train_names.push(format!("train.{line}"));
            let written = settings.iter().any(|setting| setting_name(setting) == Some(line));
            if let Some(span) = self.sets.for_line(line).filter(|_| !written) {
                absent.push(default_line(line, span));
            }
        }
        absent
    }

    fn phase(&mut self, base: &Settings, tokens: &Expr, own: &[Setting]) -> Option<Phase> {
        let tokens = self.count("the length of a phase", tokens);
        let mut settings = base.clone();
        let mut sets = Vec::new();
        for setting in own {
            match setting {
                Setting::Override(Binding { name, value }) => {
                    self.check_override(name);
                    sets.push((name.name.clone(), self.sources.text(value.span).to_string()));
                }
                Setting::Phase { span, .. } => {
                    let help = "phases follow each other";
                    let _reported: Eval<()> =
                        self.bad_setting("a phase", "inside a phase", help, *span);
                }
                other => self.apply_setting(&mut settings, other, false),
            }
        }
        let own_schedule = own.iter().any(|setting| setting_name(setting) == Some("schedule"));
        Some(Phase { tokens: tokens.ok()?, sets, settings, own_schedule })
    }

    fn check_override(&mut self, name: &Ident) {
        let known = self.tables[0].names.get(&name.name).map(|(declared, _)| declared.what());
        if matches!(known, Some("an axis" | "a constant")) || self.poisoned.contains(&name.name) {
            return;
        }
        let names: Vec<String> = self.tables[0].names.keys().cloned().collect();
        let near = nearest(
            &name.name,
            names.iter().map(String::as_str),
            "a phase changes axes, constants and lines of the block",
        );
        let cause =
            Cause::UnknownSetting { what: "axis or constant", name: name.name.clone(), near };
        self.report(Report::new(cause, name.span, "not declared"));
    }

    /// One line of the block.
    fn apply_setting(&mut self, settings: &mut Settings, setting: &Setting, settable: bool) {
        let setting = if settable { self.replaced(setting) } else { setting.clone() };
        let result = match &setting {
            Setting::Call { name, call } => self.call_setting(settings, name, call, settable),
            Setting::Amount { name, value, unit } => {
                self.amount(settings, name, value, unit.as_ref())
            }
            Setting::Word { name, value, parts } => self.word(settings, name, value, parts),
            Setting::Override(binding) => {
                let help =
                    "axes and constants are declared outside; inside a phase they can be changed";
                let what = format!("`{} =`", binding.name.name);
                self.bad_setting(&what, "stands outside a phase", help, binding.name.span)
            }
            Setting::Phase { .. } => Ok(()),
        };
        // A failed line is on the list of errors; the others are still read.
        let _reported: Eval<()> = result;
    }

    /// The line with the value of `--set train.NAME` in its place.
    fn replaced(&mut self, setting: &Setting) -> Setting {
        let (Setting::Call { name, .. }
        | Setting::Amount { name, .. }
        | Setting::Word { name, .. }) = setting
        else {
            return setting.clone();
        };
        let path = format!("train.{}", name.name);
        let Some(value) = self.sets.take(&path) else { return setting.clone() };
        match (value.kind, setting) {
            (ExprKind::Call(call), _) => Setting::Call { name: name.clone(), call: *call },
            (ExprKind::Name(word), Setting::Word { .. }) => {
                let value = Ident { name: word, span: value.span };
                Setting::Word { name: name.clone(), value, parts: Vec::new() }
            }
            (kind, Setting::Amount { unit, .. }) => Setting::Amount {
                name: name.clone(),
                value: Expr { kind, ..value },
                unit: unit.clone(),
            },
            (kind, _) => {
                Setting::Amount { name: name.clone(), value: Expr { kind, ..value }, unit: None }
            }
        }
    }

    fn call_setting(
        &mut self,
        settings: &mut Settings,
        name: &Ident,
        call: &Call,
        settable: bool,
    ) -> Eval<()> {
        let function = call.name.name.as_str();
        let table = match (name.name.as_str(), function) {
            ("optimizer", "adamw") => ADAMW,
            ("schedule", "constant") => CONSTANT,
            ("schedule", "cosine") => COSINE,
            ("schedule", "wsd") => WSD,
            ("optimizer", _) => return self.unknown_setting("optimizer", &call.name, &["adamw"]),
            ("schedule", _) => {
                return self.unknown_setting(
                    "schedule",
                    &call.name,
                    &["constant", "cosine", "wsd"],
                );
            }
            _ => return self.unknown_setting("line of the `train` block", name, &LINES),
        };
        let values = self.setting_arguments(&name.name, call, table, settable)?;
        match (function, &values[..]) {
            ("adamw", [beta1, beta2, eps, weight_decay, by_rate]) => {
                for (what, beta) in [("beta1", beta1), ("beta2", beta2)] {
                    let fits = (0.0..1.0).contains(beta);
                    self.require(fits, what, "lies outside 0 to 1", call.name.span)?;
                }
                settings.optimizer = Optimizer::AdamW {
                    beta1: *beta1,
                    beta2: *beta2,
                    eps: *eps,
                    weight_decay: *weight_decay,
                    decay_by_rate: *by_rate != 0.0,
                };
            }
            ("constant", [rate]) => settings.schedule = Schedule::Constant { rate: *rate },
            ("cosine", [peak, warmup, floor]) => {
                let warmup = self.steps(*warmup, "warmup", call.name.span)?;
                settings.schedule = Schedule::Cosine { peak: *peak, warmup, floor: *floor };
            }
            ("wsd", [peak, warmup, decay, floor]) => {
                let warmup = self.steps(*warmup, "warmup", call.name.span)?;
                let decay = self.steps(*decay, "decay", call.name.span)?;
                settings.schedule = Schedule::Wsd { peak: *peak, warmup, decay, floor: *floor };
            }
            _ => return Err(Failed),
        }
        Ok(())
    }

    /// The values of named arguments, in the order of their table.
    fn setting_arguments(
        &mut self,
        line: &str,
        call: &Call,
        table: Arguments,
        settable: bool,
    ) -> Eval<Vec<f64>> {
        let mut values: Vec<Option<f64>> = table.iter().map(|(_, default)| *default).collect();
        for (at, arg) in call.args.iter().enumerate() {
            let slot = self.argument_slot(at, arg, call, table)?;
            values[slot] = Some(self.setting_value(&arg.value)?);
        }
        for (slot, (name, _)) in table.iter().enumerate().filter(|_| settable) {
            let path = format!("train.{line}.{name}");
            self.train_names.push(path.clone());
            if let Some(value) = self.sets.take(&path) {
                values[slot] = Some(self.setting_value(&value)?);
            }
        }
        let missing = values.iter().position(Option::is_none);
        if let Some(slot) = missing {
            let what = format!("`{}`", call.name.name);
            let problem = format!("is given no `{}`", table[slot].0);
            return self.bad_setting(
                &what,
                &problem,
                "give it by name or position",
                call.name.span,
            );
        }
        Ok(values.into_iter().flatten().collect())
    }

    fn argument_slot(
        &mut self,
        at: usize,
        arg: &Arg,
        call: &Call,
        table: Arguments,
    ) -> Eval<usize> {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        match &arg.name {
            None if at < table.len() => Ok(at),
            None => {
                let what = format!("`{}`", call.name.name);
                let help = format!("it has {}", names.join(", "));
                self.bad_setting(&what, "is given too many values", &help, arg.value.span)
            }
            Some(name) => match names.iter().position(|own| *own == name.name) {
                Some(slot) => Ok(slot),
                None => self.unknown_setting("argument", name, &names),
            },
        }
    }

    /// A finite constant, not below 0; `true` and `false` are 1 and 0.
    fn setting_value(&mut self, expr: &Expr) -> Eval<f64> {
        match &expr.kind {
            ExprKind::Name(name) if name == "true" => return Ok(1.0),
            ExprKind::Name(name) if name == "false" => return Ok(0.0),
            _ => {}
        }
        let value = self.real_constant("a setting", expr)?;
        self.require(
            value.is_finite() && value >= 0.0,
            "this setting",
            "must be a finite number, not below 0",
            expr.span,
        )?;
        Ok(value)
    }

    fn steps(&mut self, value: f64, what: &str, span: Span) -> Eval<u64> {
        self.require(
            value.fract() == 0.0 && value < 1e15,
            what,
            "must be a whole number of steps",
            span,
        )?;
        Ok(value as u64)
    }

    fn require(&mut self, holds: bool, what: &str, problem: &str, span: Span) -> Eval<()> {
        if holds {
            Ok(())
        } else {
            self.bad_setting(what, problem, "see the guide, section `train`", span)
        }
    }

    fn amount(
        &mut self,
        settings: &mut Settings,
        name: &Ident,
        value: &Expr,
        unit: Option<&Ident>,
    ) -> Eval<()> {
        match (name.name.as_str(), unit.map(|unit| unit.name.as_str())) {
            ("batch", Some("tokens")) => {
                settings.batch_tokens = Some(self.count("the batch", value)?);
                Ok(())
            }
            ("batch", _) => {
                self.bad_setting("`batch`", "needs a unit", "write `batch 4M tokens`", name.span)
            }
            ("clip", None) => {
                let clip = self.setting_value(value)?;
                settings.clip = Some(clip);
                self.require(
                    clip > 0.0,
                    "`clip`",
                    "must be above 0; without the line nothing is clipped",
                    value.span,
                )
            }
            ("clip", Some(_)) => {
                self.bad_setting("`clip`", "has no unit", "write `clip 1.0`", name.span)
            }
            _ => self.unknown_setting("line of the `train` block", name, &LINES),
        }
    }

    /// A number of tokens, at least 1.
    fn count(&mut self, what: &str, expr: &Expr) -> Eval<u64> {
        let count = self.whole(what, expr)?;
        self.require(count > 0, what, "must be at least one token", expr.span)?;
        Ok(count as u64)
    }

    fn word(
        &mut self,
        settings: &mut Settings,
        name: &Ident,
        value: &Ident,
        parts: &[(Ident, Ident)],
    ) -> Eval<()> {
        match name.name.as_str() {
            "precision" => {
                let compute = self.width(value)?;
                let mut precision = Precision { compute, master: DType::F32, reduce: DType::F32 };
                for (part, width) in parts {
                    // What is kept and what is added up over a batch stays f32.
                    let width = match width.name.as_str() {
                        "f32" => DType::F32,
                        _ => {
                            let what = "width of what is kept or added up";
                            return self.unknown_setting(what, width, &["f32"]);
                        }
                    };
                    match part.name.as_str() {
                        "master" => precision.master = width,
                        "reduce" => precision.reduce = width,
                        _ => {
                            return self.unknown_setting(
                                "part of `precision`",
                                part,
                                &["master", "reduce"],
                            );
                        }
                    }
                }
                settings.precision = precision;
                Ok(())
            }
            "on_nan" => {
                settings.on_nan = match value.name.as_str() {
                    "keep" => OnNan::Keep,
                    "zero" => OnNan::Zero,
                    "skip" => OnNan::Skip,
                    "halt" => OnNan::Halt,
                    _ => {
                        return self.unknown_setting(
                            "policy",
                            value,
                            &["keep", "zero", "skip", "halt"],
                        );
                    }
                };
                Ok(())
            }
            // `clip limit` with a constant of the model.
            "clip" => {
                let kind = ExprKind::Name(value.name.clone());
                self.amount(settings, name, &Expr { kind, span: value.span, height: 0 }, None)
            }
            _ => self.unknown_setting("line of the `train` block", name, &LINES),
        }
    }

    fn width(&mut self, word: &Ident) -> Eval<DType> {
        match word.name.as_str() {
            "f32" => Ok(DType::F32),
            "bf16" => Ok(DType::Bf16),
            _ => self.unknown_setting("width", word, &["f32", "bf16"]),
        }
    }

    fn unknown_setting<T>(&mut self, what: &'static str, name: &Ident, known: &[&str]) -> Eval<T> {
        let advice = format!("there are {}", known.join(", "));
        let near = nearest(&name.name, known.iter().copied(), advice);
        let cause = Cause::UnknownSetting { what, name: name.name.clone(), near };
        self.fail(Report::new(cause, name.span, "not known"))
    }

    fn bad_setting<T>(&mut self, what: &str, problem: &str, help: &str, span: Span) -> Eval<T> {
        let cause =
            Cause::Setting { what: what.into(), problem: problem.into(), help: help.into() };
        self.fail(Report::new(cause, span, "here"))
    }
}

/// The name of a line that `--set` can replace.
fn setting_name(setting: &Setting) -> Option<&str> {
    match setting {
        Setting::Call { name, .. } | Setting::Amount { name, .. } | Setting::Word { name, .. } => {
            Some(&name.name)
        }
        Setting::Override(_) | Setting::Phase { .. } => None,
    }
}

/// A line as it stands when the block does not write it.
fn default_line(line: &str, span: Span) -> Setting {
    let ident = |name: &str| Ident { name: name.to_string(), span };
    let number = |value: Number| Expr { kind: ExprKind::Number(value), span, height: 0 };
    let call = |function: &str, args: Vec<Expr>| Setting::Call {
        name: ident(line),
        call: Call {
            name: ident(function),
            args: args.into_iter().map(|value| Arg { name: None, value }).collect(),
            axes: None,
        },
    };
    let word =
        |value: &str| Setting::Word { name: ident(line), value: ident(value), parts: Vec::new() };
    let amount = |unit: Option<&str>| Setting::Amount {
        name: ident(line),
        value: number(Number::ONE),
        unit: unit.map(ident),
    };
    match line {
        "optimizer" => call("adamw", Vec::new()),
        "schedule" => call("constant", vec![number(Number::Float(3e-4))]),
        "precision" => word("f32"),
        "on_nan" => word("keep"),
        "batch" => amount(Some("tokens")),
        _ => amount(None),
    }
}
