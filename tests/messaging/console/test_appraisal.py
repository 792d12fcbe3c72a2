"""What the console says of evidence: in big words where nothing protects anybody, and never more than was proved."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.appraisal import UnsafeAcceptAnyMeasurement
from attestation.appraisal.policy_file import TEMPLATE, PolicySigner
from attestation.bundle import Bundle
from attestation.limits import MAX_BUNDLE, MAX_POLICY
from messaging.console.appraisal import (
    ACCEPTED,
    NO_POLICY,
    OUR_NONCE,
    REFUSED,
    SIMULATED,
    UNREAD,
    PolicyAppraiser,
    _verdict,
    open_appraiser,
)
from messaging.relay.admin.evidence import Shown
from messaging.relay.errors import StartupError
from tests.attestation.machines import KEYS, NONCE, Machine, gpu, simulated_machine, snp_machine, tdx_machine

NOW = int(simulated_machine().now.timestamp() * 1000)
GENUINE: dict[str, tuple[Callable[[], Machine], str]] = {
    "SEV-SNP": (snp_machine, "AMD SEV-SNP"),
    "SEV-SNP with GPUs": (lambda: snp_machine(devices=[gpu(), gpu(1)]), "AMD SEV-SNP"),
    "TDX": (tdx_machine, "Intel TDX"),
}


def shown(machine: Machine, *, key: bytes = KEYS.identity_key, nonce: bytes = NONCE) -> Shown:
    """The machine's evidence as it was reported."""
    bundle = Bundle(NONCE, machine.now, machine.document, machine.collateral)
    return Shown(zlib.compress(bundle.encode()), nonce, key)


def appraiser(machine: Machine) -> PolicyAppraiser:
    return PolicyAppraiser(machine.policy, "clinic", machine.roots)


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_hardware_is_told_with_what_is_proved_and_what_is_not(name: str) -> None:
    make, tee = GENUINE[name]
    machine = make()
    found = appraiser(machine)(shown(machine), NOW)
    assert (found.verdict, found.tee, found.release, found.simulated) == ("weakened", tee, KEYS.release, False)
    assert "UnsafeTrustOtherRoots" in found.notice, "the roots here are those of tests"
    assert all(step.passed for step in found.steps)
    assert found.steps[-1].about == "account"
    assert found.measurement == machine.appraise().measurement.hex()
    assert found.policy == f"{machine.policy.name}, signed by clinic"
    assert any(tee in sentence for sentence in found.proved)
    assert found.not_proved[0] == OUR_NONCE
    assert {"physical access", "what the code does"} <= {item.what for item in found.not_proved}


def test_a_simulation_is_called_that_before_all_else_accepted_or_not() -> None:
    machine = simulated_machine()
    found = PolicyAppraiser(machine.policy)(shown(machine), NOW)
    assert (found.verdict, found.notice, found.simulated, found.tee) == ("simulated", SIMULATED, True, "SIMULATED")
    assert not any("confidential machine" in sentence for sentence in found.proved)
    strict = PolicyAppraiser(replace(machine.policy, unsafe=frozenset()))(shown(machine), NOW)
    assert (strict.verdict, strict.proved) == ("refused", ())
    assert strict.notice.startswith(SIMULATED)
    assert strict.notice.endswith(REFUSED)
    unjudged = PolicyAppraiser()(shown(machine), NOW)
    assert unjudged.notice.startswith(SIMULATED)


def test_without_a_policy_only_the_form_is_read() -> None:
    machine = snp_machine()
    found = PolicyAppraiser()(shown(machine), NOW)
    assert (found.verdict, found.notice) == ("not appraised", NO_POLICY)
    assert (found.tee, found.release) == ("AMD SEV-SNP", KEYS.release)
    assert (found.steps, found.proved, found.not_proved) == ((), (), ())


def test_what_fails_is_explained_and_nothing_is_proved() -> None:
    machine = snp_machine().under(releases=())
    found = appraiser(machine)(shown(machine), NOW)
    assert (found.verdict, found.notice, found.proved) == ("refused", REFUSED, ())
    failed = [step for step in found.steps if not step.passed]
    assert failed
    assert all(step.why and step.means for step in failed)


