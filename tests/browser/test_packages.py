"""What is fetched is what is pinned, or nothing. Real npm against a registry on loopback."""

import hashlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.browser.packages import NotFetched, Package, fetched, is_fetched, unpacked
from tests.registries import npm_registry, tarball_of

NAME, VERSION = "@somebody/thing", "1.0.0"


def an_archive(text: str = "the thing") -> bytes:
    return tarball_of({"package.json": json.dumps({"name": NAME, "version": VERSION}), "thing.js": text})


def a_registry(archive: bytes) -> AbstractContextManager[str]:
    return npm_registry(NAME, VERSION, archive)


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
