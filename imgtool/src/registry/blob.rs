//! Layers on their way: fetched, checked, decompressed, by two threads each.
//!
//! A few layers are under way at once, so that the network does not wait for the archive of
//! the one before to be read. What is in memory is bounded by the channels' lengths.

use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::BodyReader;
use ureq::http::StatusCode;

use udi::{Digest, Error, Result};

use super::manifest::{Layer, wrong};
use super::{Registry, TRIES, pause};

/// Bytes handed from thread to thread at once.
const PIECE: usize = 128 << 10;
/// Compressed pieces that may wait: 8 MiB a layer.
const FETCHED: usize = 64;
/// Uncompressed pieces that may wait: 4 MiB a layer.
const READY: usize = 32;
/// What no honest layer does: more than a thousand bytes for one, and many of them.
const BOMB_BYTES: u64 = 64 << 30;
const BOMB_RATIO: u64 = 1100;

/// The uncompressed archive of a layer. When it has been read to its end, its digests are
/// right; else the error that ended it is the last thing read.
#[derive(Debug)]
pub(crate) struct Stream(Pieces);

impl Stream {
    /// Starts fetching; `progress` is told of each compressed byte.
    pub(crate) fn open(
        registry: &Arc<Registry>,
        layer: &Layer,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<Self> {
        let (to_decode, fetched) = sync_channel(FETCHED);
        let (to_read, ready) = sync_channel(READY);
        let registry = Arc::clone(registry);
        let (fetching, decoding) = (layer.clone(), layer.clone());
        spawn("fetch", move || fetch(&registry, &fetching, progress, &to_decode))?;
        spawn("decode", move || {
            let mut fetched = Pieces::of(fetched);
            if let Err(error) = decode(&mut fetched, &decoding, &to_read) {
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|e| Error::admin("cannot start a thread").because(e))
}

/// Pieces from another thread, as a reader.
struct Pieces {
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

/// Fetches the blob; a connection that breaks is taken up where it broke.
fn fetch(
    registry: &Registry,
    layer: &Layer,
    progress: impl Fn(u64),
    to: &SyncSender<Result<Vec<u8>>>,
) {
    let mut hash = Sha256::new();
    let mut position = 0;
    let mut tries = 0;
    let error = loop {
        let before = position;
        let broke = match open(registry, layer, position) {
            Ok(mut body) => loop {
                let mut piece = vec![0; PIECE];
                match fill(&mut body, &mut piece) {
                    Ok(0) => break None,
                    Ok(n) => {
                        piece.truncate(n);
                        hash.update(&piece);
                        position += n as u64;
                        progress(n as u64);
                        if position > layer.size {
                            break Some(wrong(registry, layer.digest.as_str()));
                        }
                        if to.send(Ok(piece)).is_err() {
                            // Nobody reads any more.
                            return;
                        }
                    }
                    Err(error) => break Some(registry.endpoint().failure(&ureq::Error::Io(error))),
                }
            },
            Err(error) => break error,
        };
        if position == layer.size {
            if Digest::from_bytes(&hash.finalize().into()) == layer.digest {
                let _ = to.send(Ok(Vec::new()));
                return;
            }
            break wrong(registry, layer.digest.as_str());
        }
        if position > layer.size {
            break wrong(registry, layer.digest.as_str());
        }
        tries = if position > before { 1 } else { tries + 1 };
        if tries > TRIES {
            break broke.unwrap_or_else(|| wrong(registry, layer.digest.as_str()));
        }
        pause(tries, None);
    };
    let _ = to.send(Err(error));
}

/// The blob from `position` on.
fn open(registry: &Registry, layer: &Layer, position: u64) -> Result<BodyReader<'static>> {
    let path = format!("blobs/{}", layer.digest);
    let range = format!("bytes={position}-");
    let headers = [("range", range.as_str())];
    let response = registry.get(&path, if position == 0 { &[] } else { &headers })?;
    let whole = response.status() != StatusCode::PARTIAL_CONTENT;
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    if position > 0 && whole {
        // A registry that knows no ranges starts again.
        let skipped = io::copy(&mut (&mut body).take(position), &mut io::sink());
        skipped.map_err(|e| registry.endpoint().failure(&ureq::Error::Io(e)))?;
    }
    Ok(body)
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
fn decode(fetched: &mut Pieces, layer: &Layer, to: &SyncSender<Result<Vec<u8>>>) -> Result<()> {
    let broken = |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            Error::user(format!("layer {}: cannot be decompressed", layer.digest.short()))
                .because(error)
        }
    };
    let mut decoder = decoder(fetched).map_err(broken)?;
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    loop {
        let mut piece = vec![0; PIECE];
        let n = {
            let mut filled = 0;
            while filled < piece.len() {
                match decoder.read(&mut piece[filled..]).map_err(broken)? {
                    0 => break,
                    n => filled += n,
                }
            }
            filled
        };
        if n == 0 {
            break;
        }
        piece.truncate(n);
        hash.update(&piece);
        bytes += n as u64;
        if bytes > BOMB_BYTES && bytes / layer.size.max(1) > BOMB_RATIO {
            return Err(Error::user(format!(
                "layer {}: unpacks to a thousand times its size",
                layer.digest.short()
            ))
            .hint("such an image is made to do harm; if it is honest, make its files sparse"));
        }
        if to.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
    if Digest::from_bytes(&hash.finalize().into()) != layer.diff_id {
        return Err(Error::user(format!(
            "layer {}: what is in it is not what the image's configuration says",
            layer.digest.short()
        ))
        .hint("the image is damaged: build and push it again"));
    }
    let _ = to.send(Ok(Vec::new()));
    Ok(())
}

/// What a layer is compressed with its first bytes say; media types are often wrong.
fn decoder(from: &mut Pieces) -> io::Result<Box<dyn Read + '_>> {
    let start = from.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(from)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(from)?))
    } else {
        Ok(Box::new(BufReader::with_capacity(0, from)))
    }
}
