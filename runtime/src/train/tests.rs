//! Whole runs of the hand-made program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli;
use crate::error::Result;
use crate::exec::allocations::CountingAllocator;
use crate::testing::{self, B, T};
use crate::weights::tensors::{self, Entry, TensorFile};
use crate::whole;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A folder with a text in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = ["the cat ", "sat on ", "a mat, ", "and so ", "it is. "];
        let text: String = (0..600).map(|i| words[i * i % 5 % words.len()]).collect();
        fs::write(folder.path().join("text.txt"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs with flags; `@name` stands for a path in the folder.
    fn run(&self, flags: &str) -> Result<()> {
        let flag = |f: &str| match f.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => f.to_owned(),
        };
        let flags = flags.split_whitespace().map(flag);
        let options =
            cli::options(["gigac".to_owned(), "--quiet".to_owned()].into_iter().chain(flags));
        super::train(&testing::program(), &testing::kernels(), &options)
    }

    fn fails(&self, flags: &str, code: i32, what: &str) {
        let error = self.run(flags).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The parts of the metric lines that must be equal between runs.
    fn lines(&self, run: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let names = ["step", "loss", "grad_norm", "lr", "tokens"];
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                names.map(|n| line[n].to_string()).join(" ")
            })
            .collect()
    }

    fn field(&self, run: &str, name: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let value =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()[name].as_f64().unwrap();
        text.lines().map(value).collect()
    }
}

#[test]
fn a_run_learns_and_leaves_its_files() {
    let place = Place::new();
    place
        .run("--data @text.txt --steps 40 --out @run --threads 2 --validate-every 20 --poison")
        .unwrap();
    let loss = place.field("run", "loss");
    assert!((loss[0] - 5.545).abs() < 0.01 && loss[39] < 2.5, "{loss:?}");
    assert_eq!(place.field("run", "tokens")[39], (40 * B * T) as f64);
    let allocations = place.field("run", "allocations");
    assert!(allocations[2..].iter().all(|n| *n == 0.0), "{allocations:?}");
    assert!(fs::read_to_string(place.path("run/loss.svg")).unwrap().contains("<circle"));
    let latest = fs::read_to_string(place.path("run/checkpoints/latest")).unwrap();
    assert_eq!(latest, "step-00000040\n");
}

#[test]
fn threads_change_nothing() {
    let place = Place::new();
    for threads in [1, 2, 3] {
        let flags =
            format!("--data @text.txt --steps 20 --out @{threads} --export @{threads}.safetensors");
        place.run(&format!("{flags} --threads {threads}")).unwrap();
        assert_eq!(place.lines("1"), place.lines(&threads.to_string()));
        let name = format!("{threads}.safetensors");
        assert_eq!(place.bytes("1.safetensors"), place.bytes(&name));
    }
}

#[test]
fn a_resumed_run_is_the_same_run() {
    let place = Place::new();
    place.run("--data @text.txt --steps 30 --out @whole --export @whole.st --seed 5").unwrap();
    place.run("--data @text.txt --steps 13 --out @parts --seed 5 --threads 1").unwrap();
    place.run("--data @text.txt --steps 30 --out @parts --resume --export @parts.st").unwrap();
    assert_eq!(place.lines("whole"), place.lines("parts"));
    assert_eq!(place.bytes("whole.st"), place.bytes("parts.st"));
    // Nothing is left to do, but the exported weights can still be had.
    place.run("--data @text.txt --steps 30 --out @parts --resume --export @again.st").unwrap();
    assert_eq!(place.bytes("whole.st"), place.bytes("again.st"));
}

