"""What is fetched is what is pinned, or nothing. Real npm against a registry on loopback."""

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.packages import NotFetched, Package, fetched, is_fetched, unpacked

NAME, VERSION = "@somebody/thing", "1.0.0"


def an_archive(text: str = "the thing") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path, content in {"package.json": json.dumps({"name": NAME, "version": VERSION}), "thing.js": text}.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return data.getvalue()


@contextmanager
def a_registry(archive: bytes) -> Iterator[str]:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://{self.headers['Host']}/thing.tgz"
            version = {"name": NAME, "version": VERSION, "dist": {"tarball": url, "integrity": integrity}}
            packument = {"name": NAME, "dist-tags": {"latest": VERSION}, "versions": {VERSION: version}}
            body = archive if self.path.endswith(".tgz") else json.dumps(packument).encode()
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


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A new user without an npm or a proxy of their own."""
    for name in list(os.environ):
        if name.lower().startswith("npm_config") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def unpack(archive: Path, folder: Path) -> None:
    unpacked(archive, folder, "package/thing.js")


def test_fetches_once_what_is_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive, cache = an_archive(), tmp_path / "cache"
    package = Package(NAME, VERSION, hashlib.sha256(archive).hexdigest())
    with a_registry(archive) as address:
        monkeypatch.setenv("npm_config_registry", address)
        folder = fetched(package, unpack, cache)
    assert (folder / "thing.js").read_text() == "the thing"
    assert [each.name for each in cache.iterdir()] == ["thing-1.0.0"]
    assert is_fetched(package, cache)
    assert fetched(package, unpack, cache) == folder  # the registry is gone by now


def test_refuses_what_is_not_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    package = Package(NAME, VERSION, hashlib.sha256(an_archive()).hexdigest())
    with a_registry(an_archive("something else")) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(NotFetched, match="not the package that is pinned"):
            fetched(package, unpack, cache)
    assert list(cache.iterdir()) == []


def test_says_when_there_is_no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1/")
    with pytest.raises(NotFetched, match="could not be reached"):
        fetched(Package(NAME, VERSION, ""), unpack, tmp_path / "cache")
