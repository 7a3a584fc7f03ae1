//! Sends small packets as fast as it can, for `make bench`.
//!
//! `packets FRAMES SIZE COUNT`: standard input is a packet socket bound to a device, the file holds Ethernet frames of
//! `SIZE` bytes. Sends `COUNT` of them, in turn and again, and prints how many nanoseconds it took.

use nix::sys::socket::{sendmmsg, MsgFlags, MultiHeaders};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Frames in one system call.
const BATCH: usize = 250;

fn main() -> Result<()> {
    let usage = || Error::new(ErrorKind::InvalidInput, "usage: packets FRAMES SIZE COUNT");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [frames, size, count] = args.as_slice() else { return Err(usage()) };
    let number = |text: &String| text.parse::<usize>().ok().filter(|number| *number > 0).ok_or_else(usage);
    let (size, count) = (number(size)?, number(count)?);
    let frames = std::fs::read(frames)?;
    let frames: Vec<&[u8]> = frames.chunks_exact(size).cycle().take(count).collect();
    let batches: Vec<Vec<[IoSlice<'_>; 1]>> =
        frames.chunks(BATCH).map(|batch| batch.iter().map(|frame| [IoSlice::new(frame)]).collect()).collect();

    let socket = std::io::stdin().as_raw_fd();
    let bound = [None::<()>; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let began = Instant::now();
    for batch in &batches {
        let mut left = batch.as_slice();
        while !left.is_empty() {
            let sent =
                sendmmsg(socket, &mut headers, left, &bound[..left.len()], [], MsgFlags::empty())?.count();
            left = left.get(sent.max(1)..).unwrap_or_default();
        }
    }
    println!("{}", began.elapsed().as_nanos());
    Ok(())
}