#[test]
fn damaged_checkpoints_are_passed_over() {
    let place = Place::new();
    place.run("--data @text.txt --steps 30 --out @whole --export @whole.st").unwrap();
    place.run("--data @text.txt --steps 20 --out @parts --save-every 5").unwrap();
    let shard = "states-00001-of-00001.safetensors";
    let newest = place.path("parts/checkpoints/step-00000020").join(shard);
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    let older = place.path("parts/checkpoints/step-00000015/index.json");
    let index = fs::read_to_string(&older).unwrap();
    fs::write(&older, &index[..index.len() / 2]).unwrap();
    fs::create_dir(place.path("parts/checkpoints/.step-00000025")).unwrap();
    place.run("--data @text.txt --steps 30 --out @parts --resume --export @parts.st").unwrap();
    assert_eq!(place.lines("whole"), place.lines("parts"));
    assert_eq!(place.bytes("whole.st"), place.bytes("parts.st"));
    assert!(!place.path("parts/checkpoints/.step-00000025").exists());
}

#[test]
fn checkpoints_of_others_are_refused() {
    let place = Place::new();
    place.run("--data @text.txt --steps 2 --out @run --seed 1").unwrap();
    place.fails("--data @text.txt --steps 1 --out @run --resume", 2, "has done 2 already");
    place.fails("--data @text.txt --steps 9 --out @run --resume --seed 3", 2, "began with seed 1");
    let path = place.path("run/checkpoints/step-00000002/index.json");
    let index = fs::read_to_string(&path).unwrap();
    fs::write(&path, index.replace("\"format\": 1", "\"format\": 9")).unwrap();
    place.fails("--data @text.txt --steps 9 --out @run --resume", 1, "format 9");
    fs::write(&path, index.replace("bigram", "trigram")).unwrap();
    place.fails(
        "--data @text.txt --steps 9 --out @run --resume",
        1,
        "none of the checkpoints is whole",
    );
}

#[test]
fn a_new_run_loses_nothing_of_an_old_one() {
    let place = Place::new();
    place.run("--data @text.txt --steps 3 --out @run").unwrap();
    place.run("--data @text.txt --steps 2 --out @run").unwrap();
    assert_eq!(place.lines("run").len(), 2);
    assert_eq!(place.lines("run/previous-1").len(), 3);
    assert!(place.path("run/previous-1/checkpoints/step-00000003").is_dir());
}

/// Exported weights, imported again, give the same run.
#[test]
fn export_and_import_round_trip() {
    let place = Place::new();
    place
        .run("--data @text.txt --steps 1 --export @a.st --dump-grads @g.st --dump-logits @l.st")
        .unwrap();
    let file = TensorFile::open(&place.path("a.st")).unwrap();
    assert_eq!(file.get("table.high").unwrap().shape, [128, 256]);
    assert_eq!(file.get("bias").unwrap().shape, [256]);
    place.run("--data @text.txt --steps 5 --init @a.st --out @b").unwrap();
    place.run("--data @text.txt --steps 5 --init @a.st --out @c").unwrap();
    assert_eq!(place.lines("b"), place.lines("c"));

    let gradients = TensorFile::open(&place.path("g.st")).unwrap();
    assert_eq!(gradients.get("table.low").unwrap().shape, [128, 256]);
    let logits = TensorFile::open(&place.path("l.st")).unwrap();
    assert_eq!(logits.get("logits").unwrap().shape, [B as u64, T as u64, 256]);
    let mut values = vec![0.0; B * T * 256];
    logits.get("logits").unwrap().read_f32(0, &mut values).unwrap();
    assert!(values.iter().all(|v| v.abs() < 0.2) && values.iter().any(|v| *v != 0.0));
}

fn write_tensors(path: &Path, tensors: &[(&str, Vec<u64>, f32)]) {
    let entries: Vec<Entry> = tensors.iter().map(|(n, s, _)| Entry::f32(*n, s.clone())).collect();
    whole::write(path, |out| {
        tensors::write(out, &entries, |i, out| {
            let count = entries[i].shape.iter().product::<u64>() as usize;
            tensors::write_f32(out, &vec![tensors[i].2; count])
        })
    })
    .unwrap();
}

