"""An npm registry on loopback that has one package in one version, for real npm."""

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def tarball_of(files: Mapping[str, str]) -> bytes:
    """A package with these files, by their paths in it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def integrity(data: bytes) -> str:
    """What npm calls a tarball's digest."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@contextmanager
def npm_registry(name: str, version: str, tarball: bytes) -> Iterator[str]:
    """Its address, as long as it serves."""

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://{self.headers['Host']}/package.tgz"
            described = {"name": name, "version": version, "dist": {"tarball": url, "integrity": integrity(tarball)}}
            packument = {"name": name, "dist-tags": {"latest": version}, "versions": {version: described}}
            body = tarball if self.path.endswith(".tgz") else json.dumps(packument).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
