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
        let tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|e| Error::file(path, format!("not a tokenizer of Hugging Face: {e}")))?;
        let size = tokenizer.get_vocab_size(true) as u64;
        if size > limit {
            let what = format!("it has {size} tokens, the model's vocabulary {limit}");
            return Err(Error::file(path, what));
        }
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

fn encode(tokenizer: &Tokenizer, path: &Path, text: &str) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for piece in pieces(text) {
        let encoded = tokenizer
            .encode_fast(piece, false)
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
/// first value is for training, the second is held out.
///
/// # Errors
/// [`Error::Input`] names the file and what is wrong: empty, not UTF-8, cut short.
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
    let file = File::open(path).map_err(Error::io("open", path))?;
    let bytes = file.metadata().map_err(Error::io("open", path))?.len();
    if bytes == 0 {
        return Err(Error::file(path, "the file is empty"));
    }
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
