"""Real npm against a registry on loopback: what it installs, what it refuses, and what it says."""

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from signal_protocol import setup
from signal_protocol.errors import WorkerUnavailable
from signal_protocol.node import WORKER_FOLDER, find_node, node_version
from signal_protocol.setup import SetupFailed, install
from tests.registries import integrity, npm_registry, tarball_of

NAME, VERSION = "@signalapp/libsignal-client", "0.0.1"
INSTALLED = Path("node_modules") / NAME
HERE = setup._platform()


def a_package(platforms: list[str]) -> bytes:
    """A tarball that looks like libsignal's, and would leave a trace if a script of it ran."""
    manifest = {"name": NAME, "version": VERSION, "scripts": {"install": "echo > install-script-ran"}}
    files = {"package.json": json.dumps(manifest), **{f"prebuilds/{name}/x.node": name for name in platforms}}
    return tarball_of(files)


def a_registry(tarball: bytes) -> AbstractContextManager[str]:
    return npm_registry(NAME, VERSION, tarball)


def a_folder(folder: Path, expected: bytes) -> Path:
    """package.json, and a lock file that demands ``expected``."""
    folder.mkdir()
    wanted = {NAME: VERSION}
    locked = {"version": VERSION, "integrity": integrity(expected), "hasInstallScript": True}
    lock = {
        "name": "worker",
        "lockfileVersion": 3,
        "requires": True,
        "packages": {"": {"name": "worker", "dependencies": wanted}, f"node_modules/{NAME}": locked},
    }
    (folder / "package.json").write_text(json.dumps({"name": "worker", "dependencies": wanted}))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return folder


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A new user without a Node, an npm or a proxy."""
    for name in list(os.environ):
        if name.lower().startswith("npm_config") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "")


def test_installs_what_the_lock_file_demands_for_this_machine_alone_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = a_package([HERE, "plan9-mips"])
    folder = a_folder(tmp_path / "worker", package)
    with a_registry(package) as address:
        monkeypatch.setenv("npm_config_registry", address)
        assert install(folder) is True
    assert [build.name for build in (folder / INSTALLED / "prebuilds").iterdir()] == [HERE]
    assert not (folder / INSTALLED / "install-script-ran").exists()
    [line] = capsys.readouterr().err.splitlines()
    assert "installing libsignal" in line
    assert install(folder) is False
    assert capsys.readouterr().err == ""


def test_refuses_a_package_with_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_folder(tmp_path / "worker", expected=a_package([HERE]))
    with a_registry(a_package([HERE, "something-else"])) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(SetupFailed, match="hash that the lock file demands"):
            install(folder)
    assert not (folder / INSTALLED).exists()


def test_says_when_libsignal_has_no_build_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = a_package(["plan9-mips"])
    folder = a_folder(tmp_path / "worker", package)
    with a_registry(package) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(SetupFailed, match="no build"):
            install(folder)


def test_without_a_network_it_fails_within_seconds_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "WORKER_FOLDER", a_folder(tmp_path / "worker", b"never fetched"))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    started = time.monotonic()
    assert setup.main([]) == 1
    assert time.monotonic() - started < 20
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert "could not be reached" in sentence
    assert "NODE_EXTRA_CA_CERTS" in sentence


def test_a_node_that_is_asked_for_is_used_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.20.4\n")
    old.chmod(0o755)
    monkeypatch.setenv("SIGNAL_PROTOCOL_NODE", str(old))
    assert find_node() == old
    with pytest.raises(WorkerUnavailable, match="needs Node"):
        node_version(old)
    with pytest.raises(WorkerUnavailable, match="no Node"):
        find_node(tmp_path / "missing")


def test_the_wheels_node_is_found_without_a_path() -> None:
    assert node_version(find_node()) >= (20, 11)


def test_the_lock_file_has_a_hash_for_each_package_and_no_addresses() -> None:
    packages = json.loads((WORKER_FOLDER / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert packages
    for entry in packages.values():
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry


def test_no_file_of_the_worker_imports_the_native_module_with_its_test_hooks() -> None:
    sources = [*WORKER_FOLDER.glob("*.js")]
    assert len(sources) >= 4
    assert not [source.name for source in sources if "Native.js" in source.read_text()]
