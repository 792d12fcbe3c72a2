"""Fetching what vendors say beside the evidence, through a transport that is an argument: there is no HTTP client here.

What comes back goes into :class:`attestation.collateral.Collateral` and is trusted for nothing until it is appraised.
"""

from attestation.fetching.amd import fetch_amd, fetch_amd_issuers
from attestation.fetching.cache import LIFETIMES, CachedTransport
from attestation.fetching.errors import (
    AnswerTooLarge,
    CannotAsk,
    FetchError,
    MalformedAnswer,
    NotKnown,
    RateLimited,
    Redirected,
    Refused,
    Unreachable,
    UnsafeFolder,
)
from attestation.fetching.gather import gather
from attestation.fetching.intel import PckCa, fetch_intel
from attestation.fetching.nvidia import fetch_ocsp, fetch_rim
from attestation.fetching.transport import Kind, Request, Response, Transport, TransportFailed

__all__ = [
    "LIFETIMES",
    "AnswerTooLarge",
    "CachedTransport",
    "CannotAsk",
    "FetchError",
    "Kind",
    "MalformedAnswer",
    "NotKnown",
    "PckCa",
    "RateLimited",
    "Redirected",
    "Refused",
    "Request",
    "Response",
    "Transport",
    "TransportFailed",
    "Unreachable",
    "UnsafeFolder",
    "fetch_amd",
    "fetch_amd_issuers",
    "fetch_intel",
    "fetch_ocsp",
    "fetch_rim",
    "gather",
]
