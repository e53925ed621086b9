//! What may stand between a registry and us: TLS with a certificate of the site's own, a proxy.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// TLS before a server that has none.
pub struct Tls {
    pub address: String,
    child: Child,
}

impl Tls {
    /// Leaves its certificate, which certifies itself, in `dir/ca.pem`.
    pub fn before(target: &str, dir: &Path) -> Self {
        let (ca, key) = (dir.join("ca.pem"), dir.join("key.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "2", "-subj", "/CN=site", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&ca)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let (host, port) = target.split_once(':').unwrap();
        let mut child = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/world/tls.py"))
            .args([&ca, &key])
            .args([host, port])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { address: format!("127.0.0.1:{}", port.trim()), child }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy that leads wherever it is asked to (CONNECT), and notes it, with what it is told of
/// who asks.
pub struct Proxy {
    pub address: String,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// With `opens` false it refuses.
    pub fn start(opens: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || serve(stream.unwrap(), opens, &noted));
            }
        });
        Self { address, log }
    }

    /// Where it was asked to lead.
    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, opens: bool, log: &Mutex<Vec<String>>) {
    let lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let target = head[0].split(' ').nth(1).unwrap_or("").to_owned();
    let who = head.iter().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    log.lock().unwrap().push(format!("{target} {}", who.unwrap_or("")).trim().to_owned());
    if !opens || !head[0].starts_with("CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let Ok(mut server) = TcpStream::connect(&target) else { return };
    let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}
