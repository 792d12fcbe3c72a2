"""A policy file is a signed note around TOML: what it says is what is signed, and nothing in it is silently ignored."""

import base64
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.appraisal.policy import DEFAULT_FLOORS, Policy, Release, Weakening
from attestation.appraisal.policy_file import (
    TEMPLATE,
    PolicyKey,
    PolicySigner,
    parse_policy,
    parse_policy_text,
    parse_policy_unsigned,
)
from attestation.document import CpuType
from attestation.errors import MalformedPolicy
from attestation.limits import MAX_POLICY
from attestation.parsing.snp import Product, Tcb

SIGNER = PolicySigner("clinic.example/policy", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = PolicySigner("clinic.example/policy", Ed25519PrivateKey.from_private_bytes(bytes(32)))
MINIMAL = 'policy = 1\nname = "small"\n'
NOTE = SIGNER.sign(MINIMAL)


# --- The note -------------------------------------------------------------------------------------------------------------

# golang.org/x/mod, sumdb/note: the key pair and the note of the package's documentation.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETERS_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""


def test_a_published_key_is_read_written_and_derived_from_its_seed() -> None:
    assert str(PolicyKey.parse(PETER)) == PETER
    assert str(PolicySigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETERS_SEED)).key) == PETER


def test_a_published_note_is_found_to_be_signed_and_then_to_be_no_policy() -> None:
    with pytest.raises(MalformedPolicy, match="not TOML"):
        parse_policy(PETERS_NOTE.encode(), PolicyKey.parse(PETER))
    with pytest.raises(MalformedPolicy, match="changed after it was signed"):
        parse_policy(PETERS_NOTE.replace("your", "my").encode(), PolicyKey.parse(PETER))


def test_a_signature_is_made_byte_for_byte_as_published() -> None:
    signer = PolicySigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETERS_SEED))
    text, _, line = PETERS_NOTE.rpartition("\n\n")
    signature = signer.key.hash + signer.private_key.sign(f"{text}\n".encode())
    assert line == f"— PeterNeumann {base64.b64encode(signature).decode()}\n"
    assert signer.sign(MINIMAL).rpartition("\n\n")[2].startswith("— PeterNeumann x08go")


def test_what_is_signed_can_be_read_with_the_signers_key() -> None:
    assert parse_policy(NOTE.encode(), SIGNER.key) == Policy(name="small")


def test_a_note_is_the_text_an_empty_line_and_the_signature() -> None:
    lines = NOTE.split("\n")
    assert lines[:3] == ["policy = 1", 'name = "small"', ""]
    assert lines[3].startswith("— clinic.example/policy ")
    assert lines[4:] == [""]


def test_white_space_around_the_text_does_not_change_the_signature() -> None:
    assert SIGNER.sign(MINIMAL + "\n\n \n") == NOTE


def test_a_text_may_hold_empty_lines() -> None:
    text = MINIMAL + "\n\n# later\n\n[devices]\n\ngpus = 2\n"
    assert parse_policy(SIGNER.sign(text).encode(), SIGNER.key) == Policy(name="small", gpus=2)


def test_lines_of_other_keys_are_ignored_wherever_they_stand() -> None:
    text, _, mine = NOTE.rpartition("\n\n")
    others = [OTHER.sign(MINIMAL), PolicySigner("auditor", OTHER.private_key).sign(MINIMAL)]
    theirs = "".join(note.rpartition("\n\n")[2] for note in others)
    for signatures in (mine + theirs, theirs + mine):
        assert parse_policy(f"{text}\n\n{signatures}".encode(), SIGNER.key) == Policy(name="small")


def test_a_final_newline_may_be_lost() -> None:
    assert parse_policy(NOTE.removesuffix("\n").encode(), SIGNER.key) == Policy(name="small")


