"""A policy as people write it: TOML, under a signature that says who stands for it.

The file is a signed note (C2SP, signed-note): the text, an empty line, and lines "— name base64" with an Ed25519 signature over
the text. A key is written "name+hash+base64". So the file can be read with the eye, kept in a repository, and compared.
``python3 dev.py run`` needs none of this; ``subrosa policy template`` prints a policy with every field explained.
"""

import base64
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attestation.appraisal.policy import DEFAULT_COLLATERAL_AGE, DEFAULT_FLOORS, Policy, Release, Weakening
from attestation.document import PCRS, CpuType
from attestation.errors import MalformedPolicy
from attestation.limits import MAX_DEVICES, MAX_NAME, MAX_POLICY
from attestation.parsing.snp import TCB_PARTS, Product, Tcb

VERSION = 1
_ED25519: Final = b"\x01"  # signature type (C2SP, signed-note)
_NAME = re.compile(r"[^\s+]{1,128}")
_PUBLIC_KEY: Final = 32  # bytes
_RESTRICTING: Final = {"chips", "platforms", "ids", "drivers", "vbioses"}
_MAX_LEVEL = 255  # a part of a firmware level is one byte
_MAX_DAYS = 36_500
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
# TOML's dotted keys make a table for each dot, in a time and memory that grow with the square of their number.
_DOTTED = re.compile(
    r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,64}+"|'[^'\n]{0,64}+')[ \t]*+\.[ \t]*+){9}"""  # linear
)
_POLICY: Final = {
    "policy",
    "name",
    "valid_from",
    "valid_until",
    "unsafe",
    "releases",
    "amd",
    "intel",
    "devices",
    "collateral",
}
_RELEASE: Final = {"name", "type", "measurement", "registers", "events", "pcrs", "launch_data"}
_REGISTERS: Final = frozenset(map(str, range(PCRS)))
_AMD: Final = {"floors", "chips"}
_DEVICES: Final = {"gpus", "switches", "ids", "drivers", "vbioses"}


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """Whose signature makes a policy count: a name without spaces, and an Ed25519 public key (32 bytes)."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not self.name.isprintable() or len(self.public_key) != _PUBLIC_KEY:
            raise ValueError("a policy key has a name without spaces and plus signs, and 32 bytes")

    @property
    def hash(self) -> bytes:
        """Four bytes that tell keys of the same name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> "PolicyKey":
        """Undo ``str``.

        Raises:
            MalformedPolicy: it is no such key, or its hash is another's.
        """
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
            key = cls(name, raw[1:])
        except ValueError:
            raise MalformedPolicy("a policy key is not of the form name+hash+base64") from None
        if raw[:1] != _ED25519 or key.hash.hex() != hashed:
            raise MalformedPolicy("a policy key was mistyped: its hash is another key's")
        return key


