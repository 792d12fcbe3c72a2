"""Did an NVIDIA GPU or switch say this? Its chain, its signature, the early firmware that its key belongs to, and its nonce.

Source: DMTF DSP0274 (SPDM 1.1), section 10.11; TCG, DICE Attestation Architecture 1.1, section 6 (CompositeDeviceID and TcbInfo);
NVIDIA, attestation SDK, for the chains of devices.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.errors import BrokenChain, DeviceIdentityMismatch, DeviceNonceMismatch
from attestation.parsing.certificate import Certificate
from attestation.parsing.nvidia import DeviceReport, Opaque
from attestation.verification.ecdsa import verify_raw

CHAIN = 5  # certificates: firmware (leaf), device, provisioner, family, root
_DICE: Final = ("2.23.133.5.4.1", "2.23.133.5.4.1.1")  # CompositeDeviceID of Hopper and LS10; TcbInfo of Blackwell
_FWID = bytes.fromhex("06096086480165030402020430")  # OID of SHA-384, then an OCTET STRING of 48 bytes
_FWID_BYTES = 48
_ALTERNATIVE_NAME: Final = "2.5.29.17"
_DEVICE_INFO = re.compile(rb"NVIDIA:([A-Z0-9_]{1,16}):[0-9A-F]{1,32}")


def device_id(chain: Sequence[Certificate]) -> bytes:
    """What tells one device from another, 32 bytes: SHA-256 of the device key that was certified when it was made.

    The leaf's key changes with the firmware, and numbers that a guest reports can be made up; this one can be neither.
    """
    return hashlib.sha256(chain[1].public_key_der).digest()


def verify_report(report: DeviceReport, leaf: Certificate) -> None:
    """Check the report's signature.

    Raises:
        InvalidReportSignature: the leaf's key did not sign it.
    """
    verify_raw(leaf.public_key, report.r, report.s, report.signed, curve=SECP384R1, digest=SHA384())


def verify_firmware_identity(report: DeviceReport, chain: Sequence[Certificate]) -> None:
    """Check that the leaf was issued for the early firmware that the report names.

    Switches name no firmware, but themselves: their identifier is the device certificate's serial without its first byte.

    Raises:
        DeviceIdentityMismatch: it was issued for another, or the report or the certificate does not say.
    """
    leaf, device = chain[0], chain[1]
    certified = certified_fwid(leaf)
    if is_switch(leaf):
        serial = device.serial.to_bytes((device.serial.bit_length() + 7) // 8, "big", signed=False)
        if report.opaque.get(Opaque.DEVICE_IDENTIFIER) != serial[1:]:
            raise DeviceIdentityMismatch("the switch reports another identifier than its certificate has")
    elif report.fwid is None or not hmac.compare_digest(report.fwid, certified):
        raise DeviceIdentityMismatch("the device reports other early firmware than its certificate was issued for")


def certified_fwid(leaf: Certificate) -> bytes:
    """The digest of the early firmware in the leaf's DICE extension, 48 bytes: of several, the first.

    Raises:
        DeviceIdentityMismatch: the certificate has no such digest.
    """
    for oid in _DICE:
        before, _, after = leaf.extensions.get(oid, b"").partition(_FWID)
        if before.startswith(b"\x30") and len(after) >= _FWID_BYTES:
            return after[:_FWID_BYTES]
    raise DeviceIdentityMismatch("the device's certificate does not say for which early firmware it was issued")


def product(leaf: Certificate) -> str:
    """The chip's name in the leaf, as in ``GH100`` or ``LS_10``: the middle of "NVIDIA:GH100:serial" (DMTF device information).

    Raises:
        DeviceIdentityMismatch: the certificate names none.
    """
    name = _DEVICE_INFO.search(leaf.extensions.get(_ALTERNATIVE_NAME, b""))
    if name is None:
        raise DeviceIdentityMismatch("the device's certificate does not name its product")
    return name[1].decode("ascii")


def is_switch(leaf: Certificate) -> bool:
    """Whether this is a switch; whatever it is not is held to what GPUs have to prove.

    Raises:
        DeviceIdentityMismatch: the certificate names no product.
    """
    return product(leaf).startswith("LS")


def verify_nonce(report: DeviceReport, nonce: bytes) -> None:
    """Check that the device answered this challenge.

    Raises:
        DeviceNonceMismatch: it answered another.
    """
    if not hmac.compare_digest(report.nonce, nonce):
        raise DeviceNonceMismatch("the device answered another challenge")


def parse_chain(certificates: Sequence[bytes]) -> tuple[Certificate, ...]:
    """The certificates of a device, leaf first.

    Raises:
        BrokenChain: there are not five.
        MalformedCollateral: one cannot be read.
    """
    if len(certificates) != CHAIN:
        raise BrokenChain("a device's chain has five certificates")
    return tuple(Certificate.parse(certificate) for certificate in certificates)
