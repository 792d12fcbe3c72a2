"""``subrosa verify`` says what was checked, what failed, why and what it means; and its exit code says it to scripts."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from attestation import NO_COLLATERAL, Policy, assess
from attestation.appraisal.policy_file import PolicySigner
from attestation.bundle import Bundle
from attestation.limits import MAX_BUNDLE
from messaging.verify.__main__ import main
from messaging.verify.files import ChosenPolicy
from messaging.verify.report import Judged, facts, show
from tests.attestation import machines
from tests.attestation.machines import NONCE, NOW, Machine

SIGNER = PolicySigner("clinic", Ed25519PrivateKey.generate())
POLICY = f"""\
policy = 1
name = "Clinic"
unsafe = ["UnsafeAcceptSimulated"]
[[releases]]
name = "{machines.KEYS.release}"
type = "simulated"
measurement = "{machines.SIMULATED_MEASUREMENT.hex()}"
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of the simulated machine."""
    path = tmp_path / "bundle.json"
    path.write_bytes(Bundle(NONCE, NOW, machines.simulated_machine().document, NO_COLLATERAL).encode())
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A signed policy that accepts it."""
    path = tmp_path / "policy.toml"
    path.write_text(SIGNER.sign(POLICY))
    return path


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_accepts_what_a_signed_policy_accepts_and_says_what_weakened_it(
    capsys: pytest.CaptureFixture[str], bundle: Path, policy: Path
) -> None:
    code, out, err = verify(capsys, bundle, "--policy", policy, "--policy-key", SIGNER.key)
    assert (code, err) == (0, "")
    assert 'Policy   "Clinic", signed by clinic' in out
    assert "that it is fresh: The nonce is the file's own" in " ".join(out.split())
    assert "WEAKENED BY  UnsafeAcceptSimulated" in out
    assert "ACCEPTED AS A SIMULATION" in out
    assert "What this cannot prove" in out


def test_says_the_same_to_machines(capsys: pytest.CaptureFixture[str], bundle: Path, policy: Path) -> None:
    code, out, _ = verify(capsys, bundle, "--policy", policy, "--policy-key", SIGNER.key, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["verdict"], told["genuine"]) == ("accepted", False)
    assert told["nonce_from"] == "file"
    assert "that it is fresh" in told["not_proved"]
    assert told["claims"]["identity_key"] == machines.KEYS.identity_key.hex()
    assert told["weakened_by"] == ["UnsafeAcceptSimulated"]
    assert "everything about hardware" in told["not_proved"]
    assert all(step["passed"] for step in told["steps"])


def test_without_a_policy_nothing_is_accepted_and_all_checks_are_shown(
    capsys: pytest.CaptureFixture[str], bundle: Path
) -> None:
    code, out, _ = verify(capsys, bundle)
    assert code == 1
    assert "the policy accepts no release" in out
    assert "REFUSED: 2 of 7 checks failed (genuine hardware, measurement)." in out
    assert "genuine." not in out.splitlines()[-1]  # nobody's hardware said it


def test_a_refusal_tells_machines_which_check_why_and_what_it_means(
    capsys: pytest.CaptureFixture[str], bundle: Path
) -> None:
    code, out, _ = verify(capsys, bundle, "--json")
    told = json.loads(out)
    assert (code, told["verdict"], told["claims"], told["not_proved"]) == (1, "refused", None, {})
    (first, second) = [step for step in told["steps"] if not step["passed"]]
    assert (first["check"], first["kind"], second["check"]) == ("genuine hardware", "cryptography", "measurement")
    assert first["why"]
    assert first["means"]


def test_another_nonce_is_a_replay(capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
    code, out, _ = verify(capsys, bundle, "--nonce", bytes(32).hex(), "--json")
    assert code == 1
    assert "binding to nonce and keys" in [step.get("check") for step in json.loads(out)["steps"]]


def test_a_bundle_is_judged_at_its_own_time_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], bundle: Path
) -> None:
    for options, time, origin in (
        ([], "2026-06-01T00:00:00+00:00", "file"),
        (["--at", "2030-01-01"], "2030-01-01T00:00:00+00:00", "option"),
        (["--at", "2030-01-01T01:00:00+01:00"], "2030-01-01T01:00:00+01:00", "option"),
    ):
        told = json.loads(verify(capsys, bundle, "--json", *options)[1])
        assert (told["time"], told["time_from"]) == (time, origin)
    assert json.loads(verify(capsys, bundle, "--json", "--at", "now")[1])["time_from"] == "option"


