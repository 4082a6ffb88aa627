//! How many mistakes the emulator finds: breaks programs in one place at a time, where they come by, runs each mutant under four schedules, and
//! prints a table of what was found, by class, and the mutants that nothing gave away.
//!
//! `cargo run --release --example mutate -- [--at-most N] [--class NAME] FOLDER...`; a folder holds `kernel.ptx`, `meta.json` and
//! `data.safetensors`. A survivor is either equivalent to the program or a mistake that was missed: somebody has to look.

use std::collections::BTreeMap;
use std::path::Path;

use gigac_emulator::meta::Meta;
use gigac_emulator::{Module, Schedule};

const SCHEDULES: [Schedule; 4] =
    [Schedule::LowestFirst, Schedule::HighestFirst, Schedule::LockStep, Schedule::Random(7)];

/// One statement of the text: where it stands, its opcode without guard, its operands.
struct Statement<'a> {
    from: usize,
    to: usize,
    guard: &'a str,
    opcode: &'a str,
    operands: Vec<&'a str>,
}

/// Splits at commas outside of brackets and braces.
fn split(operands: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (i, c) in operands.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(operands[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(operands[from..].trim());
    parts
}

/// The statements that stand at the beginning of a line.
fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at + line.len() - line.trim_start().len();
        at += line.len();
        let Some(length) = text[start..].find(';') else { continue };
        let body = &text[start..start + length];
        let (guard, rest) = match body.strip_prefix('@') {
            Some(_) => body.split_at(body.find(char::is_whitespace).unwrap_or(0)),
            None => ("", body),
        };
        let rest = rest.trim();
        if !rest.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        let (opcode, operands) =
            rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        if opcode.contains(':') && !opcode.contains("::") {
            continue;
        }
        let operands = split(operands);
        found.push(Statement { from: start, to: start + length + 1, guard, opcode, operands });
    }
    found
}

/// The same statement with other words.
fn written(guard: &str, opcode: &str, operands: &[&str]) -> String {
    format!("{guard} {opcode} {};", operands.join(", "))
}

fn has(opcode: &str, word: &str) -> bool {
    opcode.split('.').any(|w| w == word)
}

/// A wait for all but `n` groups becomes one for all but `n + 1`.
fn weaker(s: &Statement) -> Option<String> {
    let n: u32 = s.operands.first()?.parse().ok()?;
    Some(written(s.guard, s.opcode, &[&(n + 1).to_string()]))
}

/// The read-modify-write in three steps.
fn in_steps(s: &Statement) -> Option<String> {
    let words: Vec<&str> = s.opcode.split('.').collect();
    let ty = *words.last()?;
    let space = ["global", "shared"].into_iter().find(|w| words.contains(w))?;
    let space = if s.opcode.contains("shared::cta") { "shared::cta" } else { space };
    if !words.contains(&"add") || !matches!(ty, "u32" | "s32" | "u64" | "s64" | "f32" | "f64") {
        return None;
    }
    let (address, value) = match words[0] {
        "red" => (s.operands[0], s.operands[1]),
        "atom" => (s.operands[1], s.operands[2]),
        _ => return None,
    };
    let read = format!("{{ .reg .{ty} %mut, %sum; {} ld.{space}.{ty} %mut, {address};", s.guard);
    let old = if words[0] == "atom" && s.operands[0] != "_" {
        format!("{} mov.{ty} {}, %mut;", s.guard, s.operands[0])
    } else {
        String::new()
    };
    let add = format!(
        "{} add.{ty} %sum, %mut, {value}; {} st.{space}.{ty} {address}, %sum;",
        s.guard, s.guard
    );
    Some(format!("{read} {add} {old} }}"))
}

/// Swaps two registers of the vector operand `which`.
fn swapped(s: &Statement, which: usize, i: usize, j: usize) -> Option<String> {
    let inner = s.operands.get(which)?.strip_prefix('{')?.strip_suffix('}')?;
    let mut items: Vec<&str> = inner.split(',').map(str::trim).collect();
    if items.len() <= i.max(j) || items[i] == items[j] {
        return None;
    }
    items.swap(i, j);
    let vector = format!("{{{}}}", items.join(", "));
    let mut operands = s.operands.clone();
    operands[which] = &vector;
    Some(written(s.guard, s.opcode, &operands))
}

