"""Intel's collateral comes out byte for byte as it was signed, or not at all."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.collateral import Collateral, IntelCollateral
from attestation.fetching import (
    AnswerTooLarge,
    CannotAsk,
    FetchError,
    Kind,
    MalformedAnswer,
    NotKnown,
    PckCa,
    RateLimited,
    Refused,
    Response,
    TransportFailed,
    Unreachable,
    fetch_intel,
)
from attestation.fetching.transport import Headers
from attestation.limits import MAX_TCB_INFO
from tests.attestation.fetching.replay import UNNAMED_PAGE, WEB_PAGE, Scripted
from tests.attestation.vectors import read as vector

PCS = "https://api.trustedservices.intel.com"
ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
SPR = "intel_tdx/go_tdx_guest_spr"
FMSPC = bytes.fromhex("50806f000000")
TCB = f"{PCS}/tdx/certification/v4/tcb?fmspc=50806F000000"
QE = f"{PCS}/tdx/certification/v4/qe/identity"
PCK_CRL = f"{PCS}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"

Answers = dict[str, Response | Exception]


def spr_answers() -> Answers:
    """What Intel's service answered in June 2023."""

    def chain(name: str, file: str) -> tuple[str, str]:
        return name, quote(vector(f"{SPR}/{file}").decode())

    json_type = ("Content-Type", "application/json")
    return {
        TCB: Response(
            200,
            (json_type, ("Request-ID", "1"), chain("TCB-Info-Issuer-Chain", "tcb_info_issuer_chain.pem")),
            vector(f"{SPR}/sample_tcbInfo_response"),
        ),
        QE: Response(
            200,
            (json_type, chain("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain.pem")),
            vector(f"{SPR}/sample_qeIdentity_response"),
        ),
        PCK_CRL: Response(
            200, (chain("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain.pem"),), vector(f"{SPR}/pckcrl")
        ),
        ROOT_CRL: Response(200, (), vector(f"{SPR}/rootcrl.der")),
    }


def expected(path: str) -> IntelCollateral:
    """Collateral in the nine-field form, in which bytes are hexadecimal."""
    fields: dict[str, Any] = json.loads(vector(path))
    for name in ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"):
        fields[name] = bytes.fromhex(fields[name])
    return IntelCollateral(**fields)


async def fetched(answers: Answers) -> IntelCollateral:
    return await fetch_intel(Scripted(answers), fmspc=FMSPC, ca=PckCa.PLATFORM)


def answering(url: str, body: bytes | str) -> Answers:
    """The service, with another body at one address."""
    answers = spr_answers()
    old = answers[url]
    assert isinstance(old, Response)
    return {**answers, url: Response(200, old.headers, body.encode() if isinstance(body, str) else body)}


def verify(text: str, signature: bytes, chain: str) -> None:
    key = load_pem_x509_certificate(chain.encode()).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    key.verify(encode_dss_signature(r, s), text.encode(), ECDSA(SHA256()))


async def test_gives_the_nine_parts_of_a_published_answer() -> None:
    service = Scripted(spr_answers())
    collateral = await fetch_intel(service, fmspc=FMSPC, ca=PckCa.PLATFORM)
    assert collateral == expected(f"{SPR}/collateral.json")
    assert [request.kind for request in service.asked] == [Kind.TCB, Kind.TCB, Kind.CRL, Kind.CRL]
    assert IntelCollateral.read(collateral.members()) == collateral


async def test_the_signatures_hold_over_the_texts_that_were_cut_out() -> None:
    collateral = await fetched(spr_answers())
    verify(collateral.tcb_info, collateral.tcb_info_signature, collateral.tcb_info_issuer_chain)
    verify(collateral.qe_identity, collateral.qe_identity_signature, collateral.qe_identity_issuer_chain)
    with pytest.raises(InvalidSignature):
        verify(collateral.tcb_info + " ", collateral.tcb_info_signature, collateral.tcb_info_issuer_chain)