def test_a_bare_document_needs_its_nonce_and_is_judged_now(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(machines.simulated_machine().document)
    code, _, err = verify(capsys, path)
    assert code == 2
    assert "--nonce HEX" in err
    code, out, _ = verify(capsys, path, "--nonce", NONCE.hex(), "--json")
    told = json.loads(out)
    assert told["nonce_from"] == "option"
    assert (code, told["time_from"]) == (1, "clock")
    assert "binding to nonce and keys" not in [step.get("check") for step in told["steps"]]


def test_what_cannot_be_read_is_neither_accepted_nor_refused(
    capsys: pytest.CaptureFixture[str], bundle: Path, policy: Path, tmp_path: Path
) -> None:
    damaged, huge = tmp_path / "damaged.json", tmp_path / "huge.json"
    damaged.write_bytes(bundle.read_bytes()[:-1])
    huge.write_bytes(b" " * (MAX_BUNDLE + 1))
    other = PolicySigner("clinic", Ed25519PrivateKey.generate()).key
    for arguments in (
        [tmp_path / "absent"],
        [tmp_path],
        [damaged],
        [huge],
        [policy, "--nonce", NONCE.hex()],  # no document at all
        [bundle, "--at", "yesterday"],
        [bundle, "--nonce", "00"],
        [bundle, "--policy", policy],
        [bundle, "--policy", policy, "--policy-key", other],
        [bundle, "--policy", policy, "--policy-key", "clinic+00000000+AAAA"],
        [bundle, "--policy", policy, "--policy-key", tmp_path / "absent"],
        [bundle, "--policy", bundle, "--unsafe-unsigned-policy"],
        [bundle, "--policy", tmp_path / "absent", "--policy-key", other],
        ["\0"],
    ):
        code, out, err = verify(capsys, *arguments)
        assert code == 2, arguments
        assert out or err.startswith("subrosa verify: "), arguments
        code, out, err = verify(capsys, *arguments, "--json")
        assert (code, err) == (2, "")
        assert json.loads(out)["verdict"] in ("unreadable", "refused")


def test_a_policy_without_a_signature_is_read_only_by_an_ugly_name_which_shows(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "unsigned.toml"
    path.write_text(POLICY)
    assert verify(capsys, bundle, "--policy", path, "--policy-key", SIGNER.key)[0] == 2
    code, out, _ = verify(capsys, bundle, "--policy", path, "--unsafe-unsigned-policy", "--json")
    assert code == 0
    assert "UnsafeUnsignedPolicy" in json.loads(out)["weakened_by"]


def test_the_key_may_stand_in_a_file(
    capsys: pytest.CaptureFixture[str], bundle: Path, policy: Path, tmp_path: Path
) -> None:
    key = tmp_path / "policy.pub"
    key.write_text(f"{SIGNER.key}\n")
    assert verify(capsys, bundle, "--policy", policy, "--policy-key", key)[0] == 0


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_file_ends_in_a_stack_trace(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(data)
    assert main([str(path), "--nonce", bytes(32).hex(), "--json"]) == 2


def shown(machine: Machine, **changes: Any) -> str:
    """What a person sees of a machine of the fake vendors."""
    return shown_judged(judged(machine, **changes))


def judged(machine: Machine, **changes: Any) -> Judged:
    return Judged(machine.assess(**changes), ChosenPolicy(machine.policy, "clinic"), machine.now, "file", "option")


def shown_judged(it: Judged) -> str:
    out = StringIO()
    show(it, Console(file=out, width=100, highlight=False))
    return out.getvalue()


def test_a_machine_with_gpus_is_shown_whole() -> None:
    machine = machines.snp_machine(devices=[machines.gpu(0), machines.gpu(1)])
    text = shown(machine)
    assert "ACCEPTED: all " in text
    for heading in ("processor", "GPU 0", "GPU 1", "devices", "binding", "code"):
        assert f"\n{heading}\n" in text
    for gap in ("that the GPU sits in this machine", "secrecy between GPUs", "physical access"):
        assert f"  {gap}: " in text
    told = facts(judged(machine))
    assert told["genuine"]
    assert [device["type"] for device in told["claims"]["devices"]] == ["nvidia-gpu", "nvidia-gpu"]  # type: ignore[index]


def test_all_faults_are_shown_at_once_with_reasons() -> None:
    machine = machines.snp_machine(policy=1 << 19 | 0x30000)
    text = shown(machine, collateral=NO_COLLATERAL)
    assert "✗ The host may not debug the guest.  [debug off]" in text
    assert "✗ AMD has withdrawn none of them.  [collateral]" in text
    assert "The operator can read the memory of this machine." in text
    assert text.rstrip().endswith("(collateral, debug off). The evidence itself is genuine.")


def test_what_could_not_be_checked_is_said() -> None:
    machine = machines.snp_machine()
    cut = replace(machine.evidence, cpu=replace(machine.evidence.cpu, report=machine.evidence.cpu.report[:-1]))
    appraisal = assess(cut.encode(), nonce=NONCE, policy=Policy(), now=NOW)
    text = shown_judged(Judged(appraisal, ChosenPolicy(Policy(), ""), NOW, "clock", "option"))
    assert "Checks that rest on this one were not made." in text


def test_who_reads_the_first_line_only_gets_the_same_exit_code_and_no_stack_trace(bundle: Path) -> None:
    command = f"{sys.executable} -m messaging.cli verify {bundle}"
    for pipe, code in (
        (f"{command} | true; exit ${{PIPESTATUS[0]}}", 1),
        (f"{command} > /dev/full", 2),
        (f"{command} >&-", 2),
        (f"PYTHONIOENCODING=ascii {command}", 1),
    ):
        done = subprocess.run(["bash", "-c", pipe], capture_output=True, check=False, timeout=60)
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


def test_the_command_needs_no_color_no_terminal_and_no_network(bundle: Path) -> None:
    environment = {**os.environ, "TERM": "dumb", "LANG": "C.UTF-8", "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "messaging.cli", "verify", str(bundle)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"\x1b" not in done.stdout
