//! The texts of a run: UTF-8 files and `.bin` files of tokens, alone or in directories.
//!
//! - In a directory, and in those below it, files that end in `.txt` or `.bin` count, in the order
//!   of their paths.
//! - A file that ends in `.bin` holds little-endian tokens: 32 bits each when the name ends in
//!   `.u32.bin`, 16 when it ends in `.u16.bin`; otherwise 16 when the vocabulary has at most 65,536
//!   tokens, else 32.
//! - Any other file is UTF-8 text. Without a tokenizer its bytes are the tokens.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// Tokens that are checked before the first step; those after them are checked when they are read.
const CHECKED: u64 = 1 << 30;

/// Text is given to the tokenizer in pieces of about this many bytes, cut after a line break.
const PIECE: usize = 64 << 10;

/// How texts become tokens.
pub enum Vocabulary {
    /// Bytes are tokens.
    Bytes,
    /// A tokenizer of Hugging Face.
    Tokenizer(Box<Tokenizer>),
}

impl Vocabulary {
    /// Reads `tokenizer.json`; it may not have more tokens than the model.
    ///
    /// # Errors
    /// [`Error::Input`] when the file is not a tokenizer or has too many tokens.
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("open", path))?;
        let mut tokenizer = guarded(path, || Tokenizer::from_bytes(bytes))?
            .map_err(|e| Error::file(path, format!("not a tokenizer of Hugging Face: {e}")))?;
        let last = tokenizer.get_vocab(true).into_values().max();
        let size = last.map_or(0, |last| u64::from(last) + 1);
        if size > limit {
            let what = format!(
                "it numbers {size} tokens, the model's vocabulary has {limit}: give the model's \
                 axis at least {size} positions with --set"
            );
            return Err(Error::file(path, what));
        }
        // A text is encoded in pieces; what fits single samples to a length would cut or pad them.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| Error::file(path, format!("its truncation cannot be undone: {e}")))?;
        Ok(Self::Tokenizer(Box::new(tokenizer)))
    }

    /// Tokens as text, as well as it can be read.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match self {
            Self::Bytes => {
                let bytes: Vec<u8> =
                    tokens.iter().map(|t| u8::try_from(*t).unwrap_or(b'?')).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Self::Tokenizer(tokenizer) => {
                tokenizer.decode(tokens, false).unwrap_or_else(|_| format!("{tokens:?}"))
            }
        }
    }
}

thread_local! {
    /// Whether this thread runs foreign code whose panics become errors.
    static GUARDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs code of the `tokenizers` crate, which panics on some damaged files.
///
/// # Errors
/// [`Error::Input`] when it panics.
fn guarded<T>(path: &Path, body: impl FnOnce() -> T) -> Result<T> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    GUARDED.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    GUARDED.set(false);
    result
        .map_err(|_| Error::file(path, "the tokenizer is damaged: its parts do not fit each other"))
}

fn encode(tokenizer: &Tokenizer, path: &Path, text: &str) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for piece in pieces(text) {
        let encoded = guarded(path, || tokenizer.encode_fast(piece, false))?
            .map_err(|e| Error::file(path, format!("the tokenizer cannot read it: {e}")))?;
        tokens.extend(encoded.get_ids());
    }
    Ok(tokens)
}

/// Cuts a text after line breaks; a piece without any is cut at the end of the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = rest.as_bytes().get(PIECE..).unwrap_or_default();
        let cut = from.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| PIECE + at + 1);
        let (piece, tail) = rest.split_at(cut);
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Tokens of a part of a file.
pub struct Text {
    /// Where they come from.
    pub path: PathBuf,
    tokens: Tokens,
    /// Which of them.
    range: Range<usize>,
    /// Bytes of text they stand for; unknown for `.bin` files.
    pub bytes: Option<u64>,
}

#[derive(Clone)]
enum Tokens {
    Bytes(Arc<Mmap>),
    U16(Arc<Mmap>),
    U32(Arc<Mmap>),
    Encoded(Arc<[u32]>),
}

impl Text {
    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.range.len() as u64
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The error that a token is not one of the model's.
    pub fn foreign(&self, index: u64) -> Error {
        let (token, at) = (self.token(index), self.range.start as u64 + index);
        let what = format!(
            "token {token} at place {at} is outside the model's vocabulary: give the tokenizer that the \
             model is for; names that end in `.u16.bin` or `.u32.bin` say how wide tokens are"
        );
        Error::file(&self.path, what)
    }

