//! A layer's way from the registry.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::sync::mpsc::SyncSender;

use ureq::http::header::CONTENT_RANGE;
use ureq::http::{Response, StatusCode};
use ureq::{Body, BodyReader};

use udi::{Digest, Error, Result};

use super::Registry;
use super::patience::Asked;
use crate::source::Source;
use crate::source::manifest::Layer;
use crate::source::stream::{PIECE, fill};

/// A connection that brought less before it broke brought nothing.
const HEADWAY: u64 = 1 << 20;

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
    let mut ranges = true;
    let error = loop {
        let before = position;
        let broke = match open(registry, layer, position, &mut ranges) {
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
        tries = if position - before >= HEADWAY { 1 } else { tries + 1 };
        let broke = broke.unwrap_or_else(|| ended(registry, layer, position));
        if !registry.is_patient(tries, &broke, Asked::default()) {
            break broke;
        }
    };
    let _ = to.send(Err(error));
}

/// The blob from `position` on. `ranges` is whether it is worth asking for that only.
fn open(
    registry: &Registry,
    layer: &Layer,
    position: u64,
    ranges: &mut bool,
) -> Result<BodyReader<'static>> {
    let path = format!("blobs/{}", layer.digest);
    let range = format!("bytes={position}-");
    let range = [("range", range.as_str())];
    let headers: &[(&str, &str)] = if position > 0 && *ranges { &range } else { &[] };
    let mut response = registry.answer(&path, headers)?;
    if response.status() == StatusCode::NOT_FOUND && !layer.urls.is_empty() {
        response = elsewhere(registry, layer, headers)?;
    }
    if !response.status().is_success() {
        return Err(registry.refusal(&path, response));
    }
    let partial = response.status() == StatusCode::PARTIAL_CONTENT;
    if partial && begins(&response).is_some_and(|begin| begin != position) {
        *ranges = false;
        return open(registry, layer, position, ranges);
    }
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    if position > 0 && !partial {
        // A registry that knows no ranges starts again.
        let skipped = io::copy(&mut (&mut body).take(position), &mut io::sink());
        skipped.map_err(|e| registry.endpoint().failure(&ureq::Error::Io(e)))?;
    }
    Ok(body)
}

/// A layer that its maker lets nobody else pass on, from where the image says it is. Nobody is
/// told there who asks, and its digest is checked like any other's.
fn elsewhere(
    registry: &Registry,
    layer: &Layer,
    headers: &[(&str, &str)],
) -> Result<Response<Body>> {
    let mut why = None;
    for url in &layer.urls {
        let error = match registry.fetch_elsewhere(url, headers) {
            Ok(response) if response.status().is_success() => return Ok(response),
            Ok(response) => response.status().to_string(),
            Err(error) => error.what(),
        };
        why.get_or_insert(format!("{url}: {error}"));
    }
    Err(Error::user(format!(
        "the layer {} is not in the registry {} but elsewhere, where it cannot be had: {}",
        layer.digest.short(),
        registry.endpoint().host,
        why.unwrap_or_default()
    ))
    .hint("ask whoever made the image for one with all its layers (docker push with allow-nondistributable-artifacts)"))
}

/// Where a part begins, if it says so: `bytes 100-199/200`.
fn begins(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// It ended too early, as if that were all.
fn ended(registry: &Registry, layer: &Layer, position: u64) -> Error {
    let host = &registry.endpoint().host;
    let (digest, size) = (&layer.digest, layer.size);
    Error::user(format!("the registry {host} ended {digest} after {position} of {size} bytes"))
        .hint("try again; if it stays, the image is damaged: push it again")
}
