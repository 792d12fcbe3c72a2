"""Inputs that once failed: for each its target, and what went wrong. New ones go here, as ``bytes.fromhex`` of what the fuzzer shows."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.attestation import machines
from tests.attestation.fuzz.mutations import exchanged
from tests.attestation.fuzz.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Regression:
    """``made`` is the input; the target has to take it or to refuse it as it documents."""

    target: str
    fault: str
    made: Callable[[], bytes]


def _seed(target: str, path: tuple[int, ...], content: bytes) -> Callable[[], bytes]:
    """The first seed of a target, DER, with other content in the element that ``path`` leads to."""
    return lambda: exchanged(TARGETS[target]().seeds[0], path, content)


def _dated(date: str) -> Callable[[], bytes]:
    """TCB information that is signed, but dated so."""

    def made() -> bytes:
        members = json.loads(TARGETS["appraise-tcb-info-signed"]().seeds[0])
        return json.dumps({**members, "issueDate": date}).encode()

    return made


def _unnamed_provider() -> bytes:
    return machines.amd_authority().vcek(extensions={"csp_id": b"\0"})[0]


def _unprintable_driver() -> bytes:
    device = machines.device("hopper", 0)
    return device.report(bytes(32), changed={3: b"\1"})


def _signer_of_unknown_kind() -> bytes:
    """The key of the manifest's signer is of an algorithm that nobody knows."""
    manifest, signer = machines.rims("hopper")[0], machines.rim_signer("hopper")
    unknown = exchanged(signer.chain[0], (0, 0, 6, 0, 0), bytes.fromhex("2a8648ce740201"))
    start, end = manifest.index(b"<ds:X509Certificate>"), manifest.index(b"</ds:X509Certificate>")
    return manifest[:start] + b"<ds:X509Certificate>" + base64.b64encode(unknown) + manifest[end:]


REGRESSIONS: Final = (
    Regression(
        "policy-key",
        "a name that is no text was encoded before it was checked",
        lambda: bytes.fromhex(
            "ff2b30303030303030302b4151414141414141414141414141414141414141414141414141414141414141414141414141414141414141"
        ),
    ),
    Regression(
        "appraise-switch-certificate",
        "a negative serial number was written as an unsigned one",
        lambda: bytes.fromhex(
            "306e305da0030201020215800000000000000000000000000000000000000000300a06082a8648ce3d04030306072a8648ce0102013020"
            "170d3230313031373030303030305a180f39393939313233313233353935395a300100300100a3023000300a06082a8648ce3d0403030301"
            "00"
        ),
    ),
    Regression(
        "appraise-snp-certificate",
        "a name that cannot be read ended the appraisal, outside of any step",
        _unnamed_provider,
    ),
    Regression(
        "appraise-gpu-report",
        "a version that cannot be read ended the appraisal, outside of any step",
        _unprintable_driver,
    ),
    Regression(
        "intel-list-dates",
        "a list of version 1 raised an exception that nobody caught",
        _seed("intel-list-dates", (0, 0, 0), b"\0"),
    ),
    Regression(
        "appraise-intel-list",
        "a list of version 1 raised an exception that nobody caught",
        _seed("intel-list-dates", (0, 0, 0), b"\0"),
    ),
    Regression("crl", "a list of version 1 raised an exception that nobody caught", _seed("crl", (0, 0, 0), b"\0")),
    Regression(
        "manifest",
        "a signer of a kind that nobody knows raised an exception that nobody caught",
        _signer_of_unknown_kind,
    ),
    Regression(
        "appraise-tcb-info-signed",
        "five minutes before the first moment of the calendar",
        _dated("0001-01-01T00:00:00Z"),
    ),
    Regression("appraise-tcb-info-signed", "the same, in a time zone", _dated("0001-01-01T00:00:00+23:59")),
)
