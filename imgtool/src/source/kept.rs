//! Layers that the site keeps for other images which are built on them.
//!
//! Only what a registry gives to everybody is kept, and whoever is to have it must be given it by
//! the registry too. The writer keeps; here is the reader, whom it does not believe.

use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use udi::{Digest, Error, Result};
use udi_store::Layers;

use super::manifest::Layer;
use super::origin::Source;
use super::stream::{PIECE, fill};

/// Tells the writer of layers: what it shall keep, and what was of use.
pub(crate) trait Keep: Send + Sync {
    /// A layer begins; gives its number.
    fn begin(&self, layer: &Layer) -> Result<u32>;
    /// It goes on.
    fn bytes(&self, number: u32, bytes: &[u8]) -> Result<()>;
    /// It is complete.
    fn end(&self, number: u32) -> Result<()>;
    /// A layer that was kept was of use.
    fn used(&self, digest: &Digest) -> Result<()>;
}

/// A source some of whose layers were kept, or will be.
pub(crate) struct Kept<K> {
    pub(crate) source: Arc<dyn Source>,
    /// What was kept; nothing if this is the first pull of all.
    pub(crate) layers: Option<Arc<Layers>>,
    pub(crate) keep: K,
}

/// Compressed pieces between the source and whoever wants them.
const WAITING: usize = 4;

impl<K: Keep + 'static> Source for Kept<K> {
    fn manifest(&self, reference: &str) -> Result<Vec<u8>> {
        self.source.manifest(reference)
    }

    fn configuration(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.source.configuration(digest)
    }

    fn fetch(&self, layer: &Layer, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>) {
        if !self.source.gives_everybody(layer) {
            return self.source.fetch(layer, progress, to);
        }
        let kept = self.layers.as_ref().and_then(|l| l.open(&layer.digest, layer.size));
        if let Some(file) = kept.filter(|file| is_whole(file, &layer.digest)) {
            let _ = self.keep.used(&layer.digest);
            return read(file, progress, to);
        }
        self.fetch_and_keep(layer, progress, to);
    }

    fn wrong(&self, digest: &str) -> Error {
        self.source.wrong(digest)
    }

    fn repair(&self) -> &'static str {
        self.source.repair()
    }
}

impl<K: Keep> Kept<K> {
    fn fetch_and_keep(
        &self,
        layer: &Layer,
        progress: &dyn Fn(u64),
        to: &SyncSender<Result<Vec<u8>>>,
    ) {
        // A writer that is gone is told elsewhere; what matters here is the layer.
        let number = self.keep.begin(layer).ok();
        let (ours, from) = sync_channel::<Result<Vec<u8>>>(WAITING);
        std::thread::scope(|scope| {
            let (keep, forward) = (&self.keep, to.clone());
            scope.spawn(move || {
                for piece in from {
                    if let (Some(number), Ok(piece)) = (number, &piece) {
                        let _ = match piece.is_empty() {
                            // The last one is told first: who reads it may end the pull.
                            true => keep.end(number),
                            false => keep.bytes(number, piece),
                        };
                    }
                    if forward.send(piece).is_err() {
                        return;
                    }
                }
            });
            self.source.fetch(layer, progress, &ours);
            drop(ours);
        });
    }
}

/// Whether the file is what its name says: a broken one is fetched anew, and replaced.
fn is_whole(mut file: &File, digest: &Digest) -> bool {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match fill(&mut file, &mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(_) => return false,
        }
    }
    Digest::from_bytes(&hash.finalize().into()) == *digest
        && std::io::Seek::rewind(&mut file).is_ok()
}

fn read(mut file: File, progress: &dyn Fn(u64), to: &SyncSender<Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let n = match fill(&mut file, &mut piece) {
            Ok(n) => n,
            Err(error) => {
                let error = Error::admin("cannot read a layer that was kept").because(error);
                return drop(to.send(Err(error)));
            }
        };
        piece.truncate(n);
        progress(n as u64);
        if to.send(Ok(piece)).is_err() || n == 0 {
            return;
        }
    }
}