@dataclass(frozen=True, slots=True)
class PolicySigner:
    """The private side of a :class:`PolicyKey`."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def key(self) -> PolicyKey:
        """What relying parties are given."""
        return PolicyKey(self.name, self.private_key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """``text`` as a signed note; it has to be a policy that can be read.

        Raises:
            MalformedPolicy: it is none, or holds control characters, which a note may not.
        """
        text = text.rstrip() + "\n"
        _check_characters(text)
        parse_policy_text(text)
        signature = self.key.hash + self.private_key.sign(text.encode())
        return f"{text}\n— {self.name} {base64.b64encode(signature).decode()}\n"


def parse_policy(note: bytes, key: PolicyKey) -> Policy:
    """Read a signed policy.

    Args:
        note: the file, text and signature lines.
        key: whose signature has to hold; lines of others are ignored, as the format asks.

    Raises:
        MalformedPolicy: ``key`` did not sign it, it is no signed note, or the text is no policy.
    """
    decoded = _decoded(note)
    _check_characters(decoded)
    text, _, signatures = decoded.rpartition("\n\n")
    text += "\n"
    held = [_holds(text, line, key) for line in signatures.removesuffix("\n").split("\n")]
    if not any(held):
        raise MalformedPolicy("the policy does not carry a signature of the given key")
    return parse_policy_text(text)


def parse_policy_unsigned(text: bytes) -> Policy:
    """Read a policy that nobody signed, or whose signature is not asked for; every result will say so.

    Raises:
        MalformedPolicy: the text is no policy.
    """
    body, _, signatures = _decoded(text).rpartition("\n\n")
    unsigned = body + "\n" if signatures.startswith("— ") else _decoded(text)
    return parse_policy_text(unsigned).weakened_by(Weakening.UNSAFE_UNSIGNED_POLICY)


def parse_policy_text(text: str) -> Policy:
    """Read the TOML of a policy; what is left out is the strict default.

    Raises:
        MalformedPolicy: unknown or missing members, values of the wrong form, or a weakening without its ``Unsafe`` name.
    """
    if _DOTTED.search(text):
        raise MalformedPolicy("a name in the policy has too many parts")
    try:
        return _policy(tomllib.loads(text))
    except MalformedPolicy:
        raise
    except tomllib.TOMLDecodeError as error:
        raise MalformedPolicy(f"the policy is not TOML: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise MalformedPolicy(_why(error)) from None


def _policy(members: dict[str, Any]) -> Policy:
    _known(members, _POLICY, "the policy")
    if members["policy"] != VERSION or type(members["policy"]) is not int:
        raise MalformedPolicy("the policy is of another version than 1")
    amd, devices = _table(members, "amd", _AMD), _table(members, "devices", _DEVICES)
    intel, collateral = _table(members, "intel", {"platforms"}), _table(members, "collateral", {"max_age_days"})
    chips = [*_list(amd, "chips"), *_list(intel, "platforms")]
    return Policy(
        name=_name(members["name"]),
        releases=tuple(_release(each) for each in _list(members, "releases")),
        valid_from=_time(members.get("valid_from")),
        valid_until=_time(members.get("valid_until")),
        floors=_floors(amd.get("floors", {})),
        chips=frozenset(map(bytes.fromhex, chips)) if "chips" in amd or "platforms" in intel else None,
        gpus=_count(devices.get("gpus", 0), MAX_DEVICES),
        switches=_count(devices.get("switches", 0), MAX_DEVICES),
        devices=frozenset(map(bytes.fromhex, _list(devices, "ids"))) if "ids" in devices else None,
        drivers=frozenset(map(_name, _list(devices, "drivers"))),
        vbioses=frozenset(map(_name, _list(devices, "vbioses"))),
        collateral_age=timedelta(days=_count(collateral.get("max_age_days", DEFAULT_COLLATERAL_AGE.days), _MAX_DAYS)),
        unsafe=frozenset(_weakening(name) for name in _list(members, "unsafe")),
    )


def _release(members: dict[str, Any]) -> Release:
    _known(members, _RELEASE, "a release")
    return Release(
        name=_name(members["name"]),
        type=CpuType(members["type"]),
        measurement=bytes.fromhex(members["measurement"]),
        registers=tuple(map(bytes.fromhex, _list(members, "registers"))),
        events={name: bytes.fromhex(payload) for name, payload in members.get("events", {}).items()},
        pcrs={_register(number): bytes.fromhex(value) for number, value in members.get("pcrs", {}).items()},
        launch_data=bytes.fromhex(members["launch_data"]) if "launch_data" in members else None,
    )


def _register(number: str) -> int:
    if number not in _REGISTERS:  # in one spelling, so that no register is named twice
        raise MalformedPolicy("a register of the virtual TPM is not a number from 0 to 23")
    return int(number)


def _floors(members: dict[str, Any]) -> Mapping[Product, Tcb]:
    _known(members, set(Product), "the floors")
    return {product: _floor(members.get(product), default) for product, default in DEFAULT_FLOORS.items()}


def _floor(members: dict[str, Any] | None, default: Tcb) -> Tcb:
    """What a floor does not name keeps the default."""
    if members is None:
        return default
    _known(members, set(TCB_PARTS), "a floor")
    return Tcb(**{part: _count(members.get(part, getattr(default, part)), _MAX_LEVEL) for part in TCB_PARTS})


def _weakening(name: str) -> Weakening:
    if name not in set(Weakening):
        raise MalformedPolicy("the policy has an exception whose name is unknown")
    return Weakening(name)


def _table(members: dict[str, Any], name: str, known: set[str]) -> dict[str, Any]:
    table: dict[str, Any] = members.get(name, {})
    _known(table, known, f"[{name}]")
    return table


def _list(members: Mapping[str, Any], name: str) -> list[Any]:
    """A text in its place would be read as a list of its letters."""
    value = members.get(name, [])
    if not isinstance(value, list):
        raise MalformedPolicy(f"{name} in the policy is not a list")
    if not value and name in members and name in _RESTRICTING:
        raise MalformedPolicy(f"{name} in the policy is an empty list: name some, or leave it out to accept any")
    return value


def _known(members: Mapping[str, Any], known: set[str], what: str) -> None:
    """A misspelt member would otherwise be a rule that silently does not apply."""
    if unknown := sorted(set(members) - known):
        raise MalformedPolicy(f"{what} has a member that is not known: {unknown[0][:MAX_NAME]!r}")


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise MalformedPolicy("a name in the policy is not short printable text")
    return value


def _count(value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise MalformedPolicy(f"a number in the policy is not a whole number from 0 to {limit}")
    return value


def _time(value: object) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise MalformedPolicy("a time in the policy is not of the form 2026-11-25T00:00:00Z")
    return value


def _decoded(data: bytes) -> str:
    if len(data) > MAX_POLICY:
        raise MalformedPolicy("the policy is too large")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedPolicy("the policy is not UTF-8 text") from None


def _check_characters(text: str) -> None:
    """What nobody sees must not be signed: only line ends, and what is printable in any language (C2SP, signed-note)."""
    if not all(line.isprintable() for line in text.split("\n")):
        raise MalformedPolicy("a signed policy has no tabs, carriage returns or other characters that cannot be seen")


def _holds(text: str, line: str, key: PolicyKey) -> bool:
    """Whether ``line`` is a signature of ``key``; one in its name that does not hold spoils the note (C2SP, "Signatures")."""
    form = _SIGNATURE_LINE.fullmatch(line)
    if form is None:
        raise MalformedPolicy("the policy does not end with an empty line and signatures")
    try:
        signature = base64.b64decode(form[2], validate=True)
    except ValueError:
        raise MalformedPolicy("a signature of the policy is not base64") from None
    if form[1] != key.name or signature[:4] != key.hash:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature[4:], text.encode())
    except (ValueError, InvalidSignature):
        raise MalformedPolicy("the policy was changed after it was signed, or the signature is damaged") from None
    return True


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the policy lacks the member {error}"
    return f"the policy has a value of the wrong form: {error}"


TEMPLATE = """\
# Which confidential machines we accept. Everything that is left out is strict; every exception has a name that begins
# with "Unsafe" and stands in every result. Sign this file with: subrosa policy sign FILE KEYFILE
policy = 1
name = "Example clinic, from November 2026"