/// A comparison that is wrong at the border only.
fn off_by_one(s: &Statement) -> Option<String> {
    let pairs = [
        ("lt", "le"),
        ("le", "lt"),
        ("gt", "ge"),
        ("ge", "gt"),
        ("lo", "ls"),
        ("ls", "lo"),
        ("hi", "hs"),
        ("hs", "hi"),
    ];
    let integer = s.opcode.ends_with("32") || s.opcode.ends_with("64") || s.opcode.ends_with("16");
    if s.opcode.split('.').next() != Some("setp")
        || s.opcode.contains(".f")
        || s.opcode.contains(".bf")
        || !integer
    {
        return None;
    }
    let (from, to) = pairs.into_iter().find(|(from, _)| has(s.opcode, from))?;
    Some(written(
        s.guard,
        &s.opcode.replacen(&format!(".{from}."), &format!(".{to}."), 1),
        &s.operands,
    ))
}

/// The mutants of a statement: class and text.
fn mutants(s: &Statement) -> Vec<(&'static str, String)> {
    let op = s.opcode;
    let is = |prefix: &str| op.starts_with(prefix);
    let gone = || Some(String::new());
    let barrier = is("bar.sync") || is("barrier.sync") || is("bar.red") || is("barrier.cta.sync");
    let cluster = is("barrier.cluster.wait") || is("barrier.cluster.arrive");
    let copy_wait = is("cp.async.wait_") || is("cp.async.bulk.wait_group");
    let mut list = vec![
        ("barrier removed", barrier.then(gone).flatten()),
        ("cluster barrier removed", cluster.then(gone).flatten()),
        ("warp barrier removed", is("bar.warp.sync").then(gone).flatten()),
        ("copy wait removed", copy_wait.then(gone).flatten()),
        (
            "copy wait weakened",
            (copy_wait && op.contains("wait_group")).then(|| weaker(s)).flatten(),
        ),
        ("wgmma wait removed", is("wgmma.wait_group").then(gone).flatten()),
        ("wgmma wait weakened", is("wgmma.wait_group").then(|| weaker(s)).flatten()),
        (
            "commit removed",
            (is("cp.async.commit") || is("cp.async.bulk.commit") || is("wgmma.commit"))
                .then(gone)
                .flatten(),
        ),
        ("mbarrier arrival removed", is("mbarrier.arrive").then(gone).flatten()),
        ("fence removed", (is("fence") || is("membar")).then(gone).flatten()),
        ("wgmma fence removed", is("wgmma.fence").then(gone).flatten()),
        ("atomic in steps", (is("red") || is("atom")).then(|| in_steps(s)).flatten()),
        ("bound off by one", off_by_one(s)),
    ];
    if is("mbarrier.try_wait") || is("mbarrier.test_wait") {
        list.push((
            "mbarrier wait removed",
            Some(written("", "setp.eq.u32", &[s.operands[0], "0", "0"])),
        ));
    }
    if is("mma.sync") {
        list.push(("mma operands swapped", swapped(s, 1, 1, 2)));
        list.push(("mma operands swapped", swapped(s, 2, 0, 1)));
    }
    if is("ldmatrix") || is("stmatrix") {
        let turned = if has(op, "trans") {
            op.replace(".trans", "")
        } else {
            op.replace(".shared", ".trans.shared")
        };
        list.push(("transpose flipped", Some(written(s.guard, &turned, &s.operands))));
    }
    if is("shfl.sync.bfly") && s.operands.len() == 5 {
        let lane =
            s.operands[2].parse::<u32>().map(|n| (n * 2 % 32).to_string()).unwrap_or_default();
        let operands = [s.operands[0], s.operands[1], &lane, s.operands[3], s.operands[4]];
        list.push((
            "shuffle of another lane",
            (!lane.is_empty()).then(|| written(s.guard, op, &operands)),
        ));
    }
    list.into_iter().filter_map(|(class, text)| Some((class, text?))).collect()
}

