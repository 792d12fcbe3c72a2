"""Every certificate and revocation list at hand: those of the authorities, and the recorded ones if they are there."""

import functools
import json
import re

from attestation.parsing.certificate import certificates_from_pem
from tests.attestation.authority.amd import PRODUCTS, AmdAuthority
from tests.attestation.authority.intel import MONTH, IntelAuthority, crl
from tests.attestation.authority.nvidia import FAMILIES, nvidia_authority
from tests.attestation.vectors import PRESENT, entries

_PEM = re.compile(rb"(?:-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+")


@functools.cache
def intel_authority() -> IntelAuthority:
    """One authority for the whole process."""
    return IntelAuthority()


@functools.cache
def certificates() -> tuple[bytes, ...]:
    """DER, each once."""
    found: list[bytes] = []
    for product in PRODUCTS:
        amd = AmdAuthority(product)
        found += [amd.root, amd.ask, amd.asvk, amd.vcek()[0], amd.vlek()[0]]
    intel = intel_authority()
    found += [one.der for one in (intel.root_ca, intel.platform_ca, intel.tcb_signing, intel.pck)]
    nvidia = nvidia_authority()
    for arch in FAMILIES:
        found += [*nvidia.device(arch).chain, *nvidia.rim_signer(arch).chain]
    return tuple(dict.fromkeys(found + recorded_certificates()))


def recorded_certificates() -> list[bytes]:
    """Those of AMD, Intel and NVIDIA in the recorded evidence; none if it is not there."""
    found: list[bytes] = []
    for recorded in entries().values() if PRESENT else ():
        for role in ("vcek", "vcek_and_chain", "chain", "trust_anchor", "quote", "collateral"):
            for data in recorded.read_all(role):
                texts = _PEM.findall(data.replace(b"\\n", b"\n"))
                found += [der for text in texts for der in certificates_from_pem(text)]
                found += [data] if role == "vcek" and not texts else []
    return found


@functools.cache
def revocation_lists() -> tuple[bytes, ...]:
    """DER."""
    amd, intel = AmdAuthority("Genoa"), intel_authority()
    found = [amd.crl(), amd.crl([0, 1, 0x020002], next_update=None)]
    found += [crl(intel.root_ca, valid=MONTH, revoked=revoked) for revoked in ((), (1,), range(1, 300))]
    for recorded in entries().values() if PRESENT else ():
        for data in recorded.read_all("collateral") + recorded.read_all("collateral_joined"):
            if data.startswith(b"{") and b"pck_crl" in data:
                members = json.loads(data)
                found += [bytes.fromhex(members[name]) for name in ("root_ca_crl", "pck_crl")]
            elif data.startswith(b"\x30"):
                found.append(data)
    return tuple(dict.fromkeys(found))