    /// One token.
    pub fn token(&self, index: u64) -> u32 {
        let at = self.range.start + index as usize;
        match &self.tokens {
            Tokens::Bytes(map) => map[at].into(),
            Tokens::U16(map) => u16::from_le_bytes([map[2 * at], map[2 * at + 1]]).into(),
            Tokens::U32(map) => {
                u32::from_le_bytes([map[4 * at], map[4 * at + 1], map[4 * at + 2], map[4 * at + 3]])
            }
            Tokens::Encoded(tokens) => tokens[at],
        }
    }
}

/// Opens the texts at all paths. The last `held_out` part of each text is for validation: the
/// first value is for training, the second is held out. Tokens are below `size`.
///
/// # Errors
/// [`Error::Input`] names the file and what is wrong: empty, not UTF-8, cut short, a token that
/// the model does not have.
pub fn open(
    paths: &[PathBuf],
    vocabulary: &Vocabulary,
    size: u64,
    held_out: f64,
) -> Result<(Vec<Text>, Vec<Text>)> {
    let mut texts = (Vec::new(), Vec::new());
    for path in paths {
        for file in files(path)? {
            let (train, held) = open_file(&file, vocabulary, size, held_out)?;
            texts.0.push(train);
            texts.1.push(held);
        }
    }
    texts.1.retain(|t| !t.is_empty());
    let mut left = CHECKED;
    for text in texts.0.iter().chain(&texts.1) {
        let count = text.len().min(left);
        left -= count;
        if let Some(at) = (0..count).find(|at| u64::from(text.token(*at)) >= size) {
            return Err(text.foreign(at));
        }
    }
    Ok(texts)
}

/// The file itself, or the texts in a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let kind = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, &mut found)?;
    if found.is_empty() {
        return Err(Error::file(path, "the directory has no `.txt` or `.bin` files"));
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("open", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        // Links are not followed, so a directory cannot contain itself.
        let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io("read", folder))?);
        let extension = path.extension().and_then(|e| e.to_str());
        if kind.is_dir() {
            collect(&path, found)?;
        } else if matches!(extension, Some("txt" | "bin")) {
            found.push(path);
        }
    }
    Ok(())
}

fn open_file(path: &Path, vocabulary: &Vocabulary, size: u64, held: f64) -> Result<(Text, Text)> {
    let info = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if !info.is_file() {
        return Err(Error::file(path, "neither a file nor a directory of files"));
    }
    if info.len() == 0 {
        return Err(Error::file(path, "the file is empty"));
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the file is not changed while it is read; who truncates it meanwhile ends the
    // program with a bus error, as with every mapped file.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if name.ends_with(".bin") {
        bin(path, name, map, size, held)
    } else {
        text(path, map, vocabulary, held)
    }
}

/// How many of `count` are for training.
fn kept(count: usize, held: f64) -> usize {
    count - (count as f64 * held) as usize
}

fn bin(path: &Path, name: &str, map: Mmap, size: u64, held: f64) -> Result<(Text, Text)> {
    let wide = name.ends_with(".u32.bin") || (!name.ends_with(".u16.bin") && size > 1 << 16);
    let width = if wide { 4 } else { 2 };
    if !map.len().is_multiple_of(width) {
        let what = format!(
            "{} bytes are not a whole number of {}-bit tokens; names that end in `.u16.bin` or \
             `.u32.bin` say which they are",
            map.len(),
            8 * width
        );
        return Err(Error::file(path, what));
    }
    let (count, map) = (map.len() / width, Arc::new(map));
    let tokens = if wide { Tokens::U32(map) } else { Tokens::U16(map) };
    let cut = kept(count, held);
    let part = |range| Text { path: path.to_owned(), tokens: tokens.clone(), range, bytes: None };
    Ok((part(0..cut), part(cut..count)))
}