/// Without blanks.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Lines of the text that the program executes, from its listing.
fn reached(text: &str, meta: &Meta, data: &[u8]) -> Result<Vec<bool>, String> {
    let module = Module::parse(text).map_err(|e| e.to_string())?;
    let report = meta.launch(&module, data)?.run().map_err(|e| e.to_string())?;
    Ok(report.listing().lines().skip(1).map(|l| !l.starts_with("          ")).collect())
}

/// How a mutant ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Invalid,
    Finding,
    Mismatch,
    Survived,
}

fn outcome(text: &str, meta: &Meta, data: &[u8]) -> End {
    let Ok(module) = Module::parse(text) else { return End::Invalid };
    let mut end = End::Survived;
    for schedule in SCHEDULES {
        let Ok(launch) = meta.launch(&module, data) else { return End::Invalid };
        let launch = launch.schedule(schedule).patience(1_000_000).max_findings(1);
        let Ok(report) = launch.profile(false).run() else { return End::Invalid };
        if !report.findings.is_empty() {
            return End::Finding;
        }
        if meta.compare(&report, data).is_ok_and(|m| !m.is_empty()) {
            end = End::Mismatch;
        }
    }
    end
}

/// Mutates the program in `folder`; counts by class: tried, findings, mismatches alone, survivors.
fn campaign(
    folder: &Path,
    at_most: usize,
    only: Option<&str>,
    table: &mut BTreeMap<&'static str, [usize; 4]>,
) -> Result<(), String> {
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let text = String::from_utf8_lossy(&read("kernel.ptx")?).into_owned();
    let meta = Meta::parse(&String::from_utf8_lossy(&read("meta.json")?))?;
    let data = read("data.safetensors")?;
    if outcome(&text, &meta, &data) != End::Survived {
        return Err("the program itself does not pass".into());
    }
    let reached = reached(&text, &meta, &data)?;
    let mut by_class: BTreeMap<&'static str, Vec<(usize, usize, String)>> = BTreeMap::new();
    for s in statements(&text) {
        let line = text[..s.from].matches('\n').count();
        if !reached.get(line).is_some_and(|r| *r) {
            continue;
        }
        for (class, new) in mutants(&s) {
            if squeezed(&new) == squeezed(&text[s.from..s.to]) {
                continue;
            }
            by_class.entry(class).or_default().push((s.from, s.to, new));
        }
    }
    for (class, list) in by_class {
        if only.is_some_and(|o| o != class) {
            continue;
        }
        for (from, to, new) in list.iter().step_by(list.len().div_ceil(at_most).max(1)) {
            let mutant = format!("{}{new}{}", &text[..*from], &text[*to..]);
            let row = table.entry(class).or_default();
            let end = outcome(&mutant, &meta, &data);
            row[0] += usize::from(end != End::Invalid);
            match end {
                End::Invalid => println!("invalid: {class}: {} -> {new}", &text[*from..*to]),
                End::Finding => row[1] += 1,
                End::Mismatch => row[2] += 1,
                End::Survived => {
                    row[3] += 1;
                    let line = text[..*from].matches('\n').count() + 1;
                    println!(
                        "survived: {class}: {} line {line}: {} -> {new}",
                        folder.display(),
                        &text[*from..*to]
                    );
                }
            }
        }
    }
    Ok(())
}

fn main() {
    let (mut at_most, mut only, mut table) = (6, None, BTreeMap::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--at-most" => {
                at_most = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(at_most).max(1)
            }
            "--class" => only = arguments.next(),
            folder => {
                if let Err(e) = campaign(Path::new(folder), at_most, only.as_deref(), &mut table) {
                    println!("skipped: {folder}: {e}");
                }
            }
        }
    }
    println!(
        "| class | mutants | a finding | a wrong result only | neither |\n|---|---|---|---|---|"
    );
    for (class, [tried, findings, mismatches, survivors]) in table {
        println!("| {class} | {tried} | {findings} | {mismatches} | {survivors} |");
    }
}
