//! Texts end to end, as one sequence of tokens.

use std::path::Path;

use crate::data::files::Text;
use crate::error::Result;

/// A sequence of tokens from several texts.
pub struct Stream {
    texts: Vec<Text>,
    /// Where each text ends in the sequence.
    ends: Vec<u64>,
}

impl Stream {
    /// Lays texts end to end.
    pub fn new(texts: Vec<Text>) -> Self {
        let mut end = 0;
        let lengths = texts.iter().map(Text::len);
        let ends = lengths.map(|n| {
            end += n;
            end
        });
        Self { ends: ends.collect(), texts }
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text that the tokens stand for, when all are known.
    pub fn bytes(&self) -> Option<u64> {
        self.texts.iter().map(|t| t.bytes).sum()
    }

    /// The first text, for messages.
    pub fn path(&self) -> &Path {
        self.texts.first().map_or(Path::new("--data"), |t| &t.path)
    }

    /// Copies the tokens that begin at `start`, which must be inside; `admit` says which are legal.
    ///
    /// # Errors
    /// [`crate::Error::Input`] names the file and place of a token that is not.
    pub fn read(&self, start: u64, out: &mut [u32], admit: impl Fn(u32) -> bool) -> Result<()> {
        let mut text = self.ends.partition_point(|end| *end <= start);
        let mut at = start - if text == 0 { 0 } else { self.ends[text - 1] };
        for slot in out {
            while at == self.texts[text].len() {
                (text, at) = (text + 1, 0);
            }
            let token = self.texts[text].token(at);
            if !admit(token) {
                return Err(self.texts[text].foreign(at));
            }
            *slot = token;
            at += 1;
        }
        Ok(())
    }
}
