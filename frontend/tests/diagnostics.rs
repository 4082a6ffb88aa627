//! Rendered diagnostics: each file of `tests/diagnostics` is a model text and, below `// expect:`, what is said about it.
//! `BLESS=1 cargo test` rewrites the expectations.

use std::fs;
use std::path::{Path, PathBuf};

use gigac_frontend::{Mode, Source, compile};

const MARK: &str = "// expect:\n";

/// A small model in which one line is wrong: what a file does not declare itself is put in front of it.
fn said_about(path: &Path, text: &str) -> String {
    let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into());
    let sets: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("// --set ")?.split_once('='))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let load = |path: &str| match path {
        "lib.giga" => Ok(Source::new("lib.giga", "fn twice(x) { x + x }\nfn lost(x) { x + y }\n")),
        _ => Err("no such file".to_string()),
    };
    match compile(&Source::new(name, text), &load, &sets, Mode { training: true }) {
        Ok(_) => "no errors\n".to_string(),
        Err(errors) => errors.render(false),
    }
}

fn commented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("// {line}").trim_end().to_string() + "\n").collect()
}

#[test]
fn diagnostics() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a test file");
        let (model, expected) = text.split_once(MARK).unwrap_or((&text, ""));
        let said = commented(&said_about(&path, model));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, format!("{model}{MARK}{said}")).expect("the file can be written");
        } else if said != expected {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 accepts these:\n{}", wrong.join("\n"));
}
