"""Which targets may be: every form of address that leads to a place that is not the internet's."""

import asyncio
import socket
import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.limits import MAX_LOOKUPS, MAX_URL
from messaging.bots.ssrf import (
    Address,
    CheckedResolver,
    Lookups,
    TargetPolicy,
    TargetRefused,
    check_target,
    embedded,
    is_public,
    resolve,
)

PRIVATE = [
    "0.0.0.0",  # noqa: S104
     "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.0", "126.255.255.255", "172.15.0.1", "172.32.0.1", "192.167.255.255", "223.255.255.255"]  # fmt: skip
PRIVATE_6 = [
    "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1",
    "100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1",
    "64:ff9b:1::1", "64:ff9b:1::808:808", "2620:4f:8000::1",
]  # fmt: skip
PUBLIC_6 = ["2606:4700::1111", "2a00:1450:4001::200e", "2400:cb00::1", "2001:4860:4860::8888"]


@pytest.mark.parametrize("text", PUBLIC + PUBLIC_6)
def test_a_host_on_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", PRIVATE + PRIVATE_6)
def test_everything_else_is_not(text: str) -> None:
    assert not is_public(ip_address(text))


def disguises(inner: IPv4Address) -> dict[str, IPv6Address]:
    """Every way in which an IPv4 address stands in an IPv6 address."""
    number = int(inner)
    return {
        "mapped (RFC 4291)": IPv6Address((0xFFFF << 32) | number),
        "compatible (RFC 4291)": IPv6Address(number),
        "NAT64 (RFC 6052)": IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        "NAT64, local (RFC 8215)": IPv6Address(int(IPv6Address("64:ff9b:1::")) | number),
        "6to4 (RFC 3056)": IPv6Address((0x2002 << 112) | (number << 80)),
        "Teredo (RFC 4380)": IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
        "ISATAP (RFC 5214)": IPv6Address((0x2A00 << 112) | (0x00005EFE << 32) | number),
        "ISATAP, universal": IPv6Address((0x2A00 << 112) | (0x02005EFE << 32) | number),
    }


@pytest.mark.parametrize("form", list(disguises(IPv4Address("127.0.0.1"))))
@pytest.mark.parametrize("text", PRIVATE)
def test_a_private_address_in_disguise_is_not_public(text: str, form: str) -> None:
    assert not is_public(disguises(IPv4Address(text))[form])


def test_a_public_address_may_come_through_a_translator() -> None:
    assert is_public(IPv6Address("64:ff9b::808:808"))


@given(st.ip_addresses(v=4))
def test_what_stands_in_an_address_is_found_in_every_form(inner: IPv4Address) -> None:
    found = disguises(inner)
    found.pop("NAT64, local (RFC 8215)")  # refused altogether, whatever stands in it
    assert {embedded(each) for each in found.values()} == {inner}


@given(st.ip_addresses())
def test_what_is_public_is_so_to_python_too_and_nothing_of_ours_is_more_generous(address: Address) -> None:
    if is_public(address):
        assert address.is_global or address in ip_network("64:ff9b::/96")
        special = (address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified)
        assert not any(special)


# --- URLs ---


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "https", "https://", "https:///path", "//example.com", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com",
        "javascript:1", "http://example.com:http/", "https://example.com:99999/", "https://user@example.com/", "https://user:pass@example.com/",
        "https://@example.com/", "https://:@example.com/", "https://example.com\\@127.0.0.1/", "https://exa mple.com/", "https://example.com/\n",
        "https://example.com/\x00", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/",
        "https://0177.0.0.1/", "https://017700000001/", "https://127.0.0.1./", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[::]/",
        "https://0/", "https://0.0.0.0/", "https://169.254.169.254/latest/meta-data/", "https://１２７.0.0.1/", "https://127。0。0。1/",
        "https://①②⑦.0.0.1/", "https://%31%32%37.0.0.1/", "https://example..com/", "https://-example.com/", "https://example.com:22/x#@1.1.1.1:22",
        "https://8.8.8.8:22/", "https://8.8.8.8:1023/", "https://8.8.8.8:0/", "http://8.8.8.8/", "https://" + "x" * MAX_URL,
        "https://" + "a." * 130 + "com/",
    ],
)  # fmt: skip
async def test_a_url_that_is_none_or_leads_astray_is_refused(url: str) -> None:
    async def nowhere(_host: str, _port: int) -> list[Address]:
        return [IPv4Address("10.0.0.1")]

    with pytest.raises(TargetRefused):
        await check_target(TargetPolicy(), url, nowhere)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/hook?x=1", "example.com"),
        ("https://example.com:8443/", "example.com"),
        ("https://EXAMPLE.com./", "example.com"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://8.8.8.8/", "8.8.8.8"),
        ("https://[2606:4700::1111]:1024/", "2606:4700::1111"),
        ("https://my_host.example/", "my_host.example"),
    ],
)
async def test_a_url_of_a_public_host_is_a_target(url: str, host: str) -> None:
    asked: list[str] = []

    async def public(name: str, _port: int) -> list[Address]:
        asked.append(name)
        return [IPv4Address("1.1.1.1"), IPv6Address("2606:4700::1111")]

    found = await check_target(TargetPolicy(), url, public)
    assert (found.raw_host or "").rstrip(".") == host
    assert asked in ([], [host])