#[test]
fn import_reports_everything_at_once() {
    let place = Place::new();
    let tensors = [
        ("table.low", vec![128, 255], 0.0),
        ("bias", vec![256], 0.0),
        ("extra.weight", vec![1], 0.0),
    ];
    write_tensors(&place.path("w.st"), &tensors);
    let error = place.run("--data @text.txt --steps 1 --init @w.st").unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 1);
    for part in ["w.st", "`table.high` is missing", "[128, 255]", "[128, 256]", "`extra.weight`"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("bias"), "{text}");

    let tensors = [
        ("table.low", vec![128, 256], 0.0),
        ("table.high", vec![128, 256], f32::NAN),
        ("bias", vec![256], 0.0),
    ];
    write_tensors(&place.path("w.st"), &tensors);
    place.fails("--data @text.txt --steps 1 --init @w.st", 1, "`table.high` is not finite");
}

/// Writes a file of batches.
fn write_batches(path: &Path, shape: [u64; 3], value: impl Fn(usize) -> i32) {
    let count = shape.iter().product::<u64>() as usize;
    let entry = Entry { name: "tokens".into(), dtype: "I32", shape: shape.to_vec() };
    whole::write(path, |out| {
        tensors::write(out, &[entry], |_, out| {
            use std::io::Write;
            (0..count).try_for_each(|i| out.write_all(&value(i).to_le_bytes()))
        })
    })
    .unwrap();
}

#[test]
fn batches_are_taken_as_they_are() {
    let place = Place::new();
    let shape = [6, B as u64, T as u64 + 1];
    write_batches(&place.path("b.st"), shape, |i| (i % 7) as i32);
    place.run("--batches @b.st --out @run").unwrap();
    let loss = place.field("run", "loss");
    assert_eq!(loss.len(), 6);
    assert!(loss[5] < loss[0]);
    place.fails("--batches @b.st --steps 7", 2, "has 6");
    write_batches(&place.path("w.st"), [6, B as u64, 9], |_| 0);
    place.fails("--batches @w.st", 1, "the model wants [6, 4, 17]");
    write_batches(&place.path("r.st"), shape, |i| if i == 200 { 256 } else { 0 });
    place.fails("--batches @r.st", 1, "element 200 is 256, expected 0 … 255");
    write_tensors(&place.path("f.st"), &[("tokens", shape.to_vec(), 0.0)]);
    place.fails("--batches @f.st", 1, "expected I32");
    write_tensors(&place.path("n.st"), &[("x", vec![1], 0.0)]);
    place.fails("--batches @n.st", 1, "no tensor `tokens`");
}

#[test]
fn hostile_data_is_an_input_error() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    write("empty.txt", b"");
    place.fails("--data @empty.txt --steps 1", 1, "empty.txt: the file is empty");
    write("short.txt", b"too short");
    place.fails("--data @short.txt --steps 1", 1, "short.txt: the text is too short: 9 tokens");
    write("latin.txt", &[b'a', 0xe9, b'b'].repeat(100));
    place.fails("--data @latin.txt --steps 1", 1, "latin.txt: not UTF-8 text: byte 1 is wrong");
    write("odd.bin", &[0; 101]);
    place.fails("--data @odd.bin --steps 1", 1, "odd.bin: 101 bytes");
    let large: Vec<u8> = (0..200_u16).flat_map(|i| (i * 2).to_le_bytes()).collect();
    write("large.bin", &large);
    place.fails("--data @large.bin --steps 9", 1, "is outside the model's vocabulary");
    place.fails("--data @nowhere.txt --steps 1", 1, "nowhere.txt");
    place.fails("--data @text.txt --tokenizer @text.txt --steps 1", 1, "text.txt: not a tokenizer");
    fs::create_dir(place.path("folder")).unwrap();
    place.fails("--data @folder --steps 1", 1, "no `.txt` or `.bin` files");
    place.fails("--data @text.txt", 2, "--steps N");
    place.fails("--steps 1", 2, "--data PATH");
}

