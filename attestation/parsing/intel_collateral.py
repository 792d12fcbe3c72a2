"""When Intel's collateral was said, and until when it stands: the dates in its JSON, its lists and its certificates.

``dcap-qvl`` checks signatures and levels; the dates are read here so that stale collateral is refused as stale. Source: Intel, PCS API
version 4, "Get TCB Info" and "Get Quoting Enclave Identity".
"""

import json
from dataclasses import dataclass
from datetime import datetime

from attestation.collateral import IntelCollateral
from attestation.errors import MalformedCollateral
from attestation.parsing.certificate import Certificate, certificates_from_pem
from attestation.parsing.revocation import RevocationList


@dataclass(frozen=True, slots=True)
class CollateralDates:
    """``statements`` are TCB information and quoting-enclave identity, ``lists`` the two revocation lists: each since when,
    until when. ``certificates`` are the signers'.
    """

    statements: tuple[tuple[datetime, datetime], ...]
    lists: tuple[tuple[datetime, datetime], ...]
    certificates: tuple[Certificate, ...]

    @classmethod
    def parse(cls, collateral: IntelCollateral) -> "CollateralDates":
        """Read all dates.

        Raises:
            MalformedCollateral: one is missing or cannot be read.
        """
        chains = (
            collateral.pck_crl_issuer_chain,
            collateral.tcb_info_issuer_chain,
            collateral.qe_identity_issuer_chain,
        )
        return cls(
            statements=tuple(_statement(text) for text in (collateral.tcb_info, collateral.qe_identity)),
            lists=tuple(_list(crl) for crl in (collateral.root_ca_crl, collateral.pck_crl)),
            certificates=tuple(Certificate.parse(der) for pem in chains for der in _chain(pem)),
        )


def _chain(pem: str) -> tuple[bytes, ...]:
    return certificates_from_pem(pem.encode("utf-8", "replace"))


def _statement(text: str) -> tuple[datetime, datetime]:
    try:
        members = json.loads(text)
        since, until = (datetime.fromisoformat(members[name]) for name in ("issueDate", "nextUpdate"))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MalformedCollateral("TCB information or quoting-enclave identity has no dates") from None
    if since.tzinfo is None or until.tzinfo is None:
        raise MalformedCollateral("a date of the collateral has no time zone")
    return since, until


def _list(der: bytes) -> tuple[datetime, datetime]:
    listed = RevocationList.parse(der)
    return listed.since, listed.until
