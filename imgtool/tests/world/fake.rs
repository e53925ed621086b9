//! A registry that misbehaves on demand: what it does, the repository's name says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "wonderland";

pub struct Fake {
    pub address: String,
    pub image: Image,
    hits: AtomicU32,
    /// Lines of all requests, with their authorization.
    pub log: Mutex<Vec<String>>,
}

pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Image {
    /// One layer, large enough to be broken in the middle.
    fn new() -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut random = 1u64;
        let noise: Vec<u8> = (0..1 << 20)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            })
            .collect();
        for (name, content, mode) in [
            ("etc/hello", &b"hello\n"[..], 0o644),
            ("etc/shadow", b"root:*:1::::::\n", 0o640),
            ("noise", &noise, 0o644),
            ("app/data", b"data\n", 0o600),
            ("app/tool", b"#!/bin/sh\n", 0o700),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(mode);
            header.set_cksum();
            tar.append_data(&mut header, name, content).unwrap();
        }
        let plain = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let layer = gzip.finish().unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&plain)] },
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&layer), "size": layer.len() }],
        });
        Self { manifest: manifest.to_string().into_bytes(), config, layer }
    }
}

impl Fake {
    pub fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Self {
            address,
            image: Image::new(),
            hits: AtomicU32::new(0),
            log: Mutex::default(),
        });
        let server = Arc::clone(&fake);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                std::thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        fake
    }

    /// How often the layer was asked for.
    pub fn fetches(&self) -> u32 {
        self.hits.load(Ordering::SeqCst)
    }

    /// One request a connection; errors mean that the client has gone, as it should.
    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            headers.iter().find_map(|h| {
                h.to_ascii_lowercase()
                    .starts_with(name)
                    .then(|| h[name.len() + 1..].trim().to_owned())
            })
        };
        let path = request.split(' ').nth(1).unwrap_or("");
        let authorization = header("authorization").unwrap_or_default();
        self.log.lock().unwrap().push(format!("{path} {authorization}"));
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        if path.starts_with("/token") {
            // Nobody gets a token, too, but it opens nothing.
            let token = if authorization == basic { "good" } else { "anonymous" };
            return answer(
                &mut stream,
                "200 OK",
                "",
                format!("{{\"token\":\"{token}\"}}").as_bytes(),
            );
        }
        let repository = path.strip_prefix("/v2/").and_then(|p| p.split('/').next()).unwrap_or("");
        let refused = match repository {
            "basic" if authorization != basic => Some("Basic realm=\"fake\"".to_owned()),
            "token" if authorization != "Bearer good" => Some(format!(
                "Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"repository:token:pull\"",
                self.address
            )),
            _ => None,
        };
        if let Some(challenge) = refused {
            let headers = format!("WWW-Authenticate: {challenge}\r\n");
            return answer(
                &mut stream,
                "401 Unauthorized",
                &headers,
                b"{\"errors\":[{\"message\":\"who are you?\"}]}",
            );
        }
        if path.contains("/manifests/") {
            let first =
                self.log.lock().unwrap().iter().filter(|l| l.contains("/busy/manifests")).count()
                    < 3;
            match repository {
                "busy" if first => {
                    return answer(&mut stream, "429 Too Many Requests", "Retry-After: 0\r\n", b"");
                }
                "gone" => return answer(&mut stream, "404 Not Found", "", b""),
                "broken" => return answer(&mut stream, "500 Internal Server Error", "", b""),
                _ => return answer(&mut stream, "200 OK", "", &self.image.manifest),
            }
        }
        if path.ends_with(&digest(&self.image.config)) {
            return answer(&mut stream, "200 OK", "", &self.image.config);
        }
        self.layer(&mut stream, repository, header("range"));
    }

    fn layer(&self, stream: &mut TcpStream, repository: &str, range: Option<String>) {
        if range.as_deref() == Some("bytes=0-0") {
            // Only whether there is anything is asked.
            return answer(stream, "206 Partial Content", "", &self.image.layer[..1]);
        }
        let hit = self.hits.fetch_add(1, Ordering::SeqCst);
        let mut layer = self.image.layer.clone();
        let half = layer.len() / 2;
        match repository {
            "corrupt" => layer[half] ^= 1,
            "stall" | "slow" => {
                head(stream, "200 OK", "", layer.len());
                let _ = stream.write_all(&layer[..half]);
                std::thread::sleep(Duration::from_secs(if repository == "stall" {
                    600
                } else {
                    2
                }));
                let _ = stream.write_all(&layer[half..]);
                return;
            }
            "break" if hit == 0 => {
                head(stream, "200 OK", "", layer.len());
                let _ = stream.write_all(&layer[..half]);
                return;
            }
            _ => {}
        }
        let from: usize = range
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .unwrap_or(0);
        let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
        answer(stream, status, "", &layer[from..]);
    }
}

fn head(stream: &mut TcpStream, status: &str, headers: &str, length: usize) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
}

fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    head(stream, status, headers, body.len());
    let _ = stream.write_all(body);
}
