"""AMD's service is asked as its specification says, and only certificates and lists come out of its answers."""

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.fetching import (
    AnswerTooLarge,
    CannotAsk,
    FetchError,
    Kind,
    MalformedAnswer,
    NotKnown,
    RateLimited,
    Refused,
    Response,
    Unreachable,
    fetch_amd,
    fetch_amd_issuers,
)
from attestation.fetching.amd import vcek_url
from attestation.limits import MAX_CERTIFICATE, MAX_CRL
from tests.attestation.fetching.replay import UNNAMED_PAGE, WEB_PAGE, Always, Authority, Scripted
from tests.attestation.vectors import read as vector

KDS = "https://kdsintf.amd.com"


@dataclass(frozen=True)
class Level:
    """A firmware level."""

    bootloader: int = 0
    tee: int = 0
    snp: int = 0
    microcode: int = 0
    fmc: int = 0


MILAN = Level(bootloader=2, snp=5, microcode=68)
TURIN = Level(fmc=1, bootloader=1, tee=1, snp=4, microcode=82)
CHIP = bytes(range(1, 65))
TURIN_CHIP = bytes.fromhex("6bb1229b7692b710") + bytes(56)
CRL = Authority.make().crl()


def query_of(url: str) -> list[tuple[str, int]]:
    return [(name, int(value)) for name, value in parse_qsl(urlsplit(url).query)]


def test_asks_for_a_milan_chip_by_its_64_bytes_and_four_levels() -> None:
    chip = vector("amd_sev_snp/milan_v2_debug/attestation.bin")[0x1A0:0x1E0]
    url = vcek_url("Milan", chip, MILAN)
    # As in the tests of google/go-sev-guest, for the same report.
    assert url.startswith(f"{KDS}/vcek/v1/Milan/3ac3fe21e13fb0990eb28a802e3fb6a29483a6b0753590c951bdd3b8e5378618")
    assert query_of(url) == [("blSPL", 2), ("teeSPL", 0), ("snpSPL", 5), ("ucodeSPL", 68)]


def test_asks_for_a_turin_chip_by_its_8_bytes_and_five_levels() -> None:
    url = vcek_url("Turin", TURIN_CHIP, TURIN)
    assert url.partition("?")[0] == f"{KDS}/vcek/v1/Turin/6bb1229b7692b710"
    assert query_of(url) == [("fmcSPL", 1), ("blSPL", 1), ("teeSPL", 1), ("snpSPL", 4), ("ucodeSPL", 82)]


def test_levels_have_two_digits_as_amds_own_tools_write_them() -> None:
    assert vcek_url("Genoa", CHIP, Level(9, 0, 23, 72)).endswith("?blSPL=09&teeSPL=00&snpSPL=23&ucodeSPL=72")


@given(
    product=st.sampled_from(["Milan", "Genoa", "Turin"]),
    chip=st.binary(min_size=8, max_size=8).filter(any),
    parts=st.lists(st.integers(0, 255), min_size=5, max_size=5),
)
def test_the_address_tells_chip_and_level_apart_and_holds_nothing_else(
    product: str, chip: bytes, parts: list[int]
) -> None:
    level = Level(*parts)
    url = urlsplit(vcek_url(product, chip + bytes(56), level))
    assert (url.scheme, url.netloc, url.fragment) == ("https", "kdsintf.amd.com", "")
    assert bytes.fromhex(url.path.rpartition("/")[2]).ljust(64, b"\0") == chip + bytes(56)
    read = {name.removesuffix("SPL"): int(value) for name, value in parse_qsl(url.query)}
    fmc = {"fmc": level.fmc} if product == "Turin" else {}
    assert read == {"bl": level.bootloader, "tee": level.tee, "snp": level.snp, "ucode": level.microcode, **fmc}


@pytest.mark.parametrize("product", ["", "milan", "Venice", "Milan/../Genoa"])
def test_an_unknown_product_is_not_asked_for(product: str) -> None:
    with pytest.raises(CannotAsk):
        vcek_url(product, CHIP, MILAN)


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_a_report_that_hides_its_chip_says_where_else_to_look(product: str) -> None:
    with pytest.raises(CannotAsk, match="provider"):
        vcek_url(product, bytes(64), MILAN)


def test_a_turin_chip_has_zeros_behind_its_8_bytes() -> None:
    with pytest.raises(CannotAsk):
        vcek_url("Turin", CHIP, TURIN)


def test_a_level_is_one_byte_and_a_chip_64() -> None:
    for wrong in (replace(MILAN, snp=256), replace(MILAN, tee=-1)):
        with pytest.raises(ValueError, match="one byte"):
            vcek_url("Milan", CHIP, wrong)
    with pytest.raises(ValueError, match="64"):
        vcek_url("Milan", CHIP[:8], MILAN)


