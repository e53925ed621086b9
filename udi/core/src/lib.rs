//! What a UDI (user-defined image) is, as pure data: no I/O, no syscall, no unsafe.
//!
//! The stages of a job's request are types, and each is made by one function only:
//! options → [`Request`] → [`Plan`] (executed by `udi-mount`). Holding one is the proof
//! that the stage before it was passed.
#![forbid(unsafe_code)]

mod config;
mod digest;
mod env;
mod error;
mod host_path;
mod image;
mod info;
mod module;
mod path;
mod plan;
mod request;
mod size;
mod texts;
mod user;
mod volume;

pub use config::{
    Batch, BlockSize, CacheConfig, Compression, CompressionLevel, Config, EnvConfig, EtcConfig,
    Extra, Home, Hook, HooksConfig, ImageFormat, ImageType, ImagesConfig, InsideConfig,
    LimitsConfig, Modes, NodeConfig, Owners, RegistryRule, Scratch, SiteMount, StoreConfig,
    VolumesConfig, Workdir,
};
pub use digest::Digest;
pub use env::{Edit, edits};
pub use error::{Blame, Error, Result};
pub use host_path::HostPath;
pub use image::{DockerRef, ImageRef, Names, UserRef};
pub use info::ImageInfo;
pub use module::{Module, select as select_modules};
pub use path::GuestPath;
pub use plan::{Base, CachePlan, Facts, Flags, Mount, Origin, Plan, Rights, SiteFile, Source};
pub use request::{Ask, Request};
pub use size::Size;
pub use texts::{Texts, Word};
pub use user::{Account, User};
pub use volume::{CacheFs, Volume, What};