TEXT, _, LINE = NOTE.rpartition("\n\n")
BROKEN: dict[str, str] = {
    "no signature": MINIMAL,
    "nothing": "",
    "a signature alone": LINE,
    "no empty line": NOTE.replace("\n\n", "\n"),
    "another key of the same name": OTHER.sign(MINIMAL),
    "the same key under another name": PolicySigner("auditor", SIGNER.private_key).sign(MINIMAL),
    "another text": NOTE.replace("small", "large"),
    "a line more": NOTE.replace('"small"\n', '"small"\nunsafe = ["UnsafeAcceptMilan"]\n'),
    "a line behind the signature": f"{NOTE}gpus = 0\n",
    "a text behind the signature": f"{NOTE}\nunsafe = []\n",
    "an empty line behind the signature": f"{NOTE}\n",
    "a hyphen for the dash": NOTE.replace("—", "-"),
    "two spaces": NOTE.replace("— ", "—  "),
    "a signature that is not base64": f"{TEXT}\n\n— clinic.example/policy AAAAA\n",
    "an empty signature": f"{TEXT}\n\n— clinic.example/policy AAAA\n",
    "a short signature": f"{TEXT}\n\n— clinic.example/policy {base64.b64encode(SIGNER.key.hash).decode()}\n",
    "a good signature and a bad one of the same key": NOTE
    + f"— clinic.example/policy {base64.b64encode(SIGNER.key.hash + bytes(64)).decode()}\n",
    "carriage returns": NOTE.replace("\n", "\r\n"),
    "a tab": SIGNER.sign(MINIMAL).replace("policy = 1", "policy =\t1"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_note_that_is_not_exactly_what_was_signed_is_refused(what: str) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy(BROKEN[what].encode(), SIGNER.key)


@given(at=st.integers(0, len(NOTE.encode()) - 2), byte=st.integers(0, 255))
def test_no_changed_byte_is_accepted(at: int, byte: int) -> None:
    data = NOTE.encode()
    changed = data[:at] + bytes([byte]) + data[at + 1 :]
    if changed == data:
        return
    with pytest.raises(MalformedPolicy):
        parse_policy(changed, SIGNER.key)


@given(st.binary(max_size=100) | st.text(alphabet='policy =1name"\n—[]é', max_size=60).map(str.encode))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    for read in (lambda data: parse_policy(data, SIGNER.key), parse_policy_unsigned):
        with pytest.raises(MalformedPolicy):
            read(data)


def test_what_is_no_policy_is_not_signed() -> None:
    for text in (
        "",
        "policy = 1\n",
        MINIMAL + "unknown = 1\n",
        MINIMAL.replace("\n", "\r\n"),
        MINIMAL + "\tgpus = 1\n",
    ):
        with pytest.raises(MalformedPolicy):
            SIGNER.sign(text)


def test_a_policy_that_is_too_large_or_no_text_is_refused() -> None:
    fill = MINIMAL + "#" * (MAX_POLICY - len(MINIMAL))
    assert parse_policy_unsigned(fill.encode()).name == "small"
    for data in (fill.encode() + b"#", b"\xff" + MINIMAL.encode()):
        with pytest.raises(MalformedPolicy):
            parse_policy_unsigned(data)


def test_unsigned_reading_takes_a_signed_file_or_a_bare_one_and_says_so() -> None:
    unsigned = Policy(name="small", unsafe=frozenset({Weakening.UNSAFE_UNSIGNED_POLICY}))
    for text in (MINIMAL, MINIMAL + "\n\n# nothing more\n", NOTE, OTHER.sign(MINIMAL)):
        assert parse_policy_unsigned(text.encode()) == unsigned, text


# --- Keys -----------------------------------------------------------------------------------------------------------------


@given(
    name=st.from_regex(r"[^\s+]{1,20}", fullmatch=True).filter(str.isprintable),
    seed=st.binary(min_size=32, max_size=32),
)
def test_a_key_is_read_as_it_was_written(name: str, seed: bytes) -> None:
    key = PolicySigner(name, Ed25519PrivateKey.from_private_bytes(seed)).key
    assert PolicyKey.parse(str(key)) == key
    assert PolicyKey.parse(f" {key}\n") == key


NAME, HASH, KEY = PETER.split("+")[0], PETER.split("+")[1], PETER.split("+", 2)[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        NAME,
        f"{NAME}+{HASH}",
        f"{NAME}+{HASH}+",
        f"+{HASH}+{KEY}",
        f"{NAME}+{HASH}+{KEY}+",
        f"{NAME}+{HASH.upper()}+{KEY}",
        f"{NAME}+c74f20a4+{KEY}",
        f"Peterneumann+{HASH}+{KEY}",
        f"Peter Neumann+{HASH}+{KEY}",
        f"{NAME}\ud800+{HASH}+{KEY}",
        f"{NAME}+{HASH}+{KEY[:-1]}",
        f"{NAME}+{HASH}+{KEY}AAAA",
        f"{NAME}+{HASH}+é{KEY[1:]}",
        f"{NAME}+{HASH}+B{KEY[1:]}",  # another kind of key
        PETER[:60] + ("A" if PETER[60] != "A" else "B") + PETER[61:],
    ],
)
def test_a_mistyped_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedPolicy):
        PolicyKey.parse(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\nb", "a\u00a0b", "x" * 129, "\x7f", "\ud800"])
def test_a_name_that_no_note_can_hold_signs_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        PolicySigner(name, SIGNER.private_key).sign(MINIMAL)


def test_a_private_key_is_not_shown() -> None:
    assert "private" not in repr(SIGNER)


# --- The text -------------------------------------------------------------------------------------------------------------

HEX48, HEX32, HEX64 = "ab" * 48, "cd" * 32, "ef" * 64
SNP = f'[[releases]]\nname = "r"\ntype = "sev-snp"\nmeasurement = "{HEX48}"\n'
TDX = (
    f'[[releases]]\nname = "r"\ntype = "tdx"\nmeasurement = "{HEX48}"\nregisters = ["{HEX48}", "{HEX48}", "{HEX48}"]\n'
)
AZURE = f'[[releases]]\nname = "r"\ntype = "sev-snp-azure"\nmeasurement = "{HEX48}"\n'
B48, B32, B64 = b"\xab" * 48, b"\xcd" * 32, b"\xef" * 64
SNP_RELEASE = Release(name="r", type=CpuType.SEV_SNP, measurement=B48)
TDX_RELEASE = Release(name="r", type=CpuType.TDX, measurement=B48, registers=(B48,) * 3)

FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing more": ("", {}),
    "valid_from": ("valid_from = 2026-11-01T00:00:00Z", {"valid_from": datetime(2026, 11, 1, tzinfo=UTC)}),
    "valid_until": (
        "valid_until = 2026-11-01T02:00:00+02:00",
        {"valid_until": datetime(2026, 11, 1, tzinfo=UTC)},
    ),
    "unsafe": ('unsafe = ["UnsafeAcceptMilan"]', {"unsafe": frozenset({Weakening.UNSAFE_ACCEPT_MILAN})}),
    "a release": (SNP, {"releases": (SNP_RELEASE,)}),
    "launch data": (
        f'{SNP}launch_data = "{HEX32}"',
        {"releases": (replace(SNP_RELEASE, launch_data=B32),)},
    ),
    "a simulated release": (
        SNP.replace("sev-snp", "simulated"),
        {"releases": (replace(SNP_RELEASE, type=CpuType.SIMULATED),)},
    ),
    "registers": (TDX, {"releases": (TDX_RELEASE,)}),
    "events": (
        TDX + 'events = { compose-hash = "cd01", "os-image-hash" = "" }',
        {"releases": (replace(TDX_RELEASE, events={"compose-hash": b"\xcd\1", "os-image-hash": b""}),)},
    ),
    "pcrs": (
        f'{AZURE}pcrs = {{ 4 = "{HEX32}", 11 = "{HEX32}" }}',
        {"releases": (Release(name="r", type=CpuType.SEV_SNP_AZURE, measurement=B48, pcrs={4: B32, 11: B32}),)},
    ),
    "two releases": (SNP + TDX, {"releases": (SNP_RELEASE, TDX_RELEASE)}),
    "a floor": (
        "[amd.floors.Genoa]\nsnp = 24\nmicrocode = 84",
        {"floors": {**DEFAULT_FLOORS, Product.GENOA: Tcb(snp=24, microcode=84)}},
    ),
    "a floor of Turin": (
        "[amd.floors.Turin]\nfmc = 1\nbootloader = 2\ntee = 3\nsnp = 4\nmicrocode = 5",
        {"floors": {**DEFAULT_FLOORS, Product.TURIN: Tcb(fmc=1, bootloader=2, tee=3, snp=4, microcode=5)}},
    ),
    "a lower floor by name": (
        'unsafe = ["UnsafeLowerTcbFloors"]\n[amd.floors.Genoa]\nsnp = 1',
        {
            "floors": {**DEFAULT_FLOORS, Product.GENOA: Tcb(snp=1)},
            "unsafe": frozenset({Weakening.UNSAFE_LOWER_TCB_FLOORS}),
        },
    ),
    "chips": (f'[amd]\nchips = ["{HEX64}"]', {"chips": frozenset({B64})}),
    "platforms": (f'[intel]\nplatforms = ["{HEX32[:32]}"]', {"chips": frozenset({B32[:16]})}),
    "chips and platforms": (
        f'[amd]\nchips = ["{HEX64}"]\n[intel]\nplatforms = ["{HEX32[:32]}"]',
        {"chips": frozenset({B64, B32[:16]})},
    ),
    "an open table": ("[amd]\n[intel]\n[devices]\n[collateral]", {}),
    "gpus and switches": ("[devices]\ngpus = 8\nswitches = 4", {"gpus": 8, "switches": 4}),
    "ids": (f'[devices]\nids = ["{HEX32}"]', {"devices": frozenset({B32})}),
    "drivers": ('[devices]\ndrivers = ["590.12", "590.13"]', {"drivers": frozenset({"590.12", "590.13"})}),
    "vbioses": ('[devices]\nvbioses = ["96.00.A5.00.01"]', {"vbioses": frozenset({"96.00.A5.00.01"})}),
    "max_age_days": ("[collateral]\nmax_age_days = 7", {"collateral_age": timedelta(days=7)}),
    "older collateral by name": (
        'unsafe = ["UnsafeOlderCollateral"]\n[collateral]\nmax_age_days = 31',
        {"collateral_age": timedelta(days=31), "unsafe": frozenset({Weakening.UNSAFE_OLDER_COLLATERAL})},
    ),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_read_for_what_it_says(field: str) -> None:
    text, expected = FIELDS[field]
    assert parse_policy_text(MINIMAL + text) == Policy(name="small", **expected)


MALFORMED: dict[str, str] = {
    # An empty list could be meant as "none" and be read as "any".
    "no chip at all": MINIMAL + "[amd]\nchips = []",
    "no platform at all": MINIMAL + "[intel]\nplatforms = []",
    "no device at all": MINIMAL + "[devices]\nids = []",
    "no driver at all": MINIMAL + "[devices]\ndrivers = []",
    "no VBIOS at all": MINIMAL + "[devices]\nvbioses = []",
    "more devices than a document holds": MINIMAL + "[devices]\ngpus = 33",
    "a number that has no end": MINIMAL + "[devices]\ngpus = 0x" + "f" * 20_000,
    "a level of more than one byte": MINIMAL + "[amd.floors.Genoa]\nsnp = 256",
    "a name of many parts": MINIMAL + ".".join("a" * 9) + " = 1",
    "a name of many parts, quoted": MINIMAL + '"=" . ' + " . ".join("a" * 9) + " = 1",
    "no TOML": MINIMAL + "[",
    "deeply nested": MINIMAL + "a = " + "[" * 5000,
    "no version": 'name = "small"',
    "another version": 'policy = 2\nname = "small"',
    "a version that is true": 'policy = true\nname = "small"',
    "a version that is no whole number": 'policy = 1.0\nname = "small"',
    "a version in quotes": 'policy = "1"\nname = "small"',
    "no name": "policy = 1",
    "an empty name": 'policy = 1\nname = ""',
    "a long name": f'policy = 1\nname = "{"x" * 129}"',
    "a name over two lines": 'policy = 1\nname = "a\\nb"',
    "a name that is a number": "policy = 1\nname = 1",
    "an unknown member": MINIMAL + 'unsave = ["UnsafeAcceptMilan"]',
    "a time without a zone": MINIMAL + "valid_until = 2026-11-01T00:00:00",
    "a date alone": MINIMAL + "valid_until = 2026-11-01",
    "a time in quotes": MINIMAL + 'valid_until = "2026-11-01T00:00:00Z"',
    "an unknown exception": MINIMAL + 'unsafe = ["UnsafeEverything"]',
    "an exception that is no name": MINIMAL + "unsafe = [[]]",
    "exceptions that are no list": MINIMAL + 'unsafe = "UnsafeAcceptMilan"',
    "no exceptions that are no list": MINIMAL + 'unsafe = ""',
    "releases that are no list": MINIMAL + '[releases]\nname = "r"',
    "a release that is no table": MINIMAL + "releases = [1]",
    "an unknown member of a release": MINIMAL + SNP + 'image = "x"',
    "a release without a name": MINIMAL + SNP.replace('name = "r"\n', ""),
    "a release without a type": MINIMAL + SNP.replace('type = "sev-snp"\n', ""),
    "a release of an unknown type": MINIMAL + SNP.replace("sev-snp", "sev"),
    "a release without a measurement": MINIMAL + SNP.replace("measurement", "# measurement"),
    "a measurement that is too short": MINIMAL + SNP.replace(HEX48, HEX48[2:]),
    "a measurement that is not hex": MINIMAL + SNP.replace(HEX48, "x" + HEX48[1:]),
    "a measurement that is a number": MINIMAL + SNP.replace(f'"{HEX48}"', "1"),
    "registers that are no list": MINIMAL + TDX.replace(f'["{HEX48}", "{HEX48}", "{HEX48}"]', f'"{HEX48}"'),
    "two registers": MINIMAL + TDX.replace(f', "{HEX48}"]', "]"),
    "events that are no table": MINIMAL + TDX + "events = []",
    "a payload that is not hex": MINIMAL + TDX + 'events = { compose-hash = "0" }',
    "registers of a TPM on SEV-SNP": f'{MINIMAL}{SNP}pcrs = {{ 4 = "{HEX32}" }}',
    "a register that no TPM has": f'{MINIMAL}{AZURE}pcrs = {{ 24 = "{HEX32}" }}',
    "a register in another spelling": f'{MINIMAL}{AZURE}pcrs = {{ 4 = "{HEX32}", 04 = "{HEX32}" }}',
    "a register that is no number": f'{MINIMAL}{AZURE}pcrs = {{ x = "{HEX32}" }}',
    "launch data of the wrong size": f'{MINIMAL}{SNP}launch_data = "{HEX48}"',
    "an unknown product": MINIMAL + "[amd.floors.Naples]\nsnp = 1",
    "an unknown part of a floor": MINIMAL + "[amd.floors.Genoa]\nmicrocde = 84",
    "a floor that is no table": MINIMAL + "[amd.floors]\nGenoa = 23",
    "a floor that is true": MINIMAL + "[amd.floors.Genoa]\nsnp = true",
    "a negative floor": MINIMAL + "[amd.floors.Turin]\nsnp = -1",
    "a lower floor": MINIMAL + "[amd.floors.Genoa]\nsnp = 22",
    "an unknown member of amd": MINIMAL + "[amd]\nchip = []",
    "amd that is no table": MINIMAL + "amd = []",
    "amd that is a number": MINIMAL + "amd = 1",
    "chips that are no list": f'{MINIMAL}[amd]\nchips = "{HEX64}"',
    "an empty id of a chip": MINIMAL + '[amd]\nchips = [""]',
    "an empty id of a platform": MINIMAL + '[intel]\nplatforms = [""]',
    "an unknown member of intel": MINIMAL + "[intel]\nplatform = []",
    "an unknown member of devices": MINIMAL + "[devices]\ngpu = 1",
    "a negative number of devices": MINIMAL + "[devices]\ngpus = -1",
    "half a device": MINIMAL + "[devices]\ngpus = 0.5",
    "a truth for a number": MINIMAL + "[devices]\ngpus = true",
    "an id of a device that is too short": MINIMAL + '[devices]\nids = ["00"]',
    "drivers that are no list": MINIMAL + '[devices]\ndrivers = ""',
    "a driver that is a number": MINIMAL + "[devices]\ndrivers = [590.12]",
    "vbioses that are no list": MINIMAL + '[devices]\nvbioses = "96"',
    "an unknown member of collateral": MINIMAL + "[collateral]\nmax_age = 1",
    "older collateral": MINIMAL + "[collateral]\nmax_age_days = 31",
    "an age beyond the calendar": MINIMAL
    + "unsafe = ['UnsafeOlderCollateral']\n[collateral]\nmax_age_days = 99999999999999999999",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_policy_is_refused(what: str) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy_text(MALFORMED[what])


REASONS = {
    MINIMAL + ".".join("a" * 10) + " = 1": "a name in the policy has too many parts",
    MINIMAL + '"=" . ' + " . ".join("a" * 9) + " = 1": "a name in the policy has too many parts",
    MINIMAL + 'unsafe = ["UnsafeEverything"]': "the policy has an exception whose name is unknown",
    MINIMAL + "valid_until = 2026-11-01": "a time in the policy is not of the form 2026-11-25T00:00:00Z",
    MINIMAL + 'valid_until = "tomorrow"': "a time in the policy is not of the form 2026-11-25T00:00:00Z",
    "policy = 2": "the policy is of another version than 1",
}


@pytest.mark.parametrize("text", REASONS)
def test_a_refusal_says_in_plain_words_what_has_to_be_mended(text: str) -> None:
    with pytest.raises(MalformedPolicy) as refusal:
        parse_policy_text(text)
    assert str(refusal.value) == REASONS[text]


def test_a_refusal_names_the_member_and_no_more_of_it_than_a_name_has() -> None:
    with pytest.raises(MalformedPolicy, match=r"^the policy has a member that is not known: 'unsave'$"):
        parse_policy_text(MINIMAL + "unsave = 1")
    with pytest.raises(MalformedPolicy, match=r"^the policy lacks the member 'name'$"):
        parse_policy_text("policy = 1")
    with pytest.raises(MalformedPolicy) as refusal:
        parse_policy_text(f"{MINIMAL}{'x' * 1000} = 1")
    assert len(str(refusal.value)) < 200


members = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("valid_from", "unsafe", "releases", "amd", "intel", "devices", "collateral")


@given(name=st.sampled_from(NAMES), value=members)
def test_a_member_of_another_form_is_refused_in_one_way(name: str, value: object) -> None:
    try:
        policy = parse_policy_text(f"{MINIMAL}{name} = {_toml(value)}")
    except MalformedPolicy:
        return
    assert policy in (Policy(name="small"), Policy(name="small", chips=frozenset()))


def _toml(value: object) -> str:
    match value:
        case None:
            return "1979-05-27"
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())} }}"
    return str(value)


# --- The template ---------------------------------------------------------------------------------------------------------


def test_the_template_is_a_strict_policy_as_it_stands() -> None:
    policy = parse_policy_text(TEMPLATE)
    assert policy.unsafe == frozenset()
    assert policy.floors == DEFAULT_FLOORS
    assert (policy.chips, policy.devices, policy.gpus, policy.switches) == (None, None, 0, 0)
    assert policy.collateral_age == timedelta(days=30)
    assert [(release.type, release.measurement) for release in policy.releases] == [(CpuType.SEV_SNP, bytes(48))]
    assert parse_policy(SIGNER.sign(TEMPLATE).encode(), SIGNER.key) == policy


def test_the_template_names_every_member_and_every_exception_that_a_file_can_have() -> None:
    words = set(TEMPLATE.replace("#", " ").replace(",", " ").replace(".", " ").replace("[", " ").split())
    known = {
        "chips",
        "platforms",
        "ids",
        "drivers",
        "vbioses",
        "registers",
        "events",
        "pcrs",
        "launch_data",
        "max_age_days",
    }
    assert known <= words
    assert set(Weakening) - {Weakening.UNSAFE_UNSIGNED_POLICY} <= words
    assert tomllib.loads(TEMPLATE).keys() == {
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
