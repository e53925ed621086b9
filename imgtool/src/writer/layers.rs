//! Keeping layers, as the reader sends them: among the contents of files.
//!
//! What is kept is what its digest says, whoever sent it. What cannot be kept is no reason for
//! a pull to fail.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write;

use udi::{Config, Digest, Error, Result};
use udi_store::publish::{Keeper, Lease, Temp};

use super::nonsense;
use crate::wire::{Job, ToWriter};

/// More than are ever under way at once.
const MAX_OPEN: usize = 16;

/// Layers on their way into the store.
pub(super) struct Keeping<'a> {
    keeper: &'a Keeper<'a>,
    /// Bytes that all layers together may have.
    limit: u64,
    open: BTreeMap<u32, Option<Growing>>,
}

struct Growing {
    temp: Temp,
    digest: Digest,
    left: u64,
    hash: Sha256,
}

impl<'a> Keeping<'a> {
    /// Nothing of what only one user may have is kept.
    pub(super) fn new(keeper: &'a Keeper<'a>, config: &Config, job: &Job) -> Self {
        let limit = config.images.layer_cache.filter(|_| !job.private);
        Self { keeper, limit: limit.map_or(0, udi::Size::bytes), open: BTreeMap::new() }
    }

    /// Takes a message if it is about layers, and gives it back if not.
    pub(super) fn see(&mut self, message: ToWriter, lease: &Lease) -> Result<Option<ToWriter>> {
        match message {
            ToWriter::Layer { number, size, digest } => {
                if self.open.len() >= MAX_OPEN || self.open.contains_key(&number) {
                    return Err(nonsense("many layers at once"));
                }
                let growing = (size <= self.limit)
                    .then(|| self.keeper.layer(lease, number, size, self.limit).ok())
                    .flatten()
                    .map(|temp| Growing { temp, digest, left: size, hash: Sha256::new() });
                self.open.insert(number, growing);
            }
            ToWriter::LayerData { number, bytes } => {
                let growing = self.open.get_mut(&number).ok_or_else(unknown)?;
                *growing = growing.take().and_then(|growing| growing.add(&bytes));
            }
            ToWriter::LayerEnd(number) => {
                if let Some(growing) = self.open.remove(&number).ok_or_else(unknown)? {
                    growing.end(self.keeper);
                }
            }
            ToWriter::LayerUsed(digest) => self.keeper.used_layer(&digest),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }
}

impl Growing {
    /// Nothing if the layer grows beyond its size, or the disk is full.
    fn add(mut self, bytes: &[u8]) -> Option<Self> {
        self.left = self.left.checked_sub(bytes.len() as u64)?;
        self.hash.update(bytes);
        self.temp.file.write_all(bytes).ok()?;
        Some(self)
    }

    fn end(self, keeper: &Keeper<'_>) {
        if Digest::from_bytes(&self.hash.finalize().into()) == self.digest {
            let _ = keeper.keep_layer(self.temp, &self.digest);
        }
    }
}

fn unknown() -> Error {
    nonsense("no such layer")
}
