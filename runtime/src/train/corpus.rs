//! The data of a run, and the sources of batches that its phases need.

use std::sync::Arc;

use gigac_ir::program::Program;

use super::Options;
use crate::checkpoint;
use crate::data::batch::{Layout, TOKENS};
use crate::data::files::{self, Vocabulary};
use crate::data::source::{BatchFile, Source, TextSource};
use crate::data::stream::Stream;
use crate::error::Result;

/// The data of a run.
pub(super) struct Corpus {
    /// How tokens become text.
    pub(super) vocabulary: Vocabulary,
    /// Text to train on; absent with a file of batches.
    train: Option<Arc<Stream>>,
    /// Text held out.
    pub(super) held_out: Option<Arc<Stream>>,
    /// Steps of a file of batches.
    pub(super) available: Option<u64>,
    batches: Option<std::path::PathBuf>,
    /// Digest of names and sizes.
    pub(super) digest: String,
}

impl Corpus {
    /// Opens the data that the flags name.
    ///
    /// # Errors
    /// [`crate::Error::Input`] names the file and what is wrong with it.
    pub(super) fn open(program: &Program, options: &Options) -> Result<Self> {
        let layout = Layout::new(&program.phases[0].step);
        let tokens = layout.find(TOKENS).and_then(|c| layout.columns[c].range);
        let size = tokens.map_or(u64::MAX, |(_, hi)| hi.max(0) as u64);
        let vocabulary = match &options.tokenizer {
            Some(path) => Vocabulary::open(path, size)?,
            None => Vocabulary::Bytes,
        };
        if let Some(path) = &options.batches {
            let file = BatchFile::open(path, &layout)?;
            let digest = checkpoint::data_digest([(path.display().to_string(), file.steps())]);
            return Ok(Self {
                vocabulary,
                train: None,
                held_out: None,
                available: Some(file.steps()),
                batches: Some(path.clone()),
                digest,
            });
        }
        let held = options.held_out / 100.0;
        let (train, held) = files::open(&options.data, &vocabulary, size, held)?;
        let digest =
            checkpoint::data_digest(train.iter().map(|t| (t.path.display().to_string(), t.len())));
        Ok(Self {
            vocabulary,
            train: Some(Arc::new(Stream::new(train))),
            held_out: Some(Arc::new(Stream::new(held))),
            available: None,
            batches: None,
            digest,
        })
    }

    /// The batches of a phase that begins at step `first`.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when the data is not what the phase wants.
    pub(super) fn source(
        &self,
        layout: &Layout,
        seed: u32,
        phase: u32,
        first: u64,
    ) -> Result<Box<dyn Source>> {
        if let Some(path) = &self.batches {
            return Ok(Box::new(BatchFile::open(path, layout)?));
        }
        let stream = self.train.clone().unwrap_or_else(|| Arc::new(Stream::new(Vec::new())));
        Ok(Box::new(TextSource::shuffled(stream, layout, seed, phase, first)?))
    }
}
