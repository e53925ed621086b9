//! A layer's way from the registry.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::sync::mpsc::SyncSender;

use ureq::BodyReader;
use ureq::http::StatusCode;

use udi::{Digest, Result};

use super::{Registry, TRIES, pause};
use crate::source::Source;
use crate::source::manifest::Layer;
use crate::source::stream::{PIECE, fill};

/// Fetches the blob; a connection that breaks is taken up where it broke.
pub(super) fn fetch(
    registry: &Registry,
    layer: &Layer,
    progress: &dyn Fn(u64),
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
                            break Some(registry.wrong(layer.digest.as_str()));
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
            break registry.wrong(layer.digest.as_str());
        }
        if position > layer.size {
            break registry.wrong(layer.digest.as_str());
        }
        tries = if position > before { 1 } else { tries + 1 };
        if tries > TRIES {
            break broke.unwrap_or_else(|| registry.wrong(layer.digest.as_str()));
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
