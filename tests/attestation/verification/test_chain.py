"""A chain holds from its leaf to a pinned root if every link does, and is refused for the link that does not."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import BrokenChain, CertificateOutOfDate, MalformedCollateral, UntrustedRoot
from attestation.limits import MAX_CERTIFICATES
from attestation.parsing.certificate import Certificate
from attestation.verification.chain import (
    ECDSA_SHA256,
    ECDSA_SHA384,
    order_chain,
    verify_chain,
    verify_issued,
    verify_signature,
    verify_times,
)
from tests.attestation.authority.amd import AmdAuthority
from tests.attestation.authority.nvidia import nvidia_authority
from tests.attestation.parsing.handmade import (
    BASIC_CONSTRAINTS,
    CA,
    KEY_USAGE,
    LATER,
    NOW,
    CertificateParts,
    extension,
    sequence,
    spki,
)
from tests.attestation.parsing.samples import intel_authority

# --- Chains by hand -------------------------------------------------------------------------------------------------------


@functools.cache
def key(owner: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def name(owner: str) -> bytes:
    value = owner.encode()
    return sequence(
        bytes([0x31, len(value) + 9, 0x30, len(value) + 7])
        + b"\x06\x03\x55\x04\x03"
        + bytes([0x0C, len(value)])
        + value
    )


def depth(length: int) -> bytes:
    """Basic constraints of an authority with so many authorities below it."""
    return bytes.fromhex("30060101ff0201") + bytes([length])


@dataclass(frozen=True, slots=True)
class Link:
    """Who is certified, by whom, and what is said of them."""

    subject: str
    issuer: str
    constraints: bytes | None = CA
    usage: bytes | None = None
    others: Sequence[bytes] = ()
    signer: str | None = None  # the issuer's key, unless it is somebody else's

    def certificate(self) -> Certificate:
        extensions = list(self.others)
        extensions += (
            [] if self.constraints is None else [extension(BASIC_CONSTRAINTS, self.constraints, critical=True)]
        )
        extensions += [] if self.usage is None else [extension(KEY_USAGE, self.usage, critical=True)]
        parts = CertificateParts(
            subject=name(self.subject),
            issuer=name(self.issuer),
            public_key=spki(key(self.subject).public_key()),
            extensions=extensions,
        )
        return Certificate.parse(parts.encode(key(self.signer or self.issuer)))


LEAF, MIDDLE, ROOT = Link("leaf", "middle", None), Link("middle", "root"), Link("root", "root")


def verify(*links: Link) -> None:
    chain = [link.certificate() for link in links]
    verify_chain(chain, roots={chain[-1].sha256})


def test_a_chain_holds_up_to_its_pinned_root() -> None:
    verify(LEAF, MIDDLE, ROOT)
    verify(MIDDLE, ROOT)
    verify(ROOT)


def test_a_chain_may_be_long() -> None:
    links = [Link(f"{index}", f"{index + 1}") for index in range(MAX_CERTIFICATES)]
    verify(*links, Link(f"{MAX_CERTIFICATES}", "whoever"))


CERT_SIGN, CRL_SIGN = bytes.fromhex("03020204"), bytes.fromhex("03020102")
BROKEN: dict[str, Sequence[Link]] = {
    "another issuer's name": [replace(LEAF, issuer="other", signer="middle"), MIDDLE, ROOT],
    "another issuer's key": [replace(LEAF, signer="other"), MIDDLE, ROOT],
    "an issuer in the middle that somebody else signed": [LEAF, replace(MIDDLE, signer="other"), ROOT],
    "a link that is missing": [LEAF, ROOT],
    "links in another order": [MIDDLE, LEAF, ROOT],
    "the leaf twice": [LEAF, LEAF, MIDDLE, ROOT],
    "an issuer that is no authority": [LEAF, replace(MIDDLE, constraints=None), ROOT],
    "an issuer that says that it is no authority": [LEAF, replace(MIDDLE, constraints=sequence()), ROOT],
    "an authority that may sign lists only": [LEAF, replace(MIDDLE, usage=CRL_SIGN), ROOT],
    "a root that is no authority": [MIDDLE, replace(ROOT, constraints=None)],
    "a root that may sign lists only": [MIDDLE, replace(ROOT, usage=CRL_SIGN)],
    "a depth that is passed": [LEAF, MIDDLE, replace(ROOT, constraints=depth(0))],
    "a depth that is passed further up": [
        Link("end", "leaf", None),
        replace(LEAF, constraints=CA),
        MIDDLE,
        replace(ROOT, constraints=depth(1)),
    ],
    "a leaf with an unknown critical extension": [
        replace(LEAF, others=[extension("1.2.3", b"", critical=True)]),
        MIDDLE,
        ROOT,
    ],
    "an issuer with one": [LEAF, replace(MIDDLE, others=[extension("1.2.3", b"", critical=True)]), ROOT],
    "an issuer with critical constraints of names": [
        LEAF,
        replace(MIDDLE, others=[extension("2.5.29.30", sequence(), critical=True)]),
        ROOT,
    ],
}


@pytest.mark.parametrize("links", BROKEN.values(), ids=BROKEN)
def test_refuses_a_chain_of_which_one_link_is_broken(links: Sequence[Link]) -> None:
    with pytest.raises(BrokenChain):
        verify(*links)


def test_accepts_what_is_exactly_allowed() -> None:
    verify(LEAF, replace(MIDDLE, constraints=depth(0), usage=CERT_SIGN), replace(ROOT, constraints=depth(1)))
    verify(replace(LEAF, usage=CRL_SIGN, others=[extension("1.2.3", b"")]), MIDDLE, ROOT)
    verify(MIDDLE, replace(ROOT, others=[extension("1.2.3", b"", critical=True)]))  # a root is pinned as it is


@pytest.mark.parametrize("links", [(), (LEAF,), (LEAF, MIDDLE), (LEAF, MIDDLE, Link("root", "root", signer="other"))])
def test_refuses_a_chain_that_ends_elsewhere(links: Sequence[Link]) -> None:
    with pytest.raises(UntrustedRoot):
        verify_chain([link.certificate() for link in links], roots={ROOT.certificate().sha256})


def test_refuses_every_chain_if_no_root_is_pinned() -> None:
    with pytest.raises(UntrustedRoot):
        verify_chain([ROOT.certificate()], roots=())


def test_refuses_a_chain_with_a_key_that_cannot_be_read() -> None:
    middle = CertificateParts(
        subject=name("middle"),
        issuer=name("root"),
        public_key=sequence(sequence(b"\x06\x03\x2a\x03\x04"), b"\x03\x01\x00"),
        extensions=[extension(BASIC_CONSTRAINTS, CA)],
    )
    chain = [LEAF.certificate(), Certificate.parse(middle.encode(key("root"))), ROOT.certificate()]
    with pytest.raises(MalformedCollateral):
        verify_chain(chain, roots={chain[-1].sha256})


CHAIN = [link.certificate() for link in (LEAF, MIDDLE, ROOT)]


def verify_ders(ders: Sequence[bytes]) -> None:
    verify_chain([Certificate.parse(der) for der in ders], roots={CHAIN[-1].sha256})


@given(data=st.data())
def test_a_changed_byte_anywhere_but_in_the_root_breaks_the_chain(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, 1))
    der = CHAIN[index].der
    at = data.draw(st.integers(0, len(der) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != der[at]))
    ders = [certificate.der for certificate in CHAIN]
    ders[index] = der[:at] + bytes([byte]) + der[at + 1 :]
    with pytest.raises((BrokenChain, MalformedCollateral)):
        verify_ders(ders)


# --- The vendors' chains --------------------------------------------------------------------------------------------------


def vendors() -> dict[str, tuple[bytes, ...]]:
    intel, nvidia = intel_authority(), nvidia_authority()
    found: dict[str, tuple[bytes, ...]] = {}
    for product in ("Milan", "Genoa", "Turin"):
        amd = AmdAuthority(product)
        found[f"{product} VCEK"] = (amd.vcek()[0], amd.ask, amd.root)
        found[f"{product} VLEK"] = (amd.vlek()[0], amd.asvk, amd.root)
    found["PCK"] = (intel.pck.der, intel.platform_ca.der, intel.root)
    found["TCB signing"] = (intel.tcb_signing.der, intel.root)
    for arch in ("hopper", "blackwell", "ls10"):
        found[arch] = nvidia.device(arch).chain
        found[f"{arch} manifests"] = nvidia.rim_signer(arch).chain
    return found


VENDORS = vendors()


@pytest.mark.parametrize("chain", VENDORS.values(), ids=VENDORS)
def test_the_chain_of_each_vendor_holds_and_can_be_found_in_a_pool(chain: tuple[bytes, ...]) -> None:
    certificates = tuple(Certificate.parse(der) for der in chain)
    verify_chain(certificates, roots={certificates[-1].sha256})
    assert order_chain(certificates[0], reversed(certificates)) == certificates


def test_a_stranger_with_the_vendors_names_is_refused() -> None:
    stranger, amd = AmdAuthority("Genoa", owner="stranger"), AmdAuthority("Genoa")
    roots = {Certificate.parse(amd.root).sha256}
    vcek = stranger.vcek()[0]
    with pytest.raises(UntrustedRoot):
        verify_chain([Certificate.parse(der) for der in (vcek, stranger.ask, stranger.root)], roots=roots)
    for chain in ((vcek, amd.ask, amd.root), (vcek, stranger.ask, amd.root)):
        with pytest.raises(BrokenChain):
            verify_chain([Certificate.parse(der) for der in chain], roots=roots)


# --- Finding issuers ------------------------------------------------------------------------------------------------------


def found(leaf: Link, *pool: Link) -> list[str]:
    names = {name(link.subject): link.subject for link in (leaf, *pool)}
    return [
        names[certificate.subject]
        for certificate in order_chain(leaf.certificate(), [one.certificate() for one in pool])
    ]


def test_finds_issuers_by_name_in_any_order_as_far_as_they_are_there() -> None:
    assert found(LEAF, ROOT, Link("other", "root"), MIDDLE) == ["leaf", "middle", "root"]
    assert found(LEAF, LEAF, ROOT) == ["leaf"]
    assert found(ROOT, MIDDLE, ROOT) == ["root"]


def test_a_loop_ends_at_the_limit_and_leads_to_no_root() -> None:
    one, other = Link("one", "other"), Link("other", "one")
    chain = order_chain(one.certificate(), [one.certificate(), other.certificate(), ROOT.certificate()])
    assert len(chain) == MAX_CERTIFICATES
    with pytest.raises(UntrustedRoot):
        verify_chain(chain, roots={ROOT.certificate().sha256})


# --- Signatures -----------------------------------------------------------------------------------------------------------

EC_KEY, RSA_KEY = key("signer"), rsa.generate_private_key(65537, 2048)
PSS_SHA384 = Certificate.parse(AmdAuthority("Genoa").vcek()[0]).signature_algorithm
PSS_SHA384_OF_ROOTS = Certificate.parse(AmdAuthority("Genoa").root).signature_algorithm


def pss(salt: int = 48) -> bytes:
    return RSA_KEY.sign(b"data", padding.PSS(padding.MGF1(SHA384()), salt), SHA384())


def test_the_algorithms_of_the_vendors_hold() -> None:
    public = EC_KEY.public_key()
    verify_signature(public, EC_KEY.sign(b"data", ec.ECDSA(SHA256())), b"data", ECDSA_SHA256)
    verify_signature(public, EC_KEY.sign(b"data", ec.ECDSA(SHA384())), b"data", ECDSA_SHA384)
    assert PSS_SHA384 != PSS_SHA384_OF_ROOTS  # with and without the default trailer
    for algorithm in (PSS_SHA384, PSS_SHA384_OF_ROOTS):
        verify_signature(RSA_KEY.public_key(), pss(), b"data", algorithm)


RSA_SHA384 = bytes.fromhex("300d06092a864886f70d01010c0500")
ECDSA_SHA384_WITH_PARAMETERS = bytes.fromhex("300c06082a8648ce3d0403030500")
SIGNATURES: dict[str, tuple[ec.EllipticCurvePublicKey | rsa.RSAPublicKey, bytes, bytes]] = {
    "the algorithm of another key": (RSA_KEY.public_key(), EC_KEY.sign(b"data", ec.ECDSA(SHA384())), ECDSA_SHA384),
    "another algorithm than the key's": (EC_KEY.public_key(), pss(), PSS_SHA384),
    "another digest": (EC_KEY.public_key(), EC_KEY.sign(b"data", ec.ECDSA(SHA384())), ECDSA_SHA256),
    "other parameters": (EC_KEY.public_key(), EC_KEY.sign(b"data", ec.ECDSA(SHA384())), ECDSA_SHA384_WITH_PARAMETERS),
    "an older padding": (RSA_KEY.public_key(), RSA_KEY.sign(b"data", padding.PKCS1v15(), SHA384()), RSA_SHA384),
    "an older padding under the newer name": (
        RSA_KEY.public_key(),
        RSA_KEY.sign(b"data", padding.PKCS1v15(), SHA384()),
        PSS_SHA384,
    ),
    "a shorter salt": (RSA_KEY.public_key(), pss(32), PSS_SHA384),
    "a padding under an older name": (RSA_KEY.public_key(), pss(), RSA_SHA384),
    "a padding under the name of another key": (RSA_KEY.public_key(), pss(), ECDSA_SHA384),
    "no signature": (EC_KEY.public_key(), b"", ECDSA_SHA384),
    "no signature of RSA": (RSA_KEY.public_key(), b"", PSS_SHA384),
    "a signature that is no DER": (EC_KEY.public_key(), bytes(96), ECDSA_SHA384),
    "no algorithm": (EC_KEY.public_key(), EC_KEY.sign(b"data", ec.ECDSA(SHA384())), b""),
}


@pytest.mark.parametrize(("public", "signature", "algorithm"), SIGNATURES.values(), ids=SIGNATURES)
def test_nothing_else_holds(
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, signature: bytes, algorithm: bytes
) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature(public, signature, b"data", algorithm)


def test_a_certificate_is_issued_by_the_key_that_signed_it_whatever_the_names() -> None:
    verify_issued(LEAF.certificate(), MIDDLE.certificate())
    verify_issued(replace(LEAF, issuer="other", signer="middle").certificate(), MIDDLE.certificate())
    with pytest.raises(BrokenChain):
        verify_issued(LEAF.certificate(), ROOT.certificate())


# --- Times ----------------------------------------------------------------------------------------------------------------


def test_certificates_are_valid_from_their_first_to_their_last_second() -> None:
    chain = [link.certificate() for link in (LEAF, MIDDLE, ROOT)]
    for now in (NOW, LATER):
        verify_times(chain, now=now)
    for now, text in ((NOW - timedelta(seconds=1), "not valid yet"), (LATER + timedelta(seconds=1), "expired")):
        with pytest.raises(CertificateOutOfDate, match=text):
            verify_times(chain, now=now)
    verify_times([], now=NOW)


def test_one_certificate_out_of_date_is_enough() -> None:
    short = Certificate.parse(AmdAuthority("Genoa").vcek(not_after=NOW)[0])
    verify_times([LEAF.certificate(), short], now=NOW)
    with pytest.raises(CertificateOutOfDate):
        verify_times([LEAF.certificate(), short], now=NOW + timedelta(microseconds=1))
