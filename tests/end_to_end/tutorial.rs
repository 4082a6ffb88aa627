//! The tutorial tells the truth: its models are saved, its commands run in order, and what does not
//! depend on the CPU is printed as the page shows it.

use std::iter::Peekable;
use std::process::{Command, Output};
use std::str::Lines;

use crate::support::{Place, root};

const PAGE: &str = include_str!("../../docs/tutorial.md");

/// Runs of the page are this many times shorter here.
const SHORTER: u64 = 20;

/// What the page tells its reader to do.
enum Step {
    /// Save a model.
    Save(String, String),
    /// Change a line of the model saved last, until the next command has run.
    Instead(String),
    /// A command, and what it prints.
    Run(String, Vec<String>),
}

#[test]
fn the_tutorial_can_be_followed() {
    let place = Place::new();
    std::fs::create_dir(place.folder().join("runs")).expect("the folder is ours");
    std::os::unix::fs::symlink(root().join("examples"), place.folder().join("examples"))
        .expect("the folder is ours");
    let (mut saved, mut altered, mut commands) = ((String::new(), String::new()), false, 0);
    for step in steps() {
        match step {
            Step::Save(name, text) => {
                place.write(&name, text.as_bytes());
                saved = (name, text);
            }
            Step::Instead(line) => {
                place.write(&saved.0, replaced(&saved.1, &line).as_bytes());
                altered = true;
            }
            Step::Run(command, shown) => {
                commands += 1;
                judge(&command, &shown, &run(&place, &command));
                if std::mem::take(&mut altered) {
                    place.write(&saved.0, saved.1.as_bytes());
                }
            }
        }
    }
    assert!(commands > 10, "the page has only {commands} commands");
}

/// Models, changes and commands of the page, in order.
fn steps() -> Vec<Step> {
    let (mut steps, mut name) = (Vec::new(), None);
    let mut lines = PAGE.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(at) = ["Save it as `", "Save as `"].iter().find_map(|p| line.split_once(p)) {
            name = at.1.split('`').next().map(str::to_owned);
        }
        if let Some((_, rest)) = line.split_once("Write `") {
            let (line, _) = rest.split_once("` instead").expect("`Write … instead` on one line");
            steps.push(Step::Instead(line.to_owned()));
        }
        match line {
            "```giga" => {
                let text: Vec<String> = block(&mut lines);
                let name = name.take().expect("a model of the page has a name");
                steps.push(Step::Save(name, text.join("\n") + "\n"));
            }
            "```console" => steps.extend(session(&block(&mut lines))),
            "```sh" => steps.extend(block(&mut lines).into_iter().filter_map(|line| {
                line.starts_with("gigac ").then(|| Step::Run(line, Vec::new()))
            })),
            _ => {}
        }
    }
    steps
}

/// The lines up to the end of a block.
fn block(lines: &mut Peekable<Lines>) -> Vec<String> {
    lines.take_while(|line| *line != "```").map(str::to_owned).collect()
}

/// The commands of a session that are ours, each with what it prints.
fn session(lines: &[String]) -> Vec<Step> {
    let text = lines.join("\n");
    let commands = text.split("$ ").filter(|part| part.starts_with("gigac "));
    let step = |part: &str| {
        let mut lines = part.lines().map(str::to_owned);
        Step::Run(lines.next().expect("a command"), lines.collect())
    };
    commands.map(step).collect()
}

/// The model with the line that defines the same name replaced.
fn replaced(text: &str, line: &str) -> String {
    let (head, _) = line.split_once('=').expect("a definition");
    assert_eq!(text.lines().filter(|l| l.starts_with(head)).count(), 1, "{line}");
    let lines = text.lines().map(|l| if l.starts_with(head) { line } else { l });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn run(place: &Place, command: &str) -> Output {
    let mut words: Vec<String> = command.split_whitespace().skip(1).map(str::to_owned).collect();
    let steps = words.iter().position(|word| word == "--steps");
    if let Some(number) = steps.and_then(|at| words.get_mut(at + 1)) {
        let steps: u64 = number.parse().expect("a number of steps");
        *number = (steps / SHORTER).to_string();
    }
    let mut gigac = Command::new(env!("CARGO_BIN_EXE_gigac"));
    gigac.args(words).current_dir(place.folder());
    gigac.env("XDG_CACHE_HOME", place.folder().join("cache")).output().expect("the command starts")
}

/// Compares the outcome of a command with the page.
fn judge(command: &str, shown: &[String], output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = said(&output.stdout) + &said(&output.stderr);
    let refused = shown.iter().any(|line| line.trim_start().starts_with('×'));
    assert_eq!(output.status.code(), Some(i32::from(refused)), "{command}\n{printed}");
    let words: Vec<&str> = command.split_whitespace().collect();
    let anywhere = matches!(words[1..], ["check" | "build", ..] | ["emit", "graph" | "joint", ..]);
    if anywhere && !shown.is_empty() {
        let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let mut rest = &printed[..];
        for piece in shown.split(|line| line == "…").filter(|piece| !piece.is_empty()) {
            let piece: Vec<&str> = piece.iter().map(|line| line.trim_end()).collect();
            let at = rest.windows(piece.len()).position(|window| window == piece);
            let Some(at) = at else {
                panic!(
                    "{command} does not print\n{}\nbut\n{}",
                    piece.join("\n"),
                    printed.join("\n")
                )
            };
            rest = &rest[at + piece.len()..];
        }
    }
}
