"""held_registry.py PORT DIRECTORY: what the registry on port 5000 has, but stops in the middle of each large
layer until there is a file DIRECTORY/go. DIRECTORY/log has a line for each layer asked for."""

import shutil
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PORT, DIRECTORY = int(sys.argv[1]), Path(sys.argv[2])
LARGE = 1 << 20


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        headers = {name: value for name, value in self.headers.items() if name.lower() in ("accept", "range")}
        try:
            answer = urlopen(Request(f"http://127.0.0.1:5000{self.path}", headers=headers))
        except HTTPError as error:
            answer = error
        self.send_response(answer.status)
        size = int(answer.headers["Content-Length"])
        for name in ("Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest"):
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        if size > LARGE:
            with open(DIRECTORY / "log", "a") as log:
                log.write(self.path + "\n")
            self.wfile.write(answer.read(size // 2))
            self.wfile.flush()
            while not (DIRECTORY / "go").exists():
                time.sleep(0.02)
        shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", PORT), Handler).serve_forever()
