//! What a UDI (user-defined image) is, as pure data: no I/O, no syscall, no unsafe.
//!
//! The stages of a job's request are types, and each is made by one function only:
//! options → [`Request`] → [`Plan`] (executed by `udi-mount`). Holding one is the proof
//! that the stage before it was passed.
#![forbid(unsafe_code)]

pub mod cdi;
mod config;
mod digest;
mod elf;
mod env;
mod error;
mod host_path;
mod image;
mod info;
mod ldcache;
mod libc_abi;
mod libraries;
mod module;
mod path;
mod plan;
mod request;
mod size;
mod suits;
mod texts;
mod user;
mod volume;

pub use config::{
    Batch, BlockSize, CacheConfig, Compression, CompressionLevel, Config, EnvConfig, EtcConfig,
    Extra, Home, Hook, HooksConfig, ImageFormat, ImageType, ImagesConfig, InsideConfig, Libc,
    LimitsConfig, Modes, ModuleHooks, NodeConfig, Owners, Permissions, RegistryRule, Scratch,
    SiteCopy, SiteMount, StoreConfig, VolumesConfig, Workdir,
};
pub use digest::Digest;
pub use elf::{Elf, Need, ReadAt, Symbols};
pub use env::{Edit, Environment, Variables};
pub use error::{Blame, Error, Result};
pub use host_path::HostPath;
pub use image::{DockerRef, ImageRef, Names, UserRef};
pub use info::ImageInfo;
pub use ldcache::{Entry as LdcacheEntry, LoaderCache, Malformed};
pub use libc_abi::{GLIBC, Machine, Platform, Version, is_glibc};
pub use libraries::{Ldcache, Library, Replacement};
pub use module::{Definition, Module, after_none, select as select_modules};
pub use path::GuestPath;
pub use plan::{
    Base, CachePlan, Facts, Flags, HostDevice, Mount, Origin, Plan, Rights, SiteFile, Source,
};
pub use request::{Ask, Request, Start};
pub use size::Size;
pub use suits::{LOADERS, Loader, Needs, architecture};
pub use texts::{Texts, Word};
pub use user::{Account, User};
pub use volume::{CacheFs, Volume, What};