#[test]
fn token_files_and_directories() {
    let place = Place::new();
    fs::create_dir_all(place.path("d/e")).unwrap();
    let narrow: Vec<u8> = (0..500_u16).flat_map(|i| (i % 50).to_le_bytes()).collect();
    let wide: Vec<u8> = (0..500_u32).flat_map(|i| (i % 50).to_le_bytes()).collect();
    fs::write(place.path("d/a.bin"), narrow).unwrap();
    fs::write(place.path("d/e/b.u32.bin"), wide).unwrap();
    fs::write(place.path("d/notes.md"), [0xff; 100]).unwrap();
    place.run("--data @d --data @text.txt --steps 30 --out @run").unwrap();
    assert_eq!(place.lines("run").len(), 30);
}

#[test]
fn what_cannot_be_written_is_a_machine_error() {
    let place = Place::new();
    fs::write(place.path("file"), "x").unwrap();
    place.fails("--data @text.txt --steps 1 --out @file/run", 3, "cannot create");
    place.fails("--data @text.txt --steps 1 --export @nowhere/a.st", 3, "nowhere/a.st");
    let pipe = place.path("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the name is a string that ends in 0.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    place.fails("--data @text.txt --steps 1 --export @pipe", 3, "choose another name");
    assert!(!fs::metadata(pipe).unwrap().is_file(), "what is no file stays");
}

/// The program that [`killing_a_run_loses_little`] kills: a run without end. Nothing, when no other
/// test has started it.
#[test]
fn endless_run() {
    let Some(folder) = std::env::var_os("GIGAC_TEST_RUN") else { return };
    let options = cli::options(
        ["gigac", "--steps", "1000000", "--save-every", "5", "--resume", "--quiet", "--data"]
            .map(Into::into)
            .into_iter()
            .chain([PathBuf::from(&folder).join("text.txt").into_os_string(), "--out".into()])
            .chain([PathBuf::from(&folder).join("run").into_os_string()]),
    );
    let result = super::train(&testing::program(), &testing::kernels(), &options);
    std::process::exit(result.map_or_else(|error| error.exit_code(), |()| 0));
}

fn child(place: &Place) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "train::tests::endless_run", "--nocapture"])
        .env("GIGAC_TEST_RUN", place.folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the run has written that many lines.
fn wait_for_lines(place: &Place, lines: usize) {
    let path = place.path("run/metrics.jsonl");
    for _ in 0..6000 {
        if fs::read_to_string(&path).is_ok_and(|text| text.lines().count() >= lines) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the run does not get on");
}

#[test]
fn killing_a_run_loses_little() {
    let place = Place::new();
    for round in 1..6 {
        let mut child = child(&place);
        wait_for_lines(&place, 13 * round);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let steps = place.lines("run").len() as u64;
    let newest = crate::checkpoint::newest(&place.path("run"), |w| panic!("{w}")).unwrap().unwrap();
    assert!(newest.1.position.steps + 10 >= steps, "{} of {steps}", newest.1.position.steps);
    let total = steps + 10;
    place
        .run(&format!("--data @text.txt --steps {total} --out @run --resume --export @a.st"))
        .unwrap();
    place.run(&format!("--data @text.txt --steps {total} --out @whole --export @b.st")).unwrap();
    assert_eq!(place.lines("run"), place.lines("whole"));
    assert_eq!(place.bytes("a.st"), place.bytes("b.st"));
}

#[test]
fn a_signal_ends_a_run_with_a_checkpoint() {
    let place = Place::new();
    let mut child = child(&place);
    wait_for_lines(&place, 3);
    // SAFETY: signals our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (_, index) =
        crate::checkpoint::newest(&place.path("run"), |w| panic!("{w}")).unwrap().unwrap();
    assert_eq!(index.position.steps, place.lines("run").len() as u64);
}
