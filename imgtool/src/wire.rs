//! What the reader tells the writer, and back: frames of a tag, a length and that many bytes.
//!
//! The writer trusts no frame: lengths are checked here, what they say is checked where it
//! is used.

mod frame;

use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

use squashfs::{Device, Meta, Special};
use udi::{Digest, ImageInfo};
use udi_store::Unreadable;

use frame::{Fields, broken, fixed, frame, json, unframe};

/// Contents are sent in pieces of at most this size.
pub(crate) const PIECE: usize = 256 << 10;

/// What is to be done, before any content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The name, in full.
    pub(crate) image: String,
    pub(crate) platform: String,
    /// Nothing if it can only be known when all has been read: `Described` has it then.
    pub(crate) digest: Option<Digest>,
    /// Only for the user who asked.
    pub(crate) private: bool,
    /// The registry that was asked, or what kind of file was read.
    pub(crate) from: String,
    /// Whether files that users cannot read shall be made readable.
    pub(crate) readable: bool,
}

/// The last that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) info: ImageInfo,
    /// What users cannot read in the tree that was sent.
    pub(crate) unreadable: Unreadable,
}

/// From the reader to the writer. The contents of files come first, numbered from 0 by
/// `Begin`; then the tree, depth first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToWriter {
    Job(Job),
    Begin,
    Data(Vec<u8>),
    Hole(u64),
    End,
    Tree,
    Enter {
        name: Vec<u8>,
        meta: Meta,
    },
    File {
        name: Vec<u8>,
        meta: Meta,
        contents: u32,
        links: u32,
    },
    Symlink {
        name: Vec<u8>,
        meta: Meta,
        target: Vec<u8>,
        links: u32,
    },
    Special {
        name: Vec<u8>,
        meta: Meta,
        special: Special,
        links: u32,
    },
    /// A set of extended attributes, numbered from 1, before whatever has it.
    Xattrs(Vec<u8>),
    /// One more name of the `nth` inode that was announced with several.
    Link {
        name: Vec<u8>,
        nth: u32,
    },
    Leave,
    Finish(Box<Described>),
    /// A layer to be kept, of this many bytes; among contents, whenever it comes.
    Layer {
        number: u32,
        size: u64,
        digest: Digest,
    },
    LayerData {
        number: u32,
        bytes: Vec<u8>,
    },
    LayerEnd(u32),
    /// A layer that was kept was of use.
    LayerUsed(Digest),
}

/// From the writer to the reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToReader {
    /// The image was in the store and has the name now.
    Have {
        size: u64,
        /// Whether its files were made readable.
        readable: bool,
        unreadable: Unreadable,
    },
    /// Somebody else is pulling it.
    Wait {
        login: String,
        host: String,
    },
    /// Send it.
    Go,
    /// It is published.
    Done {
        file: Digest,
        size: u64,
    },
    Failed {
        blame: String,
        what: String,
        hint: Option<String>,
    },
}

impl ToWriter {
    pub(crate) fn send(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Job(job) => frame(to, 1, &[&json(job)?]),
            Self::Begin => frame(to, 2, &[]),
            Self::Data(bytes) => frame(to, 3, &[bytes]),
            Self::Hole(length) => frame(to, 4, &[&length.to_le_bytes()]),
            Self::End => frame(to, 5, &[]),
            Self::Tree => frame(to, 6, &[]),
            Self::Enter { name, meta } => frame(to, 7, &[&fixed(meta, &[]), name]),
            Self::File { name, meta, contents, links } => {
                frame(to, 8, &[&fixed(meta, &[*contents, *links]), name])
            }
            Self::Symlink { name, meta, target, links } => {
                let length = u32::try_from(target.len()).map_err(|_| broken())?;
                frame(to, 9, &[&fixed(meta, &[*links, length]), target, name])
            }
            Self::Special { name, meta, special, links } => {
                let (kind, device) = match special {
                    Special::Fifo => (0, 0),
                    Special::Socket => (1, 0),
                    Special::Character(device) => (2, device.0),
                    Special::Block(device) => (3, device.0),
                };
                frame(to, 10, &[&fixed(meta, &[*links, kind, device]), name])
            }
            Self::Link { name, nth } => frame(to, 11, &[&nth.to_le_bytes(), name]),
            Self::Leave => frame(to, 12, &[]),
            Self::Finish(described) => frame(to, 13, &[&json(described)?]),
            Self::Layer { number, size, digest } => {
                let (number, size) = (number.to_le_bytes(), size.to_le_bytes());
                frame(to, 14, &[&number, &size, digest.as_str().as_bytes()])
            }
            Self::LayerData { number, bytes } => Self::send_layer_data(to, *number, bytes),
            Self::LayerEnd(number) => frame(to, 16, &[&number.to_le_bytes()]),
            Self::LayerUsed(digest) => frame(to, 17, &[digest.as_str().as_bytes()]),
            Self::Xattrs(set) => frame(to, 18, &[set]),
        }
    }

    /// The next frame; `UnexpectedEof` if the reader is gone.
    pub(crate) fn receive(from: &mut impl Read) -> io::Result<Self> {
        let (tag, bytes) = unframe(from)?;
        let mut fields = Fields(&bytes);
        let message = match tag {
            1 => return serde_json::from_slice(&bytes).map(Self::Job).map_err(io::Error::from),
            2 => Self::Begin,
            3 => return Ok(Self::Data(bytes)),
            4 => Self::Hole(u64::from_le_bytes(fields.take()?)),
            5 => Self::End,
            6 => Self::Tree,
            7 => Self::Enter { meta: fields.meta()?, name: fields.rest() },
            8 => Self::File {
                meta: fields.meta()?,
                contents: fields.u32()?,
                links: fields.u32()?,
                name: fields.rest(),
            },
            9 => {
                let (meta, links, length) = (fields.meta()?, fields.u32()?, fields.u32()?);
                let target = fields.bytes(length as usize)?;
                Self::Symlink { meta, links, target, name: fields.rest() }
            }
            10 => {
                let (meta, links) = (fields.meta()?, fields.u32()?);
                let special = match (fields.u32()?, Device(fields.u32()?)) {
                    (0, _) => Special::Fifo,
                    (1, _) => Special::Socket,
                    (2, device) => Special::Character(device),
                    (3, device) => Special::Block(device),
                    _ => return Err(broken()),
                };
                Self::Special { meta, special, links, name: fields.rest() }
            }
            11 => Self::Link { nth: fields.u32()?, name: fields.rest() },
            12 => Self::Leave,
            13 => {
                let described = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
                return Ok(Self::Finish(Box::new(described)));
            }
            14 => Self::Layer {
                number: fields.u32()?,
                size: u64::from_le_bytes(fields.take()?),
                digest: fields.digest()?,
            },
            15 => Self::LayerData { number: fields.u32()?, bytes: fields.rest() },
            16 => Self::LayerEnd(fields.u32()?),
            17 => Self::LayerUsed(fields.digest()?),
            18 => return Ok(Self::Xattrs(bytes)),
            _ => return Err(broken()),
        };
        if fields.is_empty() { Ok(message) } else { Err(broken()) }
    }

    /// Sends contents without copying them first.
    pub(crate) fn send_data(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| frame(to, 3, &[piece]))
    }

    /// The same for a layer that is to be kept.
    pub(crate) fn send_layer_data(
        to: &mut impl Write,
        number: u32,
        bytes: &[u8],
    ) -> io::Result<()> {
        frame(to, 15, &[&number.to_le_bytes(), bytes])
    }
}

