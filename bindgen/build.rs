//! Makes the raw bindings from the Slurm headers of the machine that builds.
//!
//! `job_desc_msg_t` has another layout in every release, so a checked-in file would be right
//! for one release and silently wrong for the rest.
#![allow(clippy::print_stdout)] // how a build script talks to cargo

use std::{env, error::Error, path::PathBuf};

/// Everything the crate calls or looks into, and nothing else.
const FUNCTIONS: &str = "spank_(context|get_item|getenv|\
     setenv|unsetenv|strerror|option_register|option_getopt|job_control_(get|set|unset)env)";
const TYPES: &str = "spank_.*|job_desc_msg_t";
const CONSTANTS: &str = "SLURM_VERSION_NUMBER|SLURM_ERROR|SLURM_(BATCH_SCRIPT|EXTERN_CONT|INTERACTIVE_STEP)|\
     S_(JOB|TASK|STEP|SLURM|CTX)_.*|E(SPANK|SLURM)_.*|NO_VAL";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SLURM_INCLUDE");
    println!("cargo:rerun-if-changed=wrapper.h");
    // For the examples that are plugins; a plugin's own crate has such a line in its build.rs
    // (rustc-cdylib-link-arg). Cargo knows no way to say "cdylib examples only".
    println!("cargo:rustc-link-arg=-Wl,-z,nodelete");
    let include = env::var("SLURM_INCLUDE").unwrap_or_else(|_| "/usr/include".into());
    let header = PathBuf::from(&include).join("slurm/spank.h");
    println!("cargo:rerun-if-changed={}", header.display());
    if !header.exists() {
        return Err(format!(
            "{} is missing: install libslurm-dev (slurm-devel elsewhere), or set SLURM_INCLUDE to \
             the directory that holds slurm/spank.h",
            header.display()
        )
        .into());
    }

    // C enums become plain constants: a value of a later release must not be undefined
    // behaviour here.
    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_arg(format!("-I{include}"))
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(CONSTANTS)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .derive_copy(false)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate()?;
    bindings.write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("slurm.rs"))?;
    Ok(())
}
