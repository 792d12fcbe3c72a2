"""Collateral: what vendors say beside the evidence. Certificates, revocation lists, TCB information, reference manifests.

It comes from a cache, a bundle or the network (``attestation.fetching``), and is trusted for nothing until its own signatures
lead to a pinned root. RFC 9334 calls it endorsements and reference values.
"""

from dataclasses import dataclass, field

from attestation.encoding import as_list, as_object, from_base64, to_base64
from attestation.errors import MalformedCollateral, MalformedEvidence
from attestation.limits import (
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    MAX_CRL,
    MAX_OCSP,
    MAX_OCSPS,
    MAX_RIM,
    MAX_RIMS,
    MAX_TCB_INFO,
)

_INTEL_TEXTS = ("pck_crl_issuer_chain", "qe_identity", "qe_identity_issuer_chain", "tcb_info", "tcb_info_issuer_chain")
_INTEL_BYTES = ("pck_crl", "qe_identity_signature", "root_ca_crl", "tcb_info_signature")


@dataclass(frozen=True, slots=True)
class IntelCollateral:
    """Intel's nine parts for one family of platforms, as its provisioning service gives them.

    Chains are PEM; revocation lists DER; ``tcb_info`` and ``qe_identity`` the exact JSON texts that are signed; signatures are
    64 bytes, r then s. Source: Intel SGX and TDX Provisioning Certification Service API, version 4.
    """

    pck_crl_issuer_chain: str = field(repr=False)
    root_ca_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)
    tcb_info_issuer_chain: str = field(repr=False)
    tcb_info: str = field(repr=False)
    tcb_info_signature: bytes = field(repr=False)
    qe_identity_issuer_chain: str = field(repr=False)
    qe_identity: str = field(repr=False)
    qe_identity_signature: bytes = field(repr=False)

    def members(self) -> dict[str, object]:
        """The JSON members."""
        return {
            **{name: getattr(self, name) for name in _INTEL_TEXTS},
            **{name: to_base64(getattr(self, name)) for name in _INTEL_BYTES},
        }

    @classmethod
    def read(cls, value: object) -> "IntelCollateral":
        """Undo :meth:`members`.

        Raises:
            MalformedEvidence: a member is missing, of another type, or too large.
        """
        members = as_object(value)
        texts = {name: _text(members.get(name)) for name in _INTEL_TEXTS}
        parts = {name: _bounded(members.get(name), MAX_CRL) for name in _INTEL_BYTES}
        return cls(**texts, **parts)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Collateral:
    """Everything that an appraisal may need; what a machine does not need stays empty.

    ``amd_certificates`` and ``amd_crls`` are DER (AMD's key distribution service); ``rims`` are NVIDIA's reference integrity
    manifests in XML; ``ocsp_responses`` DER (RFC 6960).
    """

    amd_certificates: tuple[bytes, ...] = field(default=(), repr=False)
    amd_crls: tuple[bytes, ...] = field(default=(), repr=False)
    intel: IntelCollateral | None = field(default=None, repr=False)
    rims: tuple[bytes, ...] = field(default=(), repr=False)
    ocsp_responses: tuple[bytes, ...] = field(default=(), repr=False)

    def members(self) -> dict[str, object]:
        """The JSON members; what is empty is left out."""
        lists = {
            "amd_certificates": self.amd_certificates,
            "amd_crls": self.amd_crls,
            "ocsp_responses": self.ocsp_responses,
            "rims": self.rims,
        }
        members: dict[str, object] = {
            name: [to_base64(item) for item in items] for name, items in lists.items() if items
        }
        if self.intel is not None:
            members["intel"] = self.intel.members()
        return members

    @classmethod
    def read(cls, value: object) -> "Collateral":
        """Undo :meth:`members`.

        Raises:
            MalformedCollateral: a member is of another type, or too large.
        """
        try:
            members = as_object(value)
            return cls(
                amd_certificates=_list(members, "amd_certificates", MAX_CERTIFICATES, MAX_CERTIFICATE),
                amd_crls=_list(members, "amd_crls", MAX_CERTIFICATES, MAX_CRL),
                intel=IntelCollateral.read(members["intel"]) if "intel" in members else None,
                rims=_list(members, "rims", MAX_RIMS, MAX_RIM),
                ocsp_responses=_list(members, "ocsp_responses", MAX_OCSPS, MAX_OCSP),
            )
        except MalformedEvidence as error:
            raise MalformedCollateral(str(error)) from None


NO_COLLATERAL = Collateral()


def _list(members: dict[str, object], name: str, count: int, size: int) -> tuple[bytes, ...]:
    return tuple(_bounded(item, size) for item in as_list(members.get(name, []), limit=count))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedEvidence("a text of the TDX collateral is missing")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise MalformedEvidence("a text of the TDX collateral is no text") from None
    if size > MAX_TCB_INFO:
        raise MalformedEvidence("a text of the TDX collateral is too large")
    return value


def _bounded(value: object, limit: int) -> bytes:
    data = from_base64(value)
    if len(data) > limit:
        raise MalformedEvidence("a part of the collateral is too large")
    return data
