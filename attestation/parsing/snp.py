"""SEV-SNP attestation reports, versions 2 to 5.

Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860, revision 1.58), section 7.3 and table "ATTESTATION_REPORT";
offsets confirmed against reports of real Milan, Genoa and Turin processors.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from attestation.errors import MalformedEvidence, UnsupportedEvidence
from attestation.parsing.reader import Reader

REPORT = 0x4A0  # bytes
SIGNED = 0x2A0  # bytes at the front that the signature is over
CHIP_ID = 64  # bytes
TURIN_CHIP_ID = 8  # bytes that are used on Turin; zeros follow
VERSIONS: Final = range(2, 6)
ECDSA_P384_SHA384 = 1
VCEK, VLEK = 0, 1  # SIGNING_KEY
_SCALAR = 72  # bytes of r, and of s, least significant first; a P-384 number uses 48 of them


class Product(StrEnum):
    """Processor families, named as AMD's certificates name them."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


# CPUID family and model (section 7.3: CPUID_FAM_ID, CPUID_MOD_ID; ranges from AMD's processor programming references).
_MODELS: Final = {
    Product.MILAN: (0x19, range(0x10)),
    Product.GENOA: (0x19, (*range(0x10, 0x20), *range(0xA0, 0xB0))),  # 0xA0: Bergamo and Siena, under Genoa's root
    Product.TURIN: (0x1A, range(0x12)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """Security patch levels of the parts of the firmware (section 2.2). ``fmc`` exists on Turin only."""

    bootloader: int = 0
    tee: int = 0
    snp: int = 0
    microcode: int = 0
    fmc: int = 0

    @classmethod
    def read(cls, data: bytes, product: Product) -> "Tcb":
        """From the eight bytes of TCB_VERSION, whose layout Turin changed (table "TCB_VERSION")."""
        if product is Product.TURIN:
            return cls(fmc=data[0], bootloader=data[1], tee=data[2], snp=data[3], microcode=data[7])
        return cls(bootloader=data[0], tee=data[1], snp=data[6], microcode=data[7])

    def reaches(self, floor: "Tcb") -> bool:
        """Whether each part is at least at the level of ``floor``."""
        return all(getattr(self, part) >= getattr(floor, part) for part in TCB_PARTS)

    def __str__(self) -> str:
        return ", ".join(f"{part} {getattr(self, part)}" for part in TCB_PARTS if part != "fmc" or self.fmc)


TCB_PARTS: Final = ("bootloader", "tee", "snp", "microcode", "fmc")


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """Under which rules the guest was started (table "Guest Policy")."""

    bits: int

    @property
    def migration_agent(self) -> bool:
        """Bit 18: another machine may receive the memory of this one."""
        return bool(self.bits >> 18 & 1)

    @property
    def debug(self) -> bool:
        """Bit 19: the host may read the memory."""
        return bool(self.bits >> 19 & 1)

    @property
    def cxl(self) -> bool:
        """Bit 21: memory behind CXL may be used."""
        return bool(self.bits >> 21 & 1)

    @property
    def well_formed(self) -> bool:
        """Bit 17 has to be one; bits above 25 have no meaning yet, so that nobody can say that they are harmless."""
        return bool(self.bits >> 17 & 1) and self.bits >> 26 == 0


@dataclass(frozen=True, slots=True)
class SnpReport:
    """What the bytes of a report say. Numbers are unsigned; the TCB fields keep their eight raw bytes, because only the product
    tells how to read them.

    Attributes, with their names in the specification (56860, section 7.3, table ATTESTATION_REPORT) and their offsets:
        version: VERSION, 0x000.
        guest_svn: GUEST_SVN, 0x004: the owner's own number.
        policy: POLICY, 0x008: rules under which the guest was started (section 4.3).
        vmpl: VMPL, 0x030: the guest's privilege level that asked; 0 is the highest.
        signature_algorithm: SIGNATURE_ALGO, 0x034; 1 is ECDSA P-384 with SHA-384.
        current_tcb: CURRENT_TCB, 0x038: what runs now (section 2.2).
        platform_info: PLATFORM_INFO, 0x040: bits of the host's state.
        key_info: AUTHOR_KEY_EN, MASK_CHIP_KEY and SIGNING_KEY, 0x048.
        report_data: REPORT_DATA, 0x050: 64 bytes of the guest.
        measurement: MEASUREMENT, 0x090: 48 bytes, SHA-384 of what was launched.
        host_data: HOST_DATA, 0x0C0: 32 bytes of the host.
        reported_tcb: REPORTED_TCB, 0x180: what the endorsement key was derived for.
        product: from CPUID_FAM_ID and CPUID_MOD_ID, 0x188; ``None`` in version 2, which has neither.
        chip_id: CHIP_ID, 0x1A0: 64 bytes.
        committed_tcb: COMMITTED_TCB, 0x1E0: what the host cannot go below any more.
        launch_tcb: LAUNCH_TCB, 0x1F0: what ran when the guest was launched.
        signed: bytes 0x000 to 0x29F, which the signature is over.
        r, s: SIGNATURE, 0x2A0: 72 bytes each, least significant first.
    """

    version: int
    guest_svn: int
    policy: GuestPolicy
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform_info: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    product: Product | None
    chip_id: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    signed: bytes = field(repr=False)
    r: int = field(repr=False)
    s: int = field(repr=False)

    @property
    def masked_chip(self) -> bool:
        """Bit 1 of the key information: the host hides CHIP_ID."""
        return bool(self.key_info >> 1 & 1)

    @property
    def signing_key(self) -> int:
        """Bits 2 to 4: 0 is the chip's own key (VCEK), 1 the provider's (VLEK), 7 none."""
        return self.key_info >> 2 & 7

    @property
    def provider_key(self) -> bool:
        """Whether the provider's key signed, which any chip of theirs may hold."""
        return self.signing_key == VLEK

    @property
    def aliases_checked(self) -> bool:
        """Bit 5 of the platform information: the firmware found that no memory module lies about its size (BadRAM)."""
        return bool(self.platform_info >> 5 & 1)

    @classmethod
    def parse(cls, data: bytes) -> "SnpReport":
        """Read one report.

        Raises:
            MalformedEvidence: it does not have 1184 bytes, or bytes that have to be zero are not.
            UnsupportedEvidence: its version, processor or signature algorithm is unknown.
        """
        if len(data) != REPORT:
            raise MalformedEvidence("a SEV-SNP report has 1184 bytes")
        read = Reader(data, "SEV-SNP report")
        version = read.little(4)
        if version not in VERSIONS:
            raise UnsupportedEvidence("SEV-SNP reports are known in versions 2 to 5")
        guest_svn = read.little(4)
        policy = GuestPolicy(read.little(8))
        read.take(32)  # family and image id: the owner's own numbers
        vmpl, signature_algorithm = read.little(4), read.little(4)
        if signature_algorithm != ECDSA_P384_SHA384:
            raise UnsupportedEvidence("SEV-SNP reports are signed with ECDSA P-384 and SHA-384")
        current_tcb, platform_info, key_info = read.take(8), read.little(8), read.little(4)
        _zero(read, 4)
        report_data, measurement, host_data = read.take(64), read.take(48), read.take(32)
        read.take(48 + 48 + 32 + 32)  # digests of ID and author keys; report ids
        reported_tcb = read.take(8)
        family, model = read.little(1), read.little(1)
        read.take(1)  # stepping
        product = _product(version, family, model)
        _zero(read, 21)
        chip_id, committed_tcb = read.take(CHIP_ID), read.take(8)
        read.take(8)  # build, minor and major of the current and the committed firmware
        launch_tcb = read.take(8)
        read.take(16)  # mitigation vectors of version 5
        _zero(read, SIGNED - read.position)
        r, s = read.little(_SCALAR), read.little(_SCALAR)
        _zero(read, read.left)
        return cls(
            version=version,
            guest_svn=guest_svn,
            policy=policy,
            vmpl=vmpl,
            signature_algorithm=signature_algorithm,
            current_tcb=current_tcb,
            platform_info=platform_info,
            key_info=key_info,
            report_data=report_data,
            measurement=measurement,
            host_data=host_data,
            reported_tcb=reported_tcb,
            product=product,
            chip_id=chip_id,
            committed_tcb=committed_tcb,
            launch_tcb=launch_tcb,
            signed=data[:SIGNED],
            r=r,
            s=s,
        )


def _product(version: int, family: int, model: int) -> Product | None:
    if version < 3:  # the fields are reserved
        return None
    for product, (its_family, models) in _MODELS.items():
        if family == its_family and model in models:
            return product
    raise UnsupportedEvidence("the report comes from a processor that is not Milan, Genoa or Turin")


def _zero(read: Reader, count: int) -> None:
    if any(read.take(count)):
        raise MalformedEvidence("reserved bytes of the SEV-SNP report are not zero")
