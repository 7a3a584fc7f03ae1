//! A look at SQLite's write-ahead log before SQLite opens it.
//!
//! SQLite takes the log up to the first frame that does not check and silently drops the rest; a log with
//! a damaged header it drops whole. That is right for the tail of a write that a power cut has torn, but
//! damage in the middle would lose commits that were acknowledged long ago, without a word.
//!
//! What tells the two apart: with `synchronous=FULL` a transaction's frames are on the medium before the next
//! transaction's first frame is written, while frames of one transaction may arrive in any order. So a bad frame
//! inside the last transaction is a torn tail, with any bytes behind it; a bad frame is damage when, at or behind it,
//! one transaction is continued by the next: a good frame right after a commit frame. (Good frames alone prove
//! nothing: a transaction that was rolled back leaves some behind, and so does a torn one.)
//!
//! Format: <https://www.sqlite.org/fileformat2.html#walformat>. The log is read as a stream, one frame in
//! memory.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
const HEADER: u64 = 32;

/// What the log holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wal {
    /// No log, or none with a complete transaction: all there is stands in the database file.
    Empty,
    /// At least one complete transaction; what follows it, if anything, is a torn tail.
    Commits,
    /// Damaged as the text says; SQLite must not open it.
    Damaged(String),
}

/// Reads the log at `path`; nothing is written.
pub(super) fn inspect(path: &Path) -> io::Result<Wal> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Wal::Empty),
        file => file?,
    };
    let length = file.metadata()?.len();
    inspect_log(&mut BufReader::with_capacity(8192, file), length)
}

fn inspect_log(log: &mut impl Read, length: u64) -> io::Result<Wal> {
    // The first frame is written after the header has reached the medium: up to here nothing was
    // acknowledged.
    if length <= HEADER {
        return Ok(Wal::Empty);
    }
    let mut header = [0; 32];
    log.read_exact(&mut header)?;
    match Header::parse(&header) {
        Ok(header) => inspect_frames(log, &header),
        Err(what) => Ok(Wal::Damaged(format!("the header of store.db-wal has {what}"))),
    }
}

fn inspect_frames(log: &mut impl Read, header: &Header) -> io::Result<Wal> {
    let mut frame = vec![0; header.page_size.saturating_add(24)];
    let mut number = 0u64;
    let mut first_bad = None;
    let mut commits = false;
    let mut previous = Previous { checksum: header.checksum, is_commit: false };

    while fill(log, &mut frame)? {
        number = number.saturating_add(1);
        let Some(fields) = Frame::parse(&frame) else { break };
        let current = fields.salts == header.salts;
        let good = current
            && fields.page != 0
            && header.frame_checksum(previous.checksum, &frame) == Some(fields.checksum);
        let is_commit = current && fields.pages_after_commit != 0;

        match first_bad {
            None if good => commits |= is_commit,
            None => first_bad = Some(number),
            Some(bad) if good && previous.is_commit => {
                return Ok(Wal::Damaged(format!(
                    "frame {bad} of store.db-wal is bad, transactions after it are good"
                )));
            }
            Some(_) => {}
        }
        previous = Previous { checksum: fields.checksum, is_commit };
    }
    Ok(if commits { Wal::Commits } else { Wal::Empty })
}

/// What the frame before says about itself, good or bad: each frame's checksum continues that of the frame
/// before, so a frame can be judged even when the one before is damaged elsewhere.
struct Previous {
    checksum: Checksum,
    is_commit: bool,
}

type Checksum = (u32, u32);

struct Header {
    big_endian: bool,
    page_size: usize,
    salts: (u32, u32),
    checksum: Checksum,
}

impl Header {
    fn parse(bytes: &[u8; 32]) -> Result<Header, &'static str> {
        let word = |at| word(bytes, at).ok_or("no words");
        let magic = word(0)?;
        if magic & !1 != MAGIC {
            return Err("a bad magic number");
        }
        let big_endian = magic & 1 == 1;
        let checksum = bytes.get(..24).and_then(|bytes| continue_checksum((0, 0), bytes, big_endian));
        if checksum != Some((word(24)?, word(28)?)) {
            return Err("a bad checksum");
        }
        if word(4)? != VERSION {
            return Err("an unknown version");
        }
        let page_size = usize::try_from(word(8)?).unwrap_or(0);
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err("a bad page size");
        }
        Ok(Header { big_endian, page_size, salts: (word(16)?, word(20)?), checksum: (word(24)?, word(28)?) })
    }

    /// The checksum that `frame` should carry if `before` is that of the frame before it.
    fn frame_checksum(&self, before: Checksum, frame: &[u8]) -> Option<Checksum> {
        let sum = continue_checksum(before, frame.get(..8)?, self.big_endian)?;
        continue_checksum(sum, frame.get(24..)?, self.big_endian)
    }
}

struct Frame {
    page: u32,
    /// Not 0 in the last frame of a transaction only.
    pages_after_commit: u32,
    salts: (u32, u32),
    checksum: Checksum,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Option<Frame> {
        Some(Frame {
            page: word(bytes, 0)?,
            pages_after_commit: word(bytes, 4)?,
            salts: (word(bytes, 8)?, word(bytes, 12)?),
            checksum: (word(bytes, 16)?, word(bytes, 20)?),
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// `None` unless `bytes` is a whole number of word pairs.
fn continue_checksum(sum: Checksum, bytes: &[u8], big_endian: bool) -> Option<Checksum> {
    let (mut a, mut b) = sum;
    let pairs = bytes.chunks_exact(8);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        let (first, second) = (*pair.first_chunk::<4>()?, *pair.last_chunk::<4>()?);
        let (x, y) = if big_endian {
            (u32::from_be_bytes(first), u32::from_be_bytes(second))
        } else {
            (u32::from_le_bytes(first), u32::from_le_bytes(second))
        };
        a = a.wrapping_add(x).wrapping_add(b);
        b = b.wrapping_add(y).wrapping_add(a);
    }
    Some((a, b))
}

/// False when less than a whole frame is left.
fn fill(log: &mut impl Read, frame: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(frame) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_wal(bytes: &[u8]) -> String {
    format!("{:?}", inspect_log(&mut &bytes[..], bytes.len() as u64))
}

/// For `tests/fuzz`: the same log with every checksum as it should be.
#[cfg(test)]
pub(crate) fn with_good_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = |sum: Checksum| [sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat();
    let Some(mut sum) = bytes.get(..24).and_then(|header| continue_checksum((0, 0), header, false)) else {
        return bytes;
    };
    if bytes.len() < 32 {
        return bytes;
    }
    bytes[24..32].copy_from_slice(&end(sum));
    for frame in bytes[32..].chunks_exact_mut(24 + 512) {
        let body = continue_checksum(sum, &frame[..8], false);
        sum = body.and_then(|sum| continue_checksum(sum, &frame[24..], false)).unwrap_or_default();
        frame[16..24].copy_from_slice(&end(sum));
    }
    bytes
}
