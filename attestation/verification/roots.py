"""Vendor roots, pinned by the SHA-256 of their certificates. Names prove nothing: anybody can write them.

The certificates themselves travel with the evidence or its collateral. Sources: AMD's key distribution service (cert_chain of each
product), Intel's provisioning certification service, NVIDIA's device chains and reference manifests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.parsing.snp import Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Digests (32 bytes) of the certificates at which chains may end.

    ``amd`` has one AMD root key (ARK) for each product; ``intel`` the SGX root; ``nvidia_devices`` the root of device
    identities; ``nvidia_rims`` that of reference manifests.
    """

    amd: Mapping[Product, bytes]
    intel: bytes
    nvidia_devices: bytes
    nvidia_rims: bytes

    @property
    def weakenings(self) -> tuple[str, ...]:
        """What every result has to say about these roots."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsafeTrustOtherRoots(Roots):
    """Roots that are not the vendors': for tests. Whoever holds their keys can make any evidence."""

    @property
    def weakenings(self) -> tuple[str, ...]:
        """Shows in every result."""
        return ("UnsafeTrustOtherRoots",)


VENDOR_ROOTS = Roots(
    amd={
        Product.MILAN: bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
        Product.GENOA: bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
        Product.TURIN: bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
    },
    intel=bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
    nvidia_devices=bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"),
    nvidia_rims=bytes.fromhex("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"),
)
