//! Threads that compress blocks.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use zstd::bulk::Compressor;

/// A block as it goes into the image, and the buffer it was made from.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    /// Stored as it came, because compression gained nothing.
    pub(crate) stored: bool,
    pub(crate) spare: Vec<u8>,
}

type Job = (Vec<u8>, SyncSender<io::Result<Block>>);

#[derive(Debug)]
pub(crate) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn start(threads: usize, level: Option<i32>) -> io::Result<Self> {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..threads.max(1))
            .map(|_| {
                let jobs = Arc::clone(&receiver);
                let mut compressor = level.map(Compressor::new).transpose()?;
                std::thread::Builder::new().spawn(move || work(&jobs, &mut compressor))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(sender), threads })
    }

    /// Has `raw` compressed; the answer comes by the channel.
    pub(crate) fn compress(&self, raw: Vec<u8>) -> io::Result<Receiver<io::Result<Block>>> {
        let (answer, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send((raw, answer)).map_err(|_| gone())?;
        Ok(receiver)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(crate) fn gone() -> io::Error {
    io::Error::other("a compressing thread died")
}

fn work(jobs: &Mutex<Receiver<Job>>, compressor: &mut Option<Compressor<'_>>) {
    loop {
        let job = match jobs.lock() {
            Ok(receiver) => receiver.recv(),
            Err(_) => return,
        };
        let Ok((raw, answer)) = job else { return };
        // Nobody waits for the answer if the writer gave up.
        let _ = answer.send(match compressor {
            Some(compressor) => compress(compressor, raw),
            None => Ok(Block { bytes: raw, stored: true, spare: Vec::new() }),
        });
    }
}

/// Compresses `raw`, or keeps it if that is no shorter.
pub(crate) fn compress(compressor: &mut Compressor<'_>, raw: Vec<u8>) -> io::Result<Block> {
    let mut bytes = Vec::with_capacity(zstd::zstd_safe::compress_bound(raw.len()));
    compressor.compress_to_buffer(&raw, &mut bytes)?;
    Ok(if bytes.len() < raw.len() {
        Block { bytes, stored: false, spare: raw }
    } else {
        Block { bytes: raw, stored: true, spare: bytes }
    })
}
