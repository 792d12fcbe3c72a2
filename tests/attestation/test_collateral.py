"""Collateral comes out as it went in, within its limits, and its texts are texts."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.collateral import NO_COLLATERAL, Collateral, IntelCollateral
from attestation.encoding import encode
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

TEXTS = ("pck_crl_issuer_chain", "qe_identity", "qe_identity_issuer_chain", "tcb_info", "tcb_info_issuer_chain")
BYTES = ("pck_crl", "qe_identity_signature", "root_ca_crl", "tcb_info_signature")
LISTS = ("amd_certificates", "amd_crls", "ocsp_responses", "rims")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
intels = st.builds(IntelCollateral, **dict.fromkeys(TEXTS, texts), **{name: st.binary(max_size=8) for name in BYTES})
parts = st.lists(st.binary(max_size=8), max_size=3).map(tuple)
collaterals = st.builds(Collateral, parts, parts, st.none() | intels, parts, parts)

INTEL = IntelCollateral("chain", b"root", b"crl", "chain", "{}", bytes(64), "chain", "é", bytes(64))
COLLATERAL = Collateral((b"leaf", b"root"), (b"crl",), INTEL, (b"<a/>",), (b"ocsp",))


@given(collaterals)
def test_reading_undoes_writing(collateral: Collateral) -> None:
    assert Collateral.read(collateral.members()) == collateral
    encode(collateral.members())


@given(intels)
def test_reading_undoes_writing_of_intels_part(intel: IntelCollateral) -> None:
    assert IntelCollateral.read(intel.members()) == intel


def test_what_is_empty_is_left_out() -> None:
    assert NO_COLLATERAL.members() == {}
    assert Collateral.read({}) == NO_COLLATERAL
    assert Collateral(rims=(b"a",)).members() == {"rims": ["YQ=="]}


def of(**members: object) -> object:
    return {**COLLATERAL.members(), **members}


def intel_of(**members: object) -> object:
    return of(intel={**INTEL.members(), **members})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(anything)
def test_any_value_is_refused_or_read(value: object) -> None:
    for told in (value, *({name: value} for name in (*LISTS, "intel"))):
        try:
            Collateral.read(told)
        except MalformedCollateral:
            continue


@given(name=st.sampled_from([*TEXTS, *BYTES]), value=anything)
def test_any_value_of_intels_part_is_refused_or_read(name: str, value: object) -> None:
    try:
        read = Collateral.read(intel_of(**{name: value}))
    except MalformedCollateral:
        return
    encode(read.members())


WRONG: list[object] = [None, 1, "a", {}, [1], [None], ["*"], [["YQ=="]], "YQ=="]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", WRONG)
def test_refuses_lists_that_are_none(name: str, value: object) -> None:
    with pytest.raises(MalformedCollateral):
        Collateral.read(of(**{name: value}))


@pytest.mark.parametrize("value", [None, 1, "a", [], {}, {"tcb_info": "{}"}])
def test_refuses_a_part_of_intel_that_is_not_whole(value: object) -> None:
    with pytest.raises(MalformedCollateral):
        Collateral.read(of(intel=value))


@pytest.mark.parametrize("name", [*TEXTS, *BYTES])
def test_each_member_of_intels_part_has_to_be_there(name: str) -> None:
    members: dict[str, Any] = INTEL.members()
    del members[name]
    with pytest.raises(MalformedEvidence):
        IntelCollateral.read(members)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", [None, 1, ["a"], {}, "\ud800", "{}\udfff"])
def test_refuses_texts_that_are_none(name: str, value: object) -> None:
    with pytest.raises(MalformedCollateral):
        Collateral.read(intel_of(**{name: value}))


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("value", [None, 1, "*", "AA", b"AA=="])
def test_refuses_bytes_that_are_none(name: str, value: object) -> None:
    with pytest.raises(MalformedCollateral):
        Collateral.read(intel_of(**{name: value}))


def listed(count: int, size: int) -> list[str]:
    return [base64.b64encode(bytes(size)).decode()] * count


LIMITS: dict[str, Callable[[int], object]] = {
    "a certificate": lambda more: of(amd_certificates=listed(1, MAX_CERTIFICATE + more)),
    "certificates": lambda more: of(amd_certificates=listed(MAX_CERTIFICATES + more, 1)),
    "a revocation list": lambda more: of(amd_crls=listed(1, MAX_CRL + more)),
    "revocation lists": lambda more: of(amd_crls=listed(MAX_CERTIFICATES + more, 1)),
    "a manifest": lambda more: of(rims=listed(1, MAX_RIM + more)),
    "manifests": lambda more: of(rims=listed(MAX_RIMS + more, 1)),
    "an answer": lambda more: of(ocsp_responses=listed(1, MAX_OCSP + more)),
    "answers": lambda more: of(ocsp_responses=listed(MAX_OCSPS + more, 1)),
    **{f"Intel's {name}": lambda more, name=name: intel_of(**{name: listed(1, MAX_CRL + more)[0]}) for name in BYTES},  # type: ignore[misc]
    **{f"Intel's {name}": lambda more, name=name: intel_of(**{name: "a" * (MAX_TCB_INFO + more)}) for name in TEXTS},  # type: ignore[misc]
    "a text of more bytes than characters": lambda more: intel_of(tcb_info="é" * (MAX_TCB_INFO // 2) + "a" * more),
}


@pytest.mark.parametrize("of_size", LIMITS.values(), ids=LIMITS)
def test_reads_each_part_up_to_its_limit_and_no_further(of_size: Callable[[int], object]) -> None:
    Collateral.read(of_size(0))
    with pytest.raises(MalformedCollateral):
        Collateral.read(of_size(1))


def test_a_refusal_says_what_is_wrong_and_shows_nothing() -> None:
    with pytest.raises(MalformedCollateral, match="not base64"):
        Collateral.read(of(rims=["*"]))
    assert repr(replace(COLLATERAL)) == "Collateral()"
    assert repr(INTEL) == "IntelCollateral()"