async def test_one_private_address_among_public_ones_is_one_too_many() -> None:
    async def both(_host: str, _port: int) -> list[Address]:
        return [IPv4Address("1.1.1.1"), IPv4Address("10.0.0.1")]

    with pytest.raises(TargetRefused, match="private or reserved"):
        await check_target(TargetPolicy(), "https://example.com/", both)


async def test_a_host_without_an_address_is_refused() -> None:
    async def nothing(_host: str, _port: int) -> list[Address]:
        return []

    with pytest.raises(TargetRefused, match="failed to resolve host"):
        await check_target(TargetPolicy(), "https://example.com/", nothing)


async def test_this_machines_own_names_are_resolved_and_refused() -> None:
    with pytest.raises(TargetRefused, match="private or reserved"):
        await check_target(TargetPolicy(), "https://localhost/", resolve)


# --- what the operator allows ---

HOME = TargetPolicy((IPv4Network("10.1.0.0/16"), ip_network("fd00::/64")))


@pytest.mark.parametrize("text", ["10.1.0.1", "10.1.255.255", "::ffff:10.1.2.3", "fd00::5"])
def test_a_named_network_is_allowed_on_any_port_and_without_tls(text: str) -> None:
    HOME.check(ip_address(text), 80, tls=False)


@pytest.mark.parametrize("text", ["10.2.0.1", "127.0.0.1", "fd00:0:0:1::1", "64:ff9b::a01:1", "2002:a01:1::"])
def test_nothing_else_is_allowed_with_it(text: str) -> None:
    with pytest.raises(TargetRefused):
        HOME.check(ip_address(text), 443, tls=True)


# --- the connection ---


async def test_what_is_connected_to_is_what_was_checked_and_it_is_resolved_once() -> None:
    asked = 0

    async def changing(_host: str, _port: int) -> list[Address]:
        nonlocal asked
        asked += 1
        return [IPv4Address("1.1.1.1" if asked == 1 else "127.0.0.1")]

    resolver = CheckedResolver(TargetPolicy(), tls=True, lookup=changing)
    assert [found["host"] for found in await resolver.resolve("example.com", 443)] == ["1.1.1.1"]
    with pytest.raises(TargetRefused):
        await resolver.resolve("example.com", 443)


@pytest.mark.parametrize(
    ("family", "place"),
    [
        (socket.AF_INET, ("127.0.0.1", 443)),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 443, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 443, 0, 1)),
        (socket.AF_INET, ("8.8.8.8", 25)),
    ],
)
async def test_the_last_look_is_at_the_address_itself(family: int, place: tuple[object, ...]) -> None:
    resolver = CheckedResolver(TargetPolicy(), tls=True)
    with pytest.raises(TargetRefused):
        resolver.open_socket((family, socket.SOCK_STREAM, 0, "", place))
    opened = resolver.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 443)))
    opened.close()


async def test_a_name_server_that_does_not_answer_takes_threads_of_lookups_alone_and_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, asked = threading.Event(), []

    def silent(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        answered.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    lookups, others = Lookups(0.2), Lookups(0.2)
    try:
        many = [lookups(f"{number}.example", 443) for number in range(40)]
        found = await asyncio.gather(*many, return_exceptions=True)
        assert all(isinstance(each, OSError) for each in found)
        assert len(asked) == MAX_LOOKUPS
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 5) == "done"
        with pytest.raises(TimeoutError):
            await others("other.example", 443)
        assert asked[MAX_LOOKUPS:] == ["other.example"]
    finally:
        answered.set()


def test_each_target_has_lookups_of_its_own() -> None:
    one, other = (CheckedResolver(TargetPolicy(), tls=True).lookup for _ in range(2))
    assert len({id(one), id(other), id(resolve)}) == 3
