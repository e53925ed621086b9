//! An image of the store as an OCI archive: a layout in a tar archive, with one layer.

use serde_json::{Map, Value, json};
use std::io::{self, BufWriter, Write};
use tar::Header;
use udi::{Digest, Error, ImageInfo, Result};

use super::{Opened, Out, cannot, layer};
use crate::progress::Progress;
use crate::source::manifest::sha256;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
// Not compressed: so its bytes do not depend on anybody's compressor, and writing it is fast.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const BLOCK: u64 = 512;

/// Writes the archive; gives the digest of its image.
pub(super) fn write(
    image: &Opened,
    tag: Option<&str>,
    out: &mut dyn Out,
    progress: &Progress,
) -> Result<Digest> {
    // A member's name and length stand before it, and the layer's name is its digest: in a file
    // there is a way back, before a pipe the layer is made once for its digest alone.
    let can_rewind = out.rewind().map_err(cannot)?;
    let (digest, length) = if can_rewind {
        out.write_all(&[0; BLOCK as usize]).map_err(cannot)?;
        body(image, out)?
    } else {
        progress.say("the layer is read twice, since its digest comes before it");
        let known = layer::write(&image.file, io::sink())?;
        out.write_all(member(&blob(&known.0), known.1)?.as_bytes()).map_err(cannot)?;
        let again = body(image, out)?;
        if again != known {
            return Err(Error::bug("a layer that was made twice is two layers"));
        }
        known
    };
    let padding = (BLOCK - length % BLOCK) % BLOCK;
    out.write_all(&vec![0; padding as usize]).map_err(cannot)?;
    let config = configuration(&image.info, &digest);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIGURATION, "digest": sha256(&config), "size": config.len() },
        "layers": [{ "mediaType": LAYER, "digest": digest, "size": length }],
    })
    .to_string()
    .into_bytes();
    let mut described = json!({
        "mediaType": MANIFEST, "digest": sha256(&manifest), "size": manifest.len(),
        "platform": platform(&image.info.platform),
    });
    if let Some(tag) = tag {
        described["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    }
    let index = json!({ "schemaVersion": 2, "manifests": [described] }).to_string().into_bytes();
    let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes();
    let mut rest = tar::Builder::new(&mut *out);
    for (name, bytes) in [
        (blob(&sha256(&config)), &config),
        (blob(&sha256(&manifest)), &manifest),
        ("index.json".to_owned(), &index),
        ("oci-layout".to_owned(), &layout),
    ] {
        rest.append(&member(&name, bytes.len() as u64)?, &bytes[..]).map_err(cannot)?;
    }
    rest.finish().map_err(cannot)?;
    drop(rest);
    out.flush().map_err(cannot)?;
    if can_rewind {
        out.rewind().map_err(cannot)?;
        out.write_all(member(&blob(&digest), length)?.as_bytes()).map_err(cannot)?;
    }
    Ok(sha256(&manifest))
}

fn body(image: &Opened, out: &mut dyn Out) -> Result<(Digest, u64)> {
    let mut buffered = BufWriter::with_capacity(1 << 20, out);
    let written = layer::write(&image.file, &mut buffered)?;
    buffered.flush().map_err(cannot)?;
    Ok(written)
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn member(name: &str, length: u64) -> Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name).map_err(|e| Error::bug("a name that is no name").because(e))?;
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// `OS/ARCHITECTURE[/VARIANT]` as OCI has it.
fn platform(text: &str) -> Value {
    let mut parts = text.splitn(3, '/');
    let mut found = Map::new();
    for key in ["os", "architecture", "variant"] {
        if let Some(part) = parts.next().filter(|part| !part.is_empty()) {
            found.insert(key.to_owned(), part.into());
        }
    }
    Value::Object(found)
}

/// What the image says of itself; what it does not say is left out.
fn configuration(info: &ImageInfo, layer: &Digest) -> Vec<u8> {
    let mut process = Map::new();
    let mut say = |key: &str, value: Value, is_said: bool| {
        if is_said {
            process.insert(key.to_owned(), value);
        }
    };
    say("User", json!(info.user), !info.user.is_empty());
    say("Env", json!(info.env), !info.env.is_empty());
    say("Entrypoint", json!(info.entrypoint), !info.entrypoint.is_empty());
    say("Cmd", json!(info.cmd), !info.cmd.is_empty());
    say("WorkingDir", json!(info.workdir), !info.workdir.is_empty());
    say("Labels", json!(info.labels), !info.labels.is_empty());
    let mut config = platform(&info.platform);
    config["config"] = Value::Object(process);
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [layer] });
    config["history"] = json!([{ "created_by": "shifterimg export" }]);
    config.to_string().into_bytes()
}