impl ToReader {
    pub(crate) fn send(&self, to: &mut impl Write) -> io::Result<()> {
        frame(to, 1, &[&json(self)?])
    }

    pub(crate) fn receive(from: &mut impl Read) -> io::Result<Self> {
        let (_, bytes) = unframe(from)?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta() -> impl Strategy<Value = Meta> {
        any::<(u16, u32, u32, u32, u32)>().prop_map(|(mode, uid, gid, mtime, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }

    fn message() -> impl Strategy<Value = ToWriter> {
        let name = || any::<Vec<u8>>();
        prop_oneof![
            Just(ToWriter::Begin),
            any::<Vec<u8>>().prop_map(ToWriter::Data),
            any::<u64>().prop_map(ToWriter::Hole),
            any::<Vec<u8>>().prop_map(ToWriter::Xattrs),
            Just(ToWriter::Leave),
            (name(), meta()).prop_map(|(name, meta)| ToWriter::Enter { name, meta }),
            (name(), meta(), any::<(u32, u32)>()).prop_map(|(name, meta, (contents, links))| {
                ToWriter::File { name, meta, contents, links }
            }),
            (name(), meta(), name(), any::<u32>()).prop_map(|(name, meta, target, links)| {
                ToWriter::Symlink { name, meta, target, links }
            }),
            (
                name(),
                meta(),
                any::<u32>(),
                prop_oneof![
                    Just(Special::Fifo),
                    Just(Special::Socket),
                    any::<u32>().prop_map(|n| Special::Character(Device(n))),
                    any::<u32>().prop_map(|n| Special::Block(Device(n))),
                ]
            )
                .prop_map(|(name, meta, links, special)| ToWriter::Special {
                    name,
                    meta,
                    special,
                    links
                }),
            (name(), any::<u32>()).prop_map(|(name, nth)| ToWriter::Link { name, nth }),
            any::<(u32, u64, [u8; 32])>().prop_map(|(number, size, digest)| ToWriter::Layer {
                number,
                size,
                digest: Digest::from_bytes(&digest)
            }),
            (any::<u32>(), name())
                .prop_map(|(number, bytes)| ToWriter::LayerData { number, bytes }),
            any::<u32>().prop_map(ToWriter::LayerEnd),
            any::<[u8; 32]>().prop_map(|digest| ToWriter::LayerUsed(Digest::from_bytes(&digest))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(messages in prop::collection::vec(message(), 0..8)) {
            let mut bytes = Vec::new();
            for message in &messages {
                message.send(&mut bytes).unwrap();
            }
            let mut from = &bytes[..];
            for message in messages {
                prop_assert_eq!(ToWriter::receive(&mut from).unwrap(), message);
            }
            prop_assert!(ToWriter::receive(&mut from).is_err());
        }

        #[test]
        fn no_bytes_are_a_crash(bytes: Vec<u8>) {
            let mut from = &bytes[..];
            while ToWriter::receive(&mut from).is_ok() {}
            let _ = ToReader::receive(&mut &bytes[..]);
        }
    }

    #[test]
    fn a_frame_that_promises_gigabytes_is_refused_before_any_memory_is_taken() {
        let bytes = [3, 0xff, 0xff, 0xff, 0xff];
        let error = ToWriter::receive(&mut &bytes[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
