//! Event files that TensorBoard reads: TFRecords of a few protobuf messages.
//!
//! Sources: `tensorflow/core/util/event.proto`, `framework/summary.proto`, and the record format
//! of `lib/io/record_writer.h`: length, masked CRC-32C of the length, data, masked CRC-32C of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Record;
use crate::error::{Error, Result};

/// Names of event files begin so.
pub const PREFIX: &str = "events.out.tfevents.";

/// An event file.
pub(super) struct Events {
    path: PathBuf,
    file: File,
    names: Vec<String>,
}

impl Events {
    /// Starts a new file in a run's folder; events of other files from `first_step` on are void.
    pub(super) fn create(run: &Path, names: &[String], first_step: u64) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{}.{}.gigac", now.as_secs(), std::process::id());
        let path = run.join(name);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let mut events = Self { path, file, names: names.to_vec() };
        let version = Message::default().bytes(3, b"brain.Event:2");
        // SessionLog with status START makes readers drop what older files say of later steps.
        let start = Message::default().bytes(7, &Message::default().varint(1, 1).0);
        events.write(0, version)?;
        events.write(first_step, start)?;
        Ok(events)
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        let mut summary = Message::default()
            .scalar("train/loss", record.loss)
            .scalar("train/grad_norm", record.grad_norm)
            .scalar("train/learning_rate", record.lr)
            .scalar("train/nan_gradients", record.nan_gradients)
            .scalar("speed/tokens_per_second", record.tokens_per_second())
            .scalar("speed/flops_utilisation", record.utilisation);
        for (name, value) in self.names.iter().zip(&record.metrics) {
            summary = summary.scalar(&format!("metrics/{name}"), *value);
        }
        if let Some(validation) = record.validation {
            summary = summary.scalar("validation/loss", validation.loss);
            if let Some(bits) = validation.bits_per_byte {
                summary = summary.scalar("validation/bits_per_byte", bits);
            }
        }
        self.write(record.step, Message::default().bytes(5, &summary.0))
    }

    /// Writes an `Event`: wall time, step, and what it is about.
    fn write(&mut self, step: u64, what: Message) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = Message::default().double(1, now.as_secs_f64()).varint(2, step);
        let record = frame(&[event.0, what.0].concat());
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

/// A record with its checksums.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &sum(&length), data, &sum(data)].concat()
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: events are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The bytes of a protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn varint(self, field: u64, value: u64) -> Self {
        self.raw(field << 3).raw(value)
    }

    fn double(self, field: u64, value: f64) -> Self {
        let mut message = self.raw(field << 3 | 1);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn float(self, field: u64, value: f32) -> Self {
        let mut message = self.raw(field << 3 | 5);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.raw(field << 3 | 2).raw(bytes.len() as u64);
        message.0.extend(bytes);
        message
    }

    /// A `Summary.Value` with a tag and a number.
    fn scalar(self, tag: &str, value: f64) -> Self {
        let value = Message::default().bytes(1, tag.as_bytes()).float(2, value as f32);
        self.bytes(1, &value.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of RFC 3720, appendix B.4.
    #[test]
    fn checksums() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn messages() {
        assert_eq!(Message::default().varint(2, 300).0, [0x10, 0xac, 0x02]);
        let scalar = Message::default().scalar("a", 1.0);
        assert_eq!(scalar.0, [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f]);
    }

    /// Walks the file as a reader does and finds every record intact.
    #[test]
    fn files_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), &["m".to_owned()], 0).unwrap();
        events.record(&Record { metrics: vec![3.0], ..Record::default() }).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let (mut at, mut count) = (0, 0);
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let record = frame(&bytes[at + 12..at + 12 + length]);
            assert_eq!(bytes[at..at + record.len()], record);
            (at, count) = (at + record.len(), count + 1);
        }
        assert_eq!(count, 3);
    }
}
