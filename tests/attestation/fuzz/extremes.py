"""The largest inputs that a verifier takes, each in a shape that makes a careless parser slow or hungry.

Whoever makes evidence also chooses what it costs to read. Work that grows with the square of the input shows at these sizes: it is
minutes, or hours, where everything else is well below a second.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Final

from tests.attestation import machines
from tests.attestation.authority import eventlog, nvidia
from tests.attestation.authority.nvidia import der
from tests.attestation.fuzz.mutations import elements, exchanged
from tests.attestation.fuzz.targets import TARGETS, chained

Shape = Callable[[int], bytes]  # from a size in bytes to an input that is nearly so large, and not larger

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def filled(head: bytes, part: bytes, tail: bytes = b"") -> Shape:
    """``part`` as often as there is room between ``head`` and ``tail``."""
    return lambda size: head + part * ((size - len(head) - len(tail)) // len(part)) + tail


def numbered(head: bytes, part: str, tail: bytes = b"") -> Shape:
    """As :func:`filled`, but each part has a number of its own, in place of its ``@``."""

    def shape(size: int) -> bytes:
        parts: list[bytes] = []
        room = size - len(head) - len(tail)
        while (room := room - len(following := part.replace("@", str(len(parts))).encode())) >= 0:
            parts.append(following)
        return head + b"".join(parts) + tail

    return shape


def nested(opening: bytes, closing: bytes, head: bytes = b"", tail: bytes = b"") -> Shape:
    """As deep as there is room."""

    def shape(size: int) -> bytes:
        depth = (size - len(head) - len(tail)) // len(opening + closing)
        return head + opening * depth + closing * depth + tail

    return shape


def smaller(shape: Shape, by: int) -> Shape:
    """Where the smaller size already takes minutes if something is wrong."""
    return lambda size: shape(size // by)


# --- JSON ------------------------------------------------------------------------------------------------------------------

_JSON: Final[Mapping[str, Shape]] = {
    "lists in lists": nested(b"[", b"]"),
    "objects in objects": nested(b'{"a":', b"}", tail=b" "),
    "a list that does not end": filled(b"", b"["),
    "empty lists": filled(b'{"a":[', b"[],", b"0]}"),
    "lists of one": filled(b'{"a":[', b"[[]],", b"0]}"),
    "empty objects": filled(b'{"a":[', b"{},", b"0]}"),
    "one long number": filled(b'{"a":', b"1", b"}"),
    "one long fraction": filled(b'{"a":1.', b"1", b"}"),
    "long numbers": filled(b'{"a":[', b"1" * 4000 + b",", b"0]}"),
    "one long text": filled(b'{"a":"', b"a", b'"}'),
    "escapes": filled(b'{"a":"', b"\\u00e9", b'"}'),
    "one name many times": filled(b"{", b'"a":1,', b'"a":1}'),
    "many names": numbered(b"{", '"@":1,', b'"a":1}'),
    "white space": filled(b"{", b" ", b"}"),
}


def _dstack(name: str) -> Shape:
    (entry,) = json.loads(eventlog.runtime_log([(name, b"")], stripped=True).text)
    text = json.dumps(entry, separators=(",", ":")).encode()
    return filled(b"[", text + b",", text + b"]")


def _firmware(data: bytes) -> Shape:
    """Events of register 0 with ``data``."""
    head = eventlog.event_log([], area=0x100).data.rstrip(b"\xff")
    event = b"\1\0\0\0\4\0\0\0\1\0\0\0\x0c\0" + bytes(48) + len(data).to_bytes(4, "little") + data
    return filled(head, event)


def _azure_key(size: int) -> bytes:
    """A key of the virtual TPM as large as there is room."""
    claims = json.loads(TARGETS["azure-claims"]().seeds[0])
    claims["keys"][0]["n"] = base64.urlsafe_b64encode(b"\xff" * (size // 2)).decode()
    return json.dumps(claims).encode()


def _tcb_levels(size: int) -> bytes:
    (text,) = TARGETS["appraise-tcb-info-signed"]().seeds
    members = json.loads(text)
    levels = members["tcbLevels"]
    members["tcbLevels"] = levels * ((size - len(text)) // len(json.dumps(levels)))
    return json.dumps(members).encode()


# --- PEM, DER and tables ---------------------------------------------------------------------------------------------------

_PEM: Final[Mapping[str, Shape]] = {
    "white space and no end": filled(BEGIN, b" "),
    "lines and no end": filled(BEGIN, b"\n"),
    "beginnings": filled(b"", BEGIN + b"\n"),
    "beginnings of text": filled(b"", BEGIN + b"\nAAAA"),
    "beginnings of white space": filled(b"", BEGIN + b" " * 500),
    "base64 and no end": filled(BEGIN + b"\n", b"A"),
    "one long certificate": filled(BEGIN + b"\n", b"A", b"\n" + END),
    "letters apart": filled(BEGIN + b"\n", b"A ", END),
    "empty certificates": filled(b"", BEGIN + b"\n" + END + b"\n"),
    "white space before": filled(b"", b" ", BEGIN + b"\nAAAA" + END),
    "white space behind": filled(BEGIN + b"\nAAAA" + END, b" ", b"x"),
}


def _deep(size: int) -> bytes:
    """Sequences in sequences."""
    data = b""
    while len(data) + 6 <= min(size, 16 * 1024):
        data = der(0x30, data)
    return data


def _refilled(name: str, seed: int, path: tuple[int, ...], part: bytes) -> Shape:
    """A seed of a target, DER, with as many copies of ``part`` in the element at ``path`` as there is room for."""

    def shape(size: int) -> bytes:
        data = TARGETS[name]().seeds[seed]
        return exchanged(data, path, part * ((size - len(data) - 256) // len(part)))

    return shape


_EXTENSION = der(0x30, der(6, b"\x2a\x03"), der(4))
_WITHDRAWN = (der(2, b"\1"), der(0x17, b"260101000000Z"))
_DER: Final[Mapping[str, Shape]] = {
    "sequences in sequences": _deep,
    "empty sequences": lambda size: der(0x30, b"\x30\0" * ((size - 8) // 2)),
}


def _statements(size: int) -> bytes:
    """One statement many times."""
    body, *_ = TARGETS["ocsp-answer-signed"]().seeds
    statement = elements(body)[0].elements[2].elements[0].encode()
    return exchanged(body, (0, 2), statement * ((size - 1800) // len(statement)))  # signature and certificate need room


def _table(size: int) -> bytes:
    """Every entry is of the whole rest."""
    entries = b"".join(
        bytes([kind]) * 16 + (33 * 24).to_bytes(4, "little") + (size - 33 * 24).to_bytes(4, "little")
        for kind in range(1, 33)
    )
    return (entries + bytes(24)).ljust(size, b"-")


def _device_report(size: int) -> bytes:
    """All measurements, and opaque fields without content, each with a number of its own."""
    blocks = [(index, bytes(48)) for index in range(1, 256)]
    report = nvidia.report_body(bytes(32), bytes(32), blocks, ()) + bytes(nvidia.SIGNATURE_BYTES)
    room = min(size - len(report), 0xFFFF) // 4
    return (
        nvidia.report_body(bytes(32), bytes(32), blocks, [(number, b"") for number in range(room)])
        + report[-nvidia.SIGNATURE_BYTES :]
    )


def _with_chain(shape: Shape) -> Shape:
    """A quote with another chain in PEM."""

    def quote(size: int) -> bytes:
        genuine, *_ = TARGETS["quote"]().seeds
        return chained(genuine, shape(size - 2048))

    return quote


# --- Manifests -------------------------------------------------------------------------------------------------------------


def _manifest(find: bytes, shape: Shape, *, head: bytes = b"") -> Shape:
    """A genuine manifest, changed after it was signed: ``head`` and then ``shape`` stand before the first ``find``."""

    def changed(size: int) -> bytes:
        before, found, behind = machines.rims("hopper")[0].partition(find)
        return before + head + shape(size - len(before + head + found + behind)) + found + behind

    return changed


def _namespaces_and_elements(size: int) -> bytes:
    """Canonical XML asks for each element which of the namespaces are in force."""
    start = numbered(b"<ns0:b ", 'xmlns:n@="urn:n" ', b">")(size // 2)
    return start + filled(b"", b"<ns0:a/>", b"</ns0:b>")(size // 2)


def _entities(size: int) -> bytes:
    """Ten of ten of ten, and so on."""
    declared = ['<!ENTITY e0 "aaaaaaaaaa">', *(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))]
    manifest = machines.rims("hopper")[0].replace(b"<ns0:Meta ", b'<ns0:Meta bomb="&e11;" ')
    return (f"<!DOCTYPE SoftwareIdentity [{''.join(declared)}]>".encode() + manifest).ljust(size)


_ATTRIBUTES = " ".join(f'a{number}=""' for number in range(100))
_MANIFEST: Final[Mapping[str, Shape]] = {
    "namespaces": _manifest(b'xmlns="', numbered(b"", 'xmlns:n@="urn:n" ')),
    "few namespaces and many elements": _manifest(
        b"<ns0:Entity ",
        lambda size: (
            numbered(b"<ns0:b ", 'xmlns:n@="urn:n" ', b">")(1000) + filled(b"", b"<ns0:a/>", b"</ns0:b>")(size - 1000)
        ),
    ),
    "namespaces and elements": smaller(_manifest(b"<ns0:Entity ", _namespaces_and_elements), 8),
    "attributes": _manifest(b'xmlns="', numbered(b"", 'a@="" ')),
    "attributes in namespaces": _manifest(b'xmlns="', numbered(b"", 'xmlns:n@="urn:n@" n@:a="" ')),
    "elements": _manifest(b"<ns0:Entity ", filled(b"", b"<a/>")),
    "elements with namespaces": _manifest(b"<ns0:Entity ", filled(b"", b'<a xmlns="urn:a"/>')),
    "elements with attributes": _manifest(b"<ns0:Entity ", filled(b"", f"<a {_ATTRIBUTES}/>".encode())),
    "elements in elements": _manifest(b"<ns0:Entity ", nested(b"<a>", b"</a>")),
    "elements in a signature": _manifest(b"<ds:SignedInfo>", filled(b"", b"<a/>")),
    "text": _manifest(b"<ns0:Entity ", filled(b"", b"a")),
    "references to characters": _manifest(b"<ns0:Entity ", filled(b"", b"&#13;")),
    "comments": _manifest(b"<ns0:Entity ", filled(b"", b"<!---->")),
    "resources": _manifest(b"<ns0:Resource ", filled(b"", b'<ns0:Resource index="1" active="False"/>')),
    "signatures": _manifest(b"<ns0:Entity ", filled(b"", f'<Signature xmlns="{nvidia.DSIG}"/>'.encode())),
    "certificates": _manifest(b"<ds:X509Certificate>", filled(b"", b"<ds:X509Certificate/>")),
    "identifiers": _manifest(b"<ns0:Entity ", numbered(b"", '<a xml:id="i@"/>')),
    "entities": _entities,
    "declared attributes": lambda size: numbered(
        b"<!DOCTYPE SoftwareIdentity [", '<!ATTLIST a b@ CDATA "">', b"]><SoftwareIdentity/>"
    )(size),
}

# --- Policies --------------------------------------------------------------------------------------------------------------

_HEAD = b'policy = 1\nname = "a"\n'
_POLICY: Final[Mapping[str, Shape]] = {
    "a name of many parts": smaller(filled(_HEAD + b"a", b".a", b" = 1"), 4),
    "members of a name of many parts": smaller(
        lambda size: numbered(filled(_HEAD + b"[a", b".a", b"]\n")(size // 2), "a@=1\n")(size), 4
    ),
    "a name of many parts in quotes": filled(_HEAD + b"a", b'."\\""', b" = 1"),
    "names of many parts": numbered(_HEAD, f"a@{'.a' * 100} = 1\n"),
    "lists in lists": nested(b"[", b"]", _HEAD + b"a = "),
    "tables in tables": nested(b"{a=", b"}", _HEAD + b"a = "),
    "numbers": filled(_HEAD + b"a = [", b"1,", b"]"),
    "releases": filled(_HEAD, b"[[releases]]\n"),
    "tables": numbered(_HEAD, "[a@]\n"),
    "one long number": filled(_HEAD + b"a = ", b"1"),
    "one long hexadecimal number": filled(_HEAD + b"a = 0x", b"1"),
    "one long fraction": filled(_HEAD + b"a = 1.", b"1"),
    "one long text": filled(_HEAD + b'a = "', b"a", b'"'),
    "escapes": filled(_HEAD + b'a = "', b"\\u00e9", b'"'),
    "escaped quotes": filled(_HEAD + b'a = "', b'\\"', b'"'),
    "escaped quotes and no end": filled(_HEAD + b'a = "', b'\\"'),
    "quotes": filled(_HEAD + b'a = """', b'a""', b'"""'),
    "comments": filled(_HEAD, b"#\n"),
    "empty lines": filled(_HEAD, b"\n"),
    "times": filled(_HEAD + b"a = [", b"2026-11-01T00:00:00Z,", b"]"),
    "chips": numbered(_HEAD + b"[amd]\nchips = [", '"@",', b"]"),
}

_TEXTS = (
    "evidence-document",
    "event-log",
    "azure-claims",
    "envelope",
    "kept-answer",
    "intel-statement-dates",
    "fetched-manifest",
)

EXTREMES: Final[Mapping[str, Mapping[str, Shape]]] = {
    **dict.fromkeys(_TEXTS, _JSON),
    "bundle": {name: _JSON[name] for name in ("empty lists", "lists in lists")},
    "dstack-answer": {name: _JSON[name] for name in ("empty lists", "one long text", "lists in lists")},
    "event-log": {
        **_JSON,
        "small events of firmware": _firmware(b""),
        "large events of firmware": _firmware(bytes(4096)),
        "small events of dstack": _dstack("a"),
        "large events of dstack": _dstack("a" * 4096),
        "unwritten": filled(eventlog.event_log().data, b"\xff"),
    },
    "azure-claims": {**_JSON, "a large key": _azure_key},
    "appraise-tcb-info-signed": {**_JSON, "levels": _tcb_levels},
    "pem": _PEM,
    "fetched-pem": _PEM,
    "collected-pem": _PEM,
    "quote": {"a chain of white space": _with_chain(_PEM["white space and no end"])},
    "appraise-quote": {name: _with_chain(shape) for name, shape in _PEM.items()},
    "certificate": {
        **_DER,
        "extensions": _refilled("certificate", 0, (0, 0, 7, 0), _EXTENSION),
        "a large serial number": _refilled("certificate", 0, (0, 0, 1), b"\x7f"),
        "a long identifier": _refilled("certificate", 0, (0, 0, 7, 0, 0, 0), b"\x7f"),
        "a large key": _refilled("certificate", 0, (0, 0, 6, 1), b"\0"),
    },
    "crl": _DER,
    "crl-signed": {
        "entries": _refilled("crl-signed", 1, (0, 5), der(0x30, *_WITHDRAWN)),
        "extensions of entries": _refilled("crl-signed", 1, (0, 5), der(0x30, *_WITHDRAWN, der(0x30, _EXTENSION * 50))),
        "a large serial number": _refilled("crl-signed", 1, (0, 5, 0, 0), b"\x7f"),
    },
    "ocsp-answer": _DER,
    "ocsp-answer-signed": {"statements": _statements},
    "fetched-der": _DER,
    "certificate-table": {"entries of everything": _table},
    "device-report": {"measurements and fields": _device_report},
    "hcl-report": {"padding": lambda size: TARGETS["hcl-report"]().seeds[0].ljust(size, b"\0")},
    "manifest": _MANIFEST,
    "policy-text": _POLICY,
    "policy-note-unsigned": _POLICY,
}
"""By target and shape."""
