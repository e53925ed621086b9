//! Slurm unloads plugins and loads them again; Rust's thread-locals do not survive that.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