fn text(path: &Path, map: Mmap, vocabulary: &Vocabulary, held: f64) -> Result<(Text, Text)> {
    let text = std::str::from_utf8(&map).map_err(|e| {
        let at = e.valid_up_to();
        Error::file(path, format!("not UTF-8 text: byte {at} is wrong (tokens? name it `.bin`)"))
    })?;
    let mut cut = kept(text.len(), held);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let length = text.len();
    let part = |tokens, range, bytes: usize| Text {
        path: path.to_owned(),
        tokens,
        range,
        bytes: Some(bytes as u64),
    };
    if let Vocabulary::Tokenizer(tokenizer) = vocabulary {
        let encoded = |text: &str| -> Result<Text> {
            let tokens = encode(tokenizer, path, text)?;
            let range = 0..tokens.len();
            Ok(part(Tokens::Encoded(tokens.into()), range, text.len()))
        };
        return Ok((encoded(&text[..cut])?, encoded(&text[cut..])?));
    }
    let tokens = Tokens::Bytes(Arc::new(map));
    Ok((part(tokens.clone(), 0..cut, cut), part(tokens, cut..length, length - cut)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tokenizer of whole words.
    const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"<unk>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"<unk>":0,"the":1,"cat":2,"sat":3},"unk_token":"<unk>"}}"#;

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn tokens(text: &Text) -> Vec<u32> {
        (0..text.len()).map(|i| text.token(i)).collect()
    }

    #[test]
    fn tokenizers_read_and_write() {
        let folder = tempfile::tempdir().unwrap();
        let json = write(folder.path(), "tokenizer.json", TOKENIZER.as_bytes());
        let text = write(folder.path(), "a.txt", b"The cat sat on the cat");
        let vocabulary = Vocabulary::open(&json, 4).unwrap();
        let (train, _) = open(&[text], &vocabulary, 4, 0.0).unwrap();
        assert_eq!(tokens(&train[0]), [1, 2, 3, 0, 1, 2]);
        assert_eq!(train[0].bytes, Some(22));
        assert_eq!(vocabulary.decode(&[2, 3]), "cat sat");
        let error = Vocabulary::open(&json, 3).map(drop).unwrap_err();
        assert!(
            error.to_string().contains("numbers 4 tokens, the model's vocabulary has 3"),
            "{error}"
        );
    }

    #[test]
    fn the_end_of_each_text_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let ascii = write(folder.path(), "a.txt", &[b'a'; 100]);
        let wide = write(folder.path(), "b.txt", "ж".repeat(50).as_bytes());
        let (train, held) = open(&[ascii, wide], &Vocabulary::Bytes, 256, 0.05).unwrap();
        assert_eq!(train.iter().map(Text::len).collect::<Vec<_>>(), [95, 94]);
        assert_eq!(held.iter().map(Text::len).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn token_files_by_name_and_vocabulary() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0];
        let read = |name: &str, size| {
            let path = write(folder.path(), name, &bytes);
            tokens(&open(&[path], &Vocabulary::Bytes, size, 0.0).unwrap().0[0])
        };
        assert_eq!(read("a.bin", 65_536), [1, 0, 2, 0]);
        assert_eq!(read("a.bin", 65_537), [1, 2]);
        assert_eq!(read("a.u16.bin", 70_000), [1, 0, 2, 0]);
        assert_eq!(read("a.u32.bin", 70_000), [1, 2]);
        let path = write(folder.path(), "b.u16.bin", &bytes);
        // Also a token at the end, which is held out.
        for (limit, held) in [(2, 0.0), (2, 0.5)] {
            let error =
                open(std::slice::from_ref(&path), &Vocabulary::Bytes, limit, held).map(drop);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("b.u16.bin: token 2 at place 2 is outside"), "{error}");
        }
    }

    /// Settings for single samples do not cut or pad texts.
    #[test]
    fn whole_texts_are_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let short = r#"{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"#;
        let json = TOKENIZER.replace(r#""truncation":null"#, &format!(r#""truncation":{short}"#));
        let padding = r#"{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}"#;
        let json = json.replace(r#""padding":null"#, &format!(r#""padding":{padding}"#));
        assert!(json.contains("max_length") && json.contains("Fixed"));
        let json = write(folder.path(), "tokenizer.json", json.as_bytes());
        let text = write(folder.path(), "a.txt", b"The cat sat on the cat");
        let (train, _) = open(&[text], &Vocabulary::open(&json, 4).unwrap(), 4, 0.0).unwrap();
        assert_eq!(tokens(&train[0]), [1, 2, 3, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_text(lines in prop::collection::vec("[a-zж]{0,900}", 0..300)) {
            let text = lines.join("\n");
            prop_assert_eq!(pieces(&text).collect::<String>(), text);
        }

        /// A good tokenizer with one byte changed or its end cut off: read or refused.
        #[test]
        fn damaged_tokenizers_are_read_or_refused(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut bytes = TOKENIZER.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let json = write(folder.path(), "tokenizer.json", &bytes);
            if let Ok(vocabulary) = Vocabulary::open(&json, 1 << 32) {
                let text = write(folder.path(), "a.txt", b"the cat sat on the mat");
                let _ = open(&[text], &vocabulary, 1 << 32, 0.05);
            }
        }

        #[test]
        fn any_bytes_are_a_text_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            name in prop::sample::select(vec!["a.txt", "a.bin", "a.u32.bin"]),
            held in 0.0..0.5,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = write(folder.path(), name, &bytes);
            if let Ok((train, held)) = open(&[path], &Vocabulary::Bytes, 256, held) {
                let _ = train.iter().chain(&held).map(tokens).collect::<Vec<_>>();
            }
        }
    }
}