def test_evidence_over_another_nonce_is_refused() -> None:
    machine = snp_machine()
    assert appraiser(machine)(shown(machine, nonce=bytes(32)), NOW).verdict == "refused"


def test_evidence_of_an_earlier_start_says_nothing_of_this_account() -> None:
    machine = snp_machine()
    found = appraiser(machine)(shown(machine, key=b"\x05" + bytes(32)), NOW)
    assert (found.verdict, found.proved) == ("refused", ())
    assert [step.about for step in found.steps if not step.passed] == ["account"]


def test_it_is_judged_as_of_now() -> None:
    machine = snp_machine()
    years_later = NOW + 20 * 365 * 24 * 3600 * 1000
    assert appraiser(machine)(shown(machine), years_later).verdict == "refused"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no deflate",
        zlib.compress(b"{}"),
        zlib.compress(b"{}") + b"more",
        zlib.compress(bytes(MAX_BUNDLE + 1)),
        shown(simulated_machine()).bundle[:-1],
    ],
)
def test_what_is_no_bundle_is_told_as_that(data: bytes) -> None:
    found = PolicyAppraiser(simulated_machine().policy)(Shown(data, NONCE, KEYS.identity_key), NOW)
    assert (found.verdict, found.notice) == ("unread", UNREAD)


def test_no_key_of_the_enclave_is_told() -> None:
    machine = snp_machine()
    told = appraiser(machine)(shown(machine), NOW).to_json()
    for key in (KEYS.identity_key, KEYS.receipt_key):
        assert key.hex().encode() not in told


def test_it_says_which_measurements_the_policy_lists() -> None:
    machine = snp_machine()
    listed = machine.policy.releases[0].measurement
    assert PolicyAppraiser(machine.policy).accepts(listed) is True
    assert PolicyAppraiser(machine.policy).accepts(bytes(48)) is False
    assert PolicyAppraiser(machine.policy.weakened_by(UnsafeAcceptAnyMeasurement)).accepts(bytes(48)) is True
    assert PolicyAppraiser().accepts(listed) is None


def test_accepted_without_exceptions_is_accepted() -> None:
    claims = snp_machine().appraise()
    assert _verdict(claims, ()) == ("accepted", ACCEPTED)


# --- the policy's files ---


@pytest.fixture
def signer() -> PolicySigner:
    return PolicySigner("clinic", Ed25519PrivateKey.generate())


@pytest.fixture
def files(tmp_path: Path, signer: PolicySigner) -> tuple[Path, Path]:
    """A signed policy, and the key of who signed it."""
    policy, key = tmp_path / "policy.toml", tmp_path / "policy.pub"
    policy.write_text(signer.sign(TEMPLATE))
    key.write_text(f"{signer.key}\n")
    return policy, key


def test_a_signed_policy_is_read_with_the_name_of_its_signer(files: tuple[Path, Path]) -> None:
    policy, key = files
    for named in (str(key), key.read_text()):  # the file, or the key itself
        found = open_appraiser(policy, named)
        assert found.policy is not None
        assert found.signer == "clinic"
    assert open_appraiser(None, None) == PolicyAppraiser()


def test_a_policy_that_another_signed_stops_the_start(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text(str(PolicySigner("clinic", Ed25519PrivateKey.generate()).key))
    with pytest.raises(StartupError, match="signature"):
        open_appraiser(files[0], str(other))


def test_what_cannot_be_read_or_is_half_named_stops_the_start(files: tuple[Path, Path], tmp_path: Path) -> None:
    policy, key = files[0], str(files[1])
    large = tmp_path / "large"
    large.write_bytes(bytes(MAX_POLICY + 1))
    for wrong in (
        (policy, None),
        (None, key),
        (tmp_path / "none", key),
        (large, key),
        (policy, str(large)),
        (policy, str(policy)),
        (policy, "no+key"),
    ):
        with pytest.raises(StartupError):
            open_appraiser(*wrong)
