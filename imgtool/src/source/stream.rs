//! Layers on their way: fetched, checked, decompressed, by two threads each.
//!
//! A few layers are under way at once, so that neither network nor disk waits for the archive
//! of the one before to be read. What is in memory is bounded by the channels' lengths.

use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use udi::{Digest, Error, Result};

use super::Source;
use super::decoded::Decoded;
use super::manifest::Layer;

/// Bytes handed from thread to thread at once.
pub(crate) const PIECE: usize = 128 << 10;
/// Compressed pieces that may wait: 8 MiB a layer.
const FETCHED: usize = 64;
/// Uncompressed pieces that may wait: 4 MiB a layer.
const READY: usize = 32;

/// The uncompressed archive of a layer. When it has been read to its end, its digests are
/// right; else the error that ended it is the last thing read.
#[derive(Debug)]
pub(crate) struct Stream(Pieces);

impl Stream {
    /// Starts reading a layer; `progress` is told of each byte as it is stored.
    pub(crate) fn open(
        source: &Arc<dyn Source>,
        layer: &Layer,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<Self> {
        let (source, fetching) = (Arc::clone(source), layer.clone());
        let name = format!("layer {}", layer.digest.short());
        Self::start(name, Some(layer.diff_id.clone()), move |to| {
            source.fetch(&fetching, &progress, to);
        })
    }

    /// Starts reading what nobody has a digest of: an archive that stands for itself.
    pub(crate) fn of(
        mut from: impl Read + Send + 'static,
        name: String,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<Self> {
        Self::start(name, None, move |to| {
            loop {
                let mut piece = vec![0; PIECE];
                let n = match fill(&mut from, &mut piece) {
                    Ok(n) => n,
                    Err(error) => {
                        let error = Error::user("it cannot be read").because(error);
                        return drop(to.send(Err(error)));
                    }
                };
                piece.truncate(n);
                progress(n as u64);
                if to.send(Ok(piece)).is_err() || n == 0 {
                    return;
                }
            }
        })
    }

    fn start(
        name: String,
        diff_id: Option<Digest>,
        fetch: impl FnOnce(&SyncSender<Result<Vec<u8>>>) + Send + 'static,
    ) -> Result<Self> {
        let (to_decode, fetched) = sync_channel(FETCHED);
        let (to_read, ready) = sync_channel(READY);
        spawn("fetch", move || fetch(&to_decode))?;
        spawn("decode", move || {
            let mut fetched = Pieces::of(fetched);
            if let Err(error) = decode(&mut fetched, &name, diff_id.as_ref(), &to_read) {
                // What cannot be decompressed mostly is not what the digest names.
                let _ = to_read.send(Err(fetched.drain().err().unwrap_or(error)));
            }
        })?;
        Ok(Self(Pieces::of(ready)))
    }

    /// Has `hopeless` asked now and then while nothing comes.
    pub(crate) fn unless(mut self, hopeless: impl Fn() -> Option<Error> + Send + 'static) -> Self {
        self.0.hopeless = Some(Box::new(hopeless));
        self
    }

    /// Reads to the end: only then the digests are known to be right. An error that was read
    /// already is not told again.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.0.drain()
    }

    /// Whether all of it was read, and no error.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.ended && !self.0.failed
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// What another thread reads, as it hands it out.
pub(crate) fn pieces(
    work: impl FnOnce(&mut dyn FnMut(&mut dyn Read) -> io::Result<()>) -> Result<()> + Send + 'static,
) -> Result<Pieces> {
    let (to, from) = sync_channel::<Result<Vec<u8>>>(READY);
    spawn("read", move || {
        let mut gone = false;
        let result = work(&mut |from| {
            loop {
                let mut piece = vec![0; PIECE];
                let mut filled = 0;
                while filled < piece.len() {
                    match from.read(&mut piece[filled..])? {
                        0 => break,
                        n => filled += n,
                    }
                }
                piece.truncate(filled);
                if filled == 0 {
                    return Ok(());
                }
                if to.send(Ok(piece)).is_err() {
                    gone = true;
                    return Ok(());
                }
            }
        });
        if !gone {
            let _ = to.send(result.map(|()| Vec::new()));
        }
    })?;
    Ok(Pieces::of(from))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|e| Error::admin("cannot start a thread").because(e))
}

/// Pieces from another thread, as a reader.
pub(crate) struct Pieces {
    from: Receiver<Result<Vec<u8>>>,
    piece: Vec<u8>,
    read: usize,
    ended: bool,
    failed: bool,
    hopeless: Option<Box<dyn Fn() -> Option<Error> + Send>>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Pieces {
    fn of(from: Receiver<Result<Vec<u8>>>) -> Self {
        Self { from, piece: Vec::new(), read: 0, ended: false, failed: false, hopeless: None }
    }
}

impl Pieces {
    /// The next piece. After the last one, and after an error, nothing comes any more.
    fn next(&mut self) -> Result<Vec<u8>> {
        let next = self.wait();
        self.failed = next.is_err();
        self.ended = next.as_ref().map_or(true, Vec::is_empty);
        next
    }

    fn wait(&self) -> Result<Vec<u8>> {
        loop {
            return match self.from.recv_timeout(Duration::from_secs(1)) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => {
                    match self.hopeless.as_ref().and_then(|ask| ask()) {
                        Some(error) => Err(error),
                        None => continue,
                    }
                }
                // An empty piece is the end; a silence without it is an accident.
                Err(RecvTimeoutError::Disconnected) => Err(Error::bug("a thread ended too early")),
            };
        }
    }

    fn drain(&mut self) -> Result<()> {
        while !self.ended {
            self.next()?;
        }
        Ok(())
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.read == self.piece.len() && !self.ended {
            self.piece = self.next().map_err(io::Error::other)?;
            self.read = 0;
        }
        Ok(&self.piece[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Reads until the buffer is full or the input ends.
pub(crate) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What came before the break is good.
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Decompresses, and checks what comes out.
fn decode(
    fetched: &mut Pieces,
    name: &str,
    diff_id: Option<&Digest>,
    to: &SyncSender<Result<Vec<u8>>>,
) -> Result<()> {
    let broken = |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::user("it cannot be decompressed").because(error),
    };
    let mut decoded = Decoded::of(fetched, name).map_err(broken)?;
    let mut hash = diff_id.map(|_| Sha256::new());
    loop {
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < piece.len() {
            match decoded.read(&mut piece[filled..]).map_err(broken)? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            break;
        }
        piece.truncate(filled);
        if let Some(hash) = &mut hash {
            hash.update(&piece);
        }
        if to.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
    if hash.map(|hash| Digest::from_bytes(&hash.finalize().into())).as_ref() != diff_id {
        return Err(Error::user(format!(
            "{name}: what is in it is not what the image's configuration says"
        ))
        .hint("the image is damaged: build it again"));
    }
    let _ = to.send(Ok(Vec::new()));
    Ok(())
}
