//! Linker flags that a plugin of Slurm's needs.
#![allow(clippy::print_stdout)] // how a build script talks to cargo

fn main() {
    // Slurm unloads and loads plugins again, and Rust's thread-locals do not survive that.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