# When this policy may be used. Leave both out for no limit.
valid_from = 2026-11-01T00:00:00Z
valid_until = 2027-11-01T00:00:00Z

# Exceptions, none by default: UnsafeAcceptSimulated, UnsafeAcceptAnyMeasurement, UnsafeAcceptMilan, UnsafeLowerTcbFloors,
# UnsafeSkipAmdRevocation, UnsafeAcceptTdxSwHardeningNeeded, UnsafeAcceptTdxConfigurationNeeded, UnsafeAcceptTdxOutOfDate,
# UnsafeSkipGpuReferenceValues, UnsafeSkipGpuRevocation, UnsafeOlderCollateral.
unsafe = []

# The code that we accept, one block for each release and kind of machine. Without a release nothing is accepted.
[[releases]]
name = "subrosa-enclave 0.1.0"   # as the enclave calls itself
type = "sev-snp"                 # or "tdx", "sev-snp-azure", "simulated"
measurement = "{zeros}"  # launch digest (SNP) or MRTD (TDX)
# registers = ["…", "…", "…"]    # TDX: RTMR0 to RTMR2, or to RTMR3; hex of 48 bytes each
# events = {{ compose-hash = "…" }}  # TDX under dstack: named events of RTMR3, hex
# pcrs = {{ 4 = "…", 11 = "…" }}   # Azure: registers of the virtual TPM, hex of 32 bytes
# launch_data = "…"              # HOST_DATA (SNP) or MRCONFIGID (TDX); has to be zero if this is left out

[amd]
# chips = ["…"]                  # only these chips (CHIP_ID, hex of 64 bytes). Any if left out; we advise a list.
[amd.floors.Genoa]               # least security patch levels; what is left out keeps the default. Milan is refused.
snp = 23
[amd.floors.Turin]
snp = 0

[intel]
# platforms = ["…"]              # only these platforms (platform instance id, hex of 16 bytes)

[devices]
gpus = 0                         # exactly so many GPUs and NVSwitches have to prove themselves
switches = 0
# ids = ["…"]                    # only these devices (hex of 32 bytes, from a result of subrosa verify)
# drivers = ["590.12"]           # only these versions, beside NVIDIA's reference values, which are always asked for
# vbioses = ["96.00.A5.00.01"]

[collateral]
max_age_days = 30                # of TCB information and OCSP answers
""".format(zeros="0" * 96)
"""A policy with every field explained; strict, and valid as it stands."""