@pytest.mark.parametrize(
    ("product", "leaf", "chain", "level"),
    [
        ("Milan", "milan_v2_virtee/vcek_milan.der", "roots/ask_ark_milan.pem", MILAN),
        ("Genoa", "oak_genoa_v5/vcek.der", "roots/ask_ark_genoa.pem", MILAN),
        ("Turin", "turin_chain/vcek_turin.der", "turin_chain/cert_chain_turin", TURIN),
    ],
)
async def test_gives_the_chain_leaf_first_root_last_and_the_revocation_list(
    product: str, leaf: str, chain: str, level: Level
) -> None:
    vcek, issuers = vector(f"amd_sev_snp/{leaf}"), vector(f"amd_sev_snp/{chain}")
    chip = TURIN_CHIP if product == "Turin" else CHIP
    kds = Scripted(
        {
            vcek_url(product, chip, level): Response(200, (), vcek),
            f"{KDS}/vcek/v1/{product}/cert_chain": Response(200, (), issuers),
            f"{KDS}/vcek/v1/{product}/crl": Response(200, (), CRL),
        }
    )
    certificates, crls = await fetch_amd(kds, product=product, chip_id=chip, tcb=level)
    assert certificates[0] == vcek
    assert [len(der) > 1000 for der in certificates] == [True] * 3
    assert b"ARK-" + product.encode() in certificates[2]
    assert crls == (CRL,)
    assert [request.kind for request in kds.asked] == [Kind.CERTIFICATE, Kind.CERTIFICATE, Kind.CRL]


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
async def test_above_a_vlek_stands_another_issuer_with_a_list_of_its_own(product: str) -> None:
    kds = Scripted(
        {
            f"{KDS}/vlek/v1/{product}/cert_chain": Response(
                200, (), vector(f"amd_sev_snp/roots/ask_ark_{product.lower()}_vlek.pem")
            ),
            f"{KDS}/vlek/v1/{product}/crl": Response(200, (), CRL),
        }
    )
    issuers, crls = await fetch_amd_issuers(kds, product=product, provider=True)
    assert b"SEV-VLEK-" + product.encode() in issuers[0]
    assert (len(issuers), crls) == (2, (CRL,))


async def test_a_mirror_is_asked_in_place_of_amd() -> None:
    mirror = Always(Response(404))
    with pytest.raises(NotKnown):
        await fetch_amd(mirror, product="Milan", chip_id=CHIP, tcb=MILAN, url="https://mirror.example/")
    assert mirror.asked[0].url.startswith("https://mirror.example/vcek/v1/Milan/")


HOSTILE = [
    (None, Unreachable),
    (WEB_PAGE, MalformedAnswer),
    (UNNAMED_PAGE, MalformedAnswer),
    (Response(200), MalformedAnswer),
    (Response(200, (), CRL[:-1]), MalformedAnswer),
    (Response(200, (), CRL + b"\0"), MalformedAnswer),
    (Response(200, (), bytes(MAX_CERTIFICATE + 1)), AnswerTooLarge),
    (Response(302, (("Location", "https://elsewhere.example"),)), Refused),
    (Response(404), NotKnown),
    (Response(429, (("Retry-After", "10"),)), RateLimited),
    (Response(503), Refused),
]


@pytest.mark.parametrize(("answer", "error"), HOSTILE)
async def test_a_certificate_that_is_none_is_refused_without_naming_the_chip(
    answer: Response | None, error: type[FetchError]
) -> None:
    with pytest.raises(error) as caught:
        await fetch_amd(Always(answer), product="Milan", chip_id=CHIP, tcb=MILAN)
    assert CHIP[:4].hex() not in str(caught.value)
    assert "SPL" not in str(caught.value)


@pytest.mark.parametrize("part", ["cert_chain", "crl"])
async def test_half_of_the_documents_is_none(part: str) -> None:
    answers: dict[str, Response | Exception] = {
        vcek_url("Milan", CHIP, MILAN): Response(200, (), CRL),
        f"{KDS}/vcek/v1/Milan/cert_chain": Response(200, (), vector("amd_sev_snp/roots/ask_ark_milan.pem")),
        f"{KDS}/vcek/v1/Milan/crl": Response(200, (), CRL),
    }
    for bad in (Response(200, (), b"-----BEGIN"), Response(200, (), bytes(MAX_CRL + 1)), Response(500)):
        kds = Scripted({**answers, f"{KDS}/vcek/v1/Milan/{part}": bad})
        with pytest.raises(FetchError):
            await fetch_amd(kds, product="Milan", chip_id=CHIP, tcb=MILAN)


async def test_the_issuers_are_two() -> None:
    pem = vector("amd_sev_snp/roots/ask_ark_milan.pem")
    one = pem[: pem.index(b"-----END CERTIFICATE-----") + 26]
    for wrong in (one, pem + one):
        kds = Scripted({f"{KDS}/vlek/v1/Milan/cert_chain": Response(200, (), wrong)})
        with pytest.raises(MalformedAnswer, match="two certificates"):
            await fetch_amd_issuers(kds, product="Milan", provider=True)
