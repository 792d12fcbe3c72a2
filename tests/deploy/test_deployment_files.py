"""Files for deployment keep to their formats and name only what exists. No engine is needed, and each check can fail."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_enclave.__main__ import parser as enclave_parser
from messaging.relay.__main__ import _parser as relay_parser

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text()))


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_the_compose_file_keeps_to_its_schema_and_a_misspelt_key_would_not(tmp_path: Path) -> None:
    assert check_schema(COMPOSE).returncode == 0, check_schema(COMPOSE).stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(COMPOSE.read_text().replace("restart:", "restrat:"))
    assert check_schema(broken).returncode == 1


@pytest.mark.parametrize("path", [COMPOSE, ROOT / ".yamllint.yml"], ids=lambda path: path.name)
def test_yaml_is_tidy(path: Path) -> None:
    result = run(BIN / "yamllint", "--strict", path)
    assert result.returncode == 0, result.stdout


def test_untidy_yaml_would_be_noticed(tmp_path: Path) -> None:
    untidy = tmp_path / "untidy.yml"
    untidy.write_text("a: 1\na: 2\n")
    assert run(BIN / "yamllint", "--strict", untidy).returncode == 1


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_are_clean(path: Path) -> None:
    result = run(BIN / "hadolint", path)
    assert result.returncode == 0, result.stdout


def test_an_unpinned_image_would_be_noticed(tmp_path: Path) -> None:
    loose = tmp_path / "Dockerfile"
    loose.write_text("FROM python:latest\nRUN cd /tmp && sudo ls\n")
    assert run(BIN / "hadolint", loose).returncode == 1


def variables(service: str) -> set[str]:
    return {name for name in compose()["services"][service]["environment"] if name.startswith("SUBROSA_")}


def test_every_variable_is_one_that_the_relay_reads() -> None:
    options = {option for action in relay_parser({})._actions for option in action.option_strings}
    known = {"SUBROSA_" + option.removeprefix("--").replace("-", "_").upper() for option in options}
    for service in ("relay-1", "relay-2"):
        assert variables(service)
        assert variables(service) <= known


def test_every_variable_is_one_that_the_enclave_reads() -> None:
    source = (ROOT / "ai_enclave" / "__main__.py").read_text()
    services = compose()["services"]
    for service in ("enclave-1", "enclave-2"):
        assert variables(service) <= set(re.findall(r"SUBROSA_[A-Z_]+", source))
        assert enclave_parser().parse_args(services[service]["command"]).unsafe_simulated_tee
    names = {services[service]["environment"]["SUBROSA_ASSISTANT_NAME"] for service in ("enclave-1", "enclave-2")}
    assert len(names) == 2  # one name, and each would take the other's place


def test_every_secret_used_is_declared_and_every_image_pinned() -> None:
    file = compose()
    for service in file["services"].values():
        assert set(service.get("secrets", [])) <= set(file["secrets"])
        assert re.fullmatch(r"[a-z/-]+:[0-9.]+(?:-bookworm)?", service["image"])


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_relay_image_has_neither_node_nor_torch() -> None:
    relay = (ROOT / "deploy" / "relay.Dockerfile").read_text()
    assert "signal_protocol.setup" not in relay
    assert re.search(r"constraints\.txt \"\.\[console,telemetry\]\"\n", relay)
    enclave = (ROOT / "deploy" / "enclave.Dockerfile").read_text()
    assert "'.[enclave]'" in enclave
