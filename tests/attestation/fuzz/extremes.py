"""The largest inputs that a verifier takes, each in a shape that makes a careless parser slow.

Whoever makes evidence also chooses what it costs to read. An algorithm whose work grows with the square of its input shows at these
sizes: a mebibyte squared is hours.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from attestation import limits
from attestation.collecting.certificates import MAX_FILE
from attestation.collecting.dstack import MAX_ANSWER
from attestation.collecting.tsm import MAX_AUXBLOB
from attestation.fetching import cache
from attestation.fetching.intel import MAX_ENVELOPE
from attestation.parsing.azure import HclReport
from tests.attestation import machines
from tests.attestation.authority import amd, azure, eventlog, intel, nvidia
from tests.attestation.authority.nvidia import der

Shape = Callable[[int], bytes]  # from a size in bytes to an input that is not larger, but nearly so

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def filled(head: bytes, part: bytes, tail: bytes = b"") -> Shape:
    """``part`` as often as there is room between ``head`` and ``tail``."""
    return lambda size: head + part * ((size - len(head) - len(tail)) // len(part)) + tail


def numbered(head: bytes, part: str, tail: bytes = b"") -> Shape:
    """As :func:`filled`, but each part has a number of its own, in place of its ``@``."""

    def shape(size: int) -> bytes:
        parts, room = [], size - len(head) - len(tail)
        for number in range(size):
            parts.append(part.replace("@", str(number)).encode())
            room -= len(parts[-1])
            if room < 0:
                return head + b"".join(parts[:-1]) + tail
        raise AssertionError("a part takes room")

    return shape


def nested(opening: bytes, inner: bytes, closing: bytes) -> Shape:
    """As deep as there is room."""

    def shape(size: int) -> bytes:
        depth = (size - len(inner)) // (len(opening) + len(closing))
        return opening * depth + inner + closing * depth

    return shape


JSON: Final[dict[str, Shape]] = {
    "lists in lists": nested(b"[", b"", b"]"),
    "objects in objects": nested(b'{"a":', b"1", b"}"),
    "a list that does not end": filled(b"", b"["),
    "empty lists": filled(b'{"a":[', b"[],", b"0]}"),
    "empty objects": filled(b'{"a":[', b"{},", b"0]}"),
    "one long number": filled(b'{"a":', b"1", b"}"),
    "one long fraction": filled(b'{"a":1.', b"1", b"}"),
    "long numbers": filled(b'{"a":[', b"1" * 4000 + b",", b"0]}"),
    "one long text": filled(b'{"a":"', b"a", b'"}'),
    "one text of escapes": filled(b'{"a":"', b"\\u00e9", b'"}'),
    "one text of quotes": filled(b'{"a":"', b'\\"', b'"}'),
    "one name many times": filled(b"{", b'"a":1,', b'"a":1}'),
    "many names": numbered(b"{", '"@":1,', b'"a":1}'),
    "white space": filled(b"{", b" ", b"}"),
}
"""Shapes of any JSON."""


def _resized(template: dict[str, object], path: tuple[str, ...], part: str) -> Shape:
    """``template`` with the text at ``path`` as long as there is room."""

    def shape(size: int) -> bytes:
        document = json.loads(json.dumps(template))
        place = document
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = ""
        room = size - len(json.dumps(document, separators=(",", ":")))
        place[path[-1]] = part * (room // len(part))
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

    return shape


def _event_log(events: Callable[[bytes], bytes]) -> Shape:
    empty = eventlog.event_log([], area=0x60).data.rstrip(b"\xff")
    return lambda size: filled(empty, events(bytes(48)))(size)


def _event(digest: bytes) -> bytes:
    return b"\1\0\0\0\4\0\0\0\1\0\0\0\x0c\0" + digest + bytes(4)


def _dstack(name: str) -> Shape:
    (entry,) = json.loads(eventlog.runtime_log([(name, b"")], stripped=True).text)
    return filled(b"[", json.dumps(entry, separators=(",", ":")).encode() + b",", json.dumps(entry).encode() + b"]")


def _rim(find: bytes, shape: Callable[[bytes], Shape], kind: nvidia.Kind = "driver") -> Shape:
    """A genuine manifest, changed after it was signed: where ``find`` first stands, ``shape`` fills what room is left."""

    def changed(size: int) -> bytes:
        rim = next(rim for rim in machines.rims("hopper") if kind)
        head, found, tail = rim.partition(find)
        assert found
        return head + shape(found)(size - len(head) - len(tail)) + tail

    return changed


def _namespaces(found: bytes) -> Shape:
    return numbered(found + b" ", 'xmlns:n@="urn:n" ')


def _bomb(size: int) -> bytes:
    """Namespaces and elements, both many: canonical XML asks for each element which of the namespaces are in force."""
    rim = machines.rims("hopper")[0]
    head, found, tail = rim.partition(b"<ns0:Entity ")
    room = size - len(rim)
    return head + numbered(b"<ns0:b ", 'xmlns:n@="urn:n" ')(room // 2) + filled(b">", b"<ns0:a/>", b"</ns0:b>")(room // 2) + found + tail


def _entities(size: int) -> bytes:
    """Ten times ten times ten, and so on."""
    declared = ['<!ENTITY e0 "aaaaaaaaaa">', *(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))]
    rim = machines.rims("hopper")[0].replace(b"<ns0:Meta ", b'<ns0:Meta bomb="&e11;" ')
    return f"<!DOCTYPE SoftwareIdentity [{''.join(declared)}]>".encode() + rim + b" " * (size - len(rim) - 1000)


def _certificate(size: int) -> bytes:
    """As many extensions as there is room for."""
    issued = machines.vcek()[0]
    extension = der(0x30, der(6, b"\x2a\x03"), der(4, b""))
    start = issued.index(b"\xa3", 200)
    return _replaced_extensions(issued, start, [extension] * ((size - start - 600) // len(extension)))


def _replaced_extensions(certificate: bytes, start: int, extensions: list[bytes]) -> bytes:
    inner_start = re.search(rb"\x30\x82..\xa0\x03\x02\x01\x02", certificate, re.DOTALL)
    assert inner_start is not None
    body = certificate[inner_start.start() + 4 : start]
    algorithm = body[body.index(b"\x30\x41") : body.index(b"\x30\x41") + 67]
    return der(0x30, der(0x30, body, der(0xA3, der(0x30, *extensions))), algorithm, der(3, b"\0", bytes(512)))


def _crl(size: int) -> bytes:
    serials = range(1 << 40, (1 << 40) + size // 23)
    return machines.amd_authority().crl(list(serials))


def _ocsp(size: int) -> bytes:
    """One statement many times, in an answer that nobody signed."""
    answer = machines.nvidia_collateral([machines.gpu()]).ocsp_responses[0]
    from cryptography.x509 import ocsp  # noqa: PLC0415

    body = ocsp.load_der_ocsp_response(answer).tbs_response_bytes
    raise NotImplementedError(body, size)


def _device_report(size: int) -> bytes:
    """Opaque fields without content, each with a number of its own."""
    count = min(size - 14000, 0xFFFF) // 4
    device = machines.device("hopper", 0)
    blocks = [(index, bytes(48)) for index in range(1, 256)]
    return nvidia.report_body(bytes(32), bytes(32), blocks, [(number, b"") for number in range(count)]) + bytes(96) if device else b""
