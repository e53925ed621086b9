//! A registry that misbehaves on demand: what it does, the repository's name says.

use std::io::{BufRead, BufReader, Read, Write};
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
    /// Lines of all requests, with their authorization and range.
    pub log: Mutex<Vec<String>>,
    /// How it lets people in, if it does not let in everybody: "basic", "token".
    pub door: Mutex<&'static str>,
    /// Where the layer of `foreign` is.
    pub urls: Mutex<Vec<String>>,
}

pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
    /// The same with layers above that have nothing in them: by its manifest the image `hollow`.
    pub hollow: Vec<u8>,
    /// What else it consists of.
    pub others: Vec<Vec<u8>>,
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
        let (manifest, hollow, others) =
            (manifest.to_string().into_bytes(), Vec::new(), Vec::new());
        Self { manifest, config, layer, hollow, others }.with_hollow(&plain)
    }

    /// Layers of nothing: an empty archive, stored, with gzip and with zstd; and no byte at all.
    fn with_hollow(self, plain: &[u8]) -> Self {
        let nothing = [0; 1024];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&nothing).unwrap();
        let others = vec![
            gzip.finish().unwrap(),
            zstd::encode_all(&nothing[..], 3).unwrap(),
            nothing.to_vec(),
            Vec::new(),
        ];
        let empty = digest(&nothing);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest(plain), empty, empty, empty, digest(b"")] },
            "history": [{ "created_by": "ENV a=b", "empty_layer": true }],
        });
        let config = config.to_string().into_bytes();
        let layer = |bytes: &Vec<u8>, kind: &str| serde_json::json!({ "mediaType": format!("application/vnd.oci.image.layer.v1.tar{kind}"), "digest": digest(bytes), "size": bytes.len() });
        let hollow = serde_json::json!({
            "schemaVersion": 2,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
            "layers": [layer(&self.layer, "+gzip"), layer(&others[0], "+gzip"), layer(&others[1], "+zstd"), layer(&others[2], ""), layer(&others[3], "")],
        });
        let others = others.into_iter().chain([config]).collect();
        Self { hollow: hollow.to_string().into_bytes(), others, ..self }
    }

    /// The image with a layer that only `urls` have.
    fn foreign(&self, urls: &[String]) -> Vec<u8> {
        let mut manifest: serde_json::Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["layers"][0]["mediaType"] =
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        manifest["layers"][0]["urls"] = urls.into();
        manifest.to_string().into_bytes()
    }
}

impl Fake {
    pub fn start() -> Arc<Self> {
        Self::at("127.0.0.1:0")
    }

    pub fn at(address: &str) -> Arc<Self> {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Self {
            address,
            image: Image::new(),
            hits: AtomicU32::new(0),
            log: Mutex::default(),
            door: Mutex::default(),
            urls: Mutex::default(),
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

    /// Requests whose line has `part` in it.
    pub fn seen(&self, part: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(part)).cloned().collect()
    }

    /// One request a connection; errors mean that the client has gone, as it should.
    fn serve(&self, mut stream: TcpStream) {
        let mut body = BufReader::new(stream.try_clone().unwrap());
        let mut lines = (&mut body).lines().map_while(Result::ok);
        let Some(request) = lines.next() else {
            // What is said to who speaks TLS.
            return answer(&mut stream, "400 Bad Request", "", b"");
        };
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
        let range = header("range").unwrap_or_default();
        self.log.lock().unwrap().push(format!("{path} {authorization}{range}"));
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        if path.starts_with("/token") {
            // An identity token is shown in a form instead.
            let length = header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            let mut form = vec![0; length];
            let read = body.read_exact(&mut form).is_ok();
            let form = String::from_utf8(form).unwrap_or_default();
            let known = read && form.split('&').any(|part| part == "refresh_token=identity");
            // Nobody gets a token, too, but it opens nothing.
            let token = if authorization == basic || known { "good" } else { "anonymous" };
            return answer(
                &mut stream,
                "200 OK",
                "",
                format!("{{\"token\":\"{token}\"}}").as_bytes(),
            );
        }
        let repository = path.strip_prefix("/v2/").and_then(|p| p.split('/').next()).unwrap_or("");
        let door = *self.door.lock().unwrap();
        let refused = match if path == "/v2/" { door } else { repository } {
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
        if path == "/v2/" {
            return answer(&mut stream, "200 OK", "", b"{}");
        }
        const MANY: &str = "429 Too Many Requests";
        let hits = self.seen(path).len();
        if path.contains("/manifests/") {
            let manifest = &self.image.manifest;
            match repository {
                "busy" if hits < 3 => return answer(&mut stream, MANY, "Retry-After: 0\r\n", b""),
                "tomorrow" => return answer(&mut stream, MANY, "Retry-After: 86400\r\n", b""),
                "hub" if authorization != basic => {
                    let limits = "RateLimit-Limit: 100;w=21600\r\nRateLimit-Remaining: 0;w=21600\r\nWWW-Authenticate: Basic\r\n";
                    return answer(&mut stream, MANY, limits, b"");
                }
                "half" if hits < 2 => {
                    head(&mut stream, "200 OK", "", manifest.len());
                    return drop(stream.write_all(&manifest[..100]));
                }
                "hollow" => return answer(&mut stream, "200 OK", "", &self.image.hollow),
                "foreign" => {
                    let foreign = self.image.foreign(&self.urls.lock().unwrap());
                    return answer(&mut stream, "200 OK", "", &foreign);
                }
                "restarts" if hits < 3 => return drop(stream),
                "gone" => return answer(&mut stream, "404 Not Found", "", b""),
                "broken" => return answer(&mut stream, "500 Internal Server Error", "", b""),
                _ => return answer(&mut stream, "200 OK", "", &self.image.manifest),
            }
        }
        if path.ends_with(&digest(&self.image.config)) {
            return answer(&mut stream, "200 OK", "", &self.image.config);
        }
        if let Some(other) = self.image.others.iter().find(|blob| path.ends_with(&digest(blob))) {
            return answer(&mut stream, "200 OK", "", other);
        }
        if repository == "foreign" || path == "/nowhere" {
            return answer(&mut stream, "404 Not Found", "", b"");
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
            "break" | "ignores" | "elsewhere" if hit == 0 => {
                head(stream, "200 OK", "", layer.len());
                return drop(stream.write_all(&layer[..half]));
            }
            "fault" if hit.is_multiple_of(2) => {
                return answer(stream, "503 Service Unavailable", "Retry-After: 0\r\n", b"");
            }
            // Knows no ranges; or gives another one than was asked for.
            "ignores" => return answer(stream, "200 OK", "", &layer),
            "elsewhere" if range.is_some() => {
                let headers =
                    format!("Content-Range: bytes 7-{}/{}\r\n", layer.len() - 1, layer.len());
                return answer(stream, "206 Partial Content", &headers, &layer[7..]);
            }
            // Always ends too early, as if that were all; or after a little more, for ever.
            "short" => {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                return drop(stream.write_all(&layer[..half]));
            }
            "drip" => {
                let from = begin(range.as_deref());
                let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
                head(stream, status, "", layer.len() - from);
                return drop(stream.write_all(&layer[from..from + 10]));
            }
            _ => {}
        }
        let from = begin(range.as_deref());
        let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
        answer(stream, status, "", &layer[from..]);
    }
}

/// `bytes=100-`
fn begin(range: Option<&str>) -> usize {
    range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0)
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