async def test_gives_the_parts_of_another_platform_in_whatever_way_a_cache_wraps_them() -> None:
    wanted = expected("intel_tdx/dcap_qvl_tdx_v4/tdx_quote_collateral.json")
    pccs = "https://pccs.example:8081"
    answers: Answers = {
        f"{pccs}/tdx/certification/v4/tcb?fmspc=B0C06F000000": Response(
            200,
            (("sgx-tcb-info-issuer-chain", quote(wanted.tcb_info_issuer_chain, safe="")),),
            (
                f'{{ "signature" : "{wanted.tcb_info_signature.hex().upper()}",\n "tcbInfo" : {wanted.tcb_info} }}\n'
            ).encode(),
        ),
        f"{pccs}/tdx/certification/v4/qe/identity": Response(
            200,
            (("sgx-enclave-identity-issuer-chain", quote(wanted.qe_identity_issuer_chain)),),
            f'{{"enclaveIdentity":{wanted.qe_identity},"signature":"{wanted.qe_identity_signature.hex()}"}}'.encode(),
        ),
        f"{pccs}/sgx/certification/v4/pckcrl?ca=processor&encoding=der": Response(
            200,
            (("sgx-pck-crl-issuer-chain", quote(wanted.pck_crl_issuer_chain)),),
            wanted.pck_crl.hex().encode(),
        ),
        f"{pccs}/sgx/certification/v4/rootcacrl": Response(200, (), wanted.root_ca_crl.hex().upper().encode() + b"\n"),
    }
    service = Scripted(answers)
    collateral = await fetch_intel(
        service, fmspc=bytes.fromhex("b0c06f000000"), ca=PckCa.PROCESSOR, url="https://pccs.example:8081/"
    )
    assert collateral == wanted
    verify(collateral.tcb_info, collateral.tcb_info_signature, collateral.tcb_info_issuer_chain)
    assert {request.url.partition("/sgx")[0].partition("/tdx")[0] for request in service.asked} == {pccs}


def tcb_text() -> str:
    return vector(f"{SPR}/sample_tcbInfo_response").decode().rstrip()


EVIL = '{"fmspc":"50806f000000","tcbLevels":[]}'


@pytest.mark.parametrize(
    "made",
    [
        lambda text: text[:-1] + f',"tcbInfo":{EVIL}}}',  # the last one wins in most readers
        lambda text: f'{{"tcbInfo":{EVIL},' + text[1:],  # the first one in some
        lambda text: f'{{"tcbInf\\u006f":{EVIL},' + text[1:],
        lambda text: f'{{"TcbInfo":{EVIL},' + text[1:],  # and some do not look at the case
        lambda text: text[:-1] + ',"signature":"00"}',
        lambda text: text[:-1] + ',"more":1}',
        lambda text: text.replace('"version":3', '"version":3,"version":4'),
        lambda text: text + text,
        lambda text: text + "x",
        lambda text: "\ufeff" + text,
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: text.replace('"tcbInfo"', '"enclaveIdentity"', 1),
        lambda text: '{"tcbInfo":[],"signature":"' + "0" * 128 + '"}',
        lambda text: '{"tcbInfo":"{}","signature":"' + "0" * 128 + '"}',
        lambda text: text.replace('"signature":"', '"signature":"00'),
        lambda text: text.replace('"signature":"f6', '"signature":"0xf'),
        lambda text: text.rpartition(',"signature"')[0] + ',"signature":null}',
        lambda text: text.replace('"fmspc":"50806f000000"', '"fmspc":"00806f000000"'),
        lambda text: text.replace('"fmspc":"50806f000000"', '"fmspc":null'),
        lambda text: text.replace('"fmspc":"50806f000000",', ""),
        lambda text: "",
        lambda text: "null",
        lambda text: "[" * 100_000,
    ],
)
async def test_no_other_reading_of_the_tcb_information_comes_through(made: Callable[[str], str]) -> None:
    with pytest.raises(MalformedAnswer):
        await fetched(answering(TCB, made(tcb_text())))


@settings(max_examples=60)
@given(at=st.integers(0, 2400), byte=st.integers(0, 255))
async def test_a_changed_byte_is_refused_or_breaks_the_signature_or_is_outside_of_what_is_signed(
    at: int, byte: int
) -> None:
    body = tcb_text().encode()
    changed = body[:at] + bytes([byte]) + body[at + 1 :]
    honest = expected(f"{SPR}/collateral.json")
    try:
        collateral = await fetched(answering(TCB, changed))
    except FetchError:
        return
    if collateral == honest:
        return
    with pytest.raises(InvalidSignature):
        verify(collateral.tcb_info, collateral.tcb_info_signature, collateral.tcb_info_issuer_chain)


