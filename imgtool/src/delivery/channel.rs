//! The way from the reader to the writer.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use udi::{Digest, Error, Result};

use super::Stored;
use crate::layer::archive::{Contents, Piece};
use crate::progress::Progress;
use crate::source::Keep;
use crate::source::manifest::Layer;
use crate::wire::{Job, ToReader, ToWriter};
use crate::writer;

/// The way to the writer.
#[derive(Debug)]
pub(crate) struct Writer {
    to: To,
    from: UnixStream,
    /// Contents sent so far.
    sent: u32,
    /// The number of the contents of all empty files.
    empty: Option<u32>,
}

/// Frames are sent by several threads when layers are kept.
type To = Arc<Mutex<BufWriter<UnixStream>>>;

/// Sends layers that are to be kept, from the threads that fetch them.
#[derive(Debug)]
pub(crate) struct Keeping {
    to: To,
    number: AtomicU32,
}

impl Keep for Keeping {
    fn begin(&self, layer: &Layer) -> Result<u32> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (size, digest) = (layer.size, layer.digest.clone());
        self.give(|to| ToWriter::Layer { number, size, digest }.send(to))?;
        Ok(number)
    }

    fn bytes(&self, number: u32, bytes: &[u8]) -> Result<()> {
        self.give(|to| ToWriter::send_layer_data(to, number, bytes))
    }

    fn end(&self, number: u32) -> Result<()> {
        self.give(|to| ToWriter::LayerEnd(number).send(to))
    }

    fn used(&self, digest: &Digest) -> Result<()> {
        self.give(|to| ToWriter::LayerUsed(digest.clone()).send(to))
    }
}

impl Keeping {
    fn give(
        &self,
        send: impl FnOnce(&mut BufWriter<UnixStream>) -> std::io::Result<()>,
    ) -> Result<()> {
        give(&self.to, send).map_err(|e| Error::bug("the writer is gone").because(e))
    }
}

fn give(
    to: &To,
    send: impl FnOnce(&mut BufWriter<UnixStream>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut to = to.lock().map_err(|_| std::io::Error::other("a thread died while it sent"))?;
    send(&mut to)
}

impl Writer {
    pub(super) fn new(channel: UnixStream) -> Result<Self> {
        let from =
            channel.try_clone().map_err(|e| Error::bug("cannot talk to the writer").because(e))?;
        let to = Arc::new(Mutex::new(BufWriter::with_capacity(512 << 10, channel)));
        Ok(Self { to, from, sent: 0, empty: None })
    }

    /// For layers that are to be kept.
    pub(crate) fn keeping(&self) -> Keeping {
        Keeping { to: Arc::clone(&self.to), number: AtomicU32::new(0) }
    }

    pub(super) fn send(&mut self, message: &ToWriter) -> Result<()> {
        give(&self.to, |to| message.send(to)).map_err(|e| self.lost(e))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        give(&self.to, |to| ToWriter::send_data(to, bytes)).map_err(|e| self.lost(e))
    }

    /// Tells whether the writer has ended, for whoever waits for the network meanwhile.
    pub(crate) fn watch(&self) -> Result<impl Fn() -> Option<Error> + Send + 'static> {
        let channel =
            self.from.try_clone().map_err(|e| Error::bug("cannot watch the writer").because(e))?;
        Ok(move || {
            let mut polled = [PollFd::new(&channel, PollFlags::empty())];
            let hung_up = poll(&mut polled, Some(&Timespec::default())).is_ok()
                && polled[0].revents().contains(PollFlags::HUP);
            hung_up.then(|| Error::bug("the writer is gone"))
        })
    }

    /// A writer that stops listening has said why.
    fn lost(&mut self, error: std::io::Error) -> Error {
        match ToReader::receive(&mut self.from) {
            Ok(ToReader::Failed { blame, what, hint }) => writer::failure(&blame, what, hint),
            _ => Error::bug("the writer is gone").because(error),
        }
    }

    /// Why the writer gave up, if it said so while we were busy.
    pub(super) fn last_words(&mut self) -> Option<Error> {
        let mut polled = [PollFd::new(&self.from, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).ok()?;
        if !polled[0].revents().contains(PollFlags::IN) {
            return None;
        }
        match ToReader::receive(&mut self.from) {
            Ok(ToReader::Failed { blame, what, hint }) => Some(writer::failure(&blame, what, hint)),
            _ => None,
        }
    }

    fn answer(&mut self) -> Result<ToReader> {
        give(&self.to, Write::flush).map_err(|e| self.lost(e))?;
        match ToReader::receive(&mut self.from) {
            Ok(ToReader::Failed { blame, what, hint }) => Err(writer::failure(&blame, what, hint)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Error::bug("the writer is gone").because(error)),
        }
    }

    /// Announces the image; gives what the store says of it if it is there.
    pub(super) fn open(&mut self, job: Job, progress: &Progress) -> Result<Option<Stored>> {
        self.send(&ToWriter::Job(job))?;
        loop {
            match self.answer()? {
                ToReader::Go => return Ok(None),
                ToReader::Have { size, readable, unreadable } => {
                    let digest = None;
                    return Ok(Some(Stored { digest, size, new: false, readable, unreadable }));
                }
                ToReader::Wait { login, host } => waits(progress, &login, &host),
                _ => return Err(Error::bug("the writer gave an odd answer")),
            }
        }
    }

    /// Sends a file's contents; gives their number.
    pub(crate) fn contents(&mut self, contents: &mut Contents<'_>) -> Result<u32> {
        self.contents_seen(contents, |_| {})
    }

    /// The same; `see` is shown each piece.
    pub(crate) fn contents_seen(
        &mut self,
        contents: &mut Contents<'_>,
        mut see: impl FnMut(&Piece<'_>),
    ) -> Result<u32> {
        if contents.size() == 0
            && let Some(empty) = self.empty
        {
            return Ok(empty);
        }
        self.send(&ToWriter::Begin)?;
        contents.each(|piece| {
            see(&piece);
            match piece {
                Piece::Bytes(bytes) => self.bytes(bytes),
                Piece::Zeros(length) => self.send(&ToWriter::Hole(length)),
            }
        })?;
        let number = self.end()?;
        if contents.size() == 0 {
            self.empty = Some(number);
        }
        Ok(number)
    }

    pub(super) fn end(&mut self) -> Result<u32> {
        self.send(&ToWriter::End)?;
        let number = self.sent;
        self.sent =
            number.checked_add(1).ok_or_else(|| Error::user("the image has too many files"))?;
        Ok(number)
    }

    /// Waits for the end; gives `sent` as it stands in the store.
    pub(super) fn done(&mut self, sent: Stored, progress: &Progress) -> Result<Stored> {
        loop {
            match self.answer()? {
                ToReader::Done { size, .. } => return Ok(Stored { size, ..sent }),
                // What an image without a digest of its own is, was known only now.
                ToReader::Have { size, readable, unreadable } => {
                    return Ok(Stored { size, new: false, readable, unreadable, ..sent });
                }
                ToReader::Wait { login, host } => waits(progress, &login, &host),
                _ => return Err(Error::bug("the writer gave an odd answer")),
            }
        }
    }
}

fn waits(progress: &Progress, login: &str, host: &str) {
    progress.say(&format!("{login} on {host} is pulling the same image; waiting"));
}