@settings(max_examples=50)
@given(body=st.binary(max_size=64), header=st.text(max_size=16))
async def test_any_answer_gives_only_the_errors_that_are_promised(body: bytes, header: str) -> None:
    for url in (TCB, QE, PCK_CRL, ROOT_CRL):
        answers = {**spr_answers(), url: Response(200, (("TCB-Info-Issuer-Chain", header),), body)}
        with pytest.raises(FetchError):
            await fetched(answers)


@pytest.mark.parametrize("url", [TCB, QE, PCK_CRL])
@pytest.mark.parametrize(
    "made",
    [
        lambda name, value: (),
        lambda name, value: ((name, value), (name, value)),
        lambda name, value: ((name, value), (name.lower(), value)),
        lambda name, value: (("X-Issuer-Chain", value),),
        lambda name, value: ((name, ""),),
        lambda name, value: ((name, "none"),),
        lambda name, value: ((name, value[:-40]),),
        lambda name, value: ((name, value + "%00"),),
        lambda name, value: ((name, value + "\u00e9"),),
        lambda name, value: ((name, value.replace("%0A", "+")),),
        lambda name, value: ((name, "%0A" * 20_000 + value),),
    ],
)
async def test_the_issuers_stand_in_their_header_once_and_are_certificates(
    url: str, made: Callable[[str, str], Headers]
) -> None:
    answers = spr_answers()
    old = answers[url]
    assert isinstance(old, Response)
    name, value = old.headers[-1]
    with pytest.raises(MalformedAnswer):
        await fetched({**answers, url: Response(200, made(name, value), old.body)})


async def test_two_headers_with_issuers_are_one_too_many() -> None:
    answers = spr_answers()
    old = answers[TCB]
    assert isinstance(old, Response)
    headers = (*old.headers, ("SGX-TCB-Info-Issuer-Chain", old.headers[-1][1]))
    with pytest.raises(MalformedAnswer):
        await fetched({**answers, TCB: Response(200, headers, old.body)})


@pytest.mark.parametrize("url", [TCB, QE, PCK_CRL, ROOT_CRL])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (TransportFailed(), Unreachable),
        (WEB_PAGE, MalformedAnswer),
        (UNNAMED_PAGE, MalformedAnswer),
        (Response(200), MalformedAnswer),
        (Response(200, (), b"30"), MalformedAnswer),
        (Response(200, (), b"308"), MalformedAnswer),
        (Response(200, (), bytes(2**21 + 1)), AnswerTooLarge),
        (Response(301, (("Location", "https://elsewhere.example"),)), Refused),
        (Response(404), NotKnown),
        (Response(429, (("Retry-After", "10"),)), RateLimited),
        (Response(503), Refused),
    ],
)
async def test_three_parts_are_no_collateral(url: str, answer: Response | Exception, error: type[Exception]) -> None:
    with pytest.raises(error):
        await fetched({**spr_answers(), url: answer})


async def test_a_document_has_a_limit_below_that_of_its_envelope() -> None:
    text = f'{{"fmspc":"50806f000000","a":"{"x" * MAX_TCB_INFO}"}}'
    with pytest.raises(MalformedAnswer, match="small object"):
        await fetched(answering(TCB, f'{{"tcbInfo":{text},"signature":"{"0" * 128}"}}'))


@pytest.mark.parametrize("fmspc", [b"", bytes(5), bytes(7)])
async def test_a_family_has_six_bytes(fmspc: bytes) -> None:
    with pytest.raises(CannotAsk):
        await fetch_intel(Scripted({}), fmspc=fmspc, ca=PckCa.PLATFORM)


async def test_what_was_fetched_goes_into_collateral_and_comes_back() -> None:
    collateral = Collateral(intel=await fetched(spr_answers()))
    assert Collateral.read(json.loads(json.dumps(collateral.members()))) == collateral
