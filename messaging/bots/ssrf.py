"""Which webhook targets may be connected to. A bot's token is enough to name one, so a name is never trusted.

A host is resolved once for a connection, and the connection goes to exactly the addresses that were checked: nothing is resolved again
in between, and a redirect is not followed. All addresses of a host have to be allowed. Addresses in which another one stands count as
both. Networks that the gateway's operator names are allowed in spite of this, and without TLS.

Source: IANA's registries of special-purpose addresses (RFC 6890 and its updates).
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from messaging.bots.limits import LOOKUP_SECONDS, MAX_LOOKUPS, MAX_URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

HTTPS, HIGH_PORTS = 443, range(1024, 65536)

_REFUSED_4 = [
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind carriers' translators
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
_UNICAST_6 = IPv6Network("2000::/3")  # everything else is none that the world reaches
_REFUSED_6 = [
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")  # the one prefix outside of 2000::/3 that leads to the world
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


class TargetRefused(Exception):
    """A URL, or an address that its host has, is not allowed; ``reason`` is a sentence of ours that holds nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that stands in an IPv6 address, if one does and leads there."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    low = int(address) & 0xFFFF_FFFF
    interface = (int(address) >> 32) & 0xFFFF_FFFF
    if address in _NAT64 or interface in _ISATAP or int(address) >> 32 == 0:
        return IPv4Address(low)
    return None


def is_public(address: Address) -> bool:
    """Whether this is an address on the internet of somebody's host, and nothing else in disguise."""
    inner = embedded(address)
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in each for each in _REFUSED_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return inner is not None and is_public(inner)
    in_the_world = address in _UNICAST_6 and not any(address in each for each in _REFUSED_6)
    return in_the_world and not address.is_multicast and (inner is None or is_public(inner))


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """What may be connected to: public addresses with TLS, and ``allowed`` networks."""

    allowed: tuple[Network, ...] = ()

    def is_named(self, address: Address) -> bool:
        """Whether the operator has named a network with this address, under this form or the one that stands in it."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # the same host, written otherwise
        return any(address.version == each.version and address in each for each in self.allowed)

    def check_url(self, text: str) -> URL:
        """Read a target's URL; its host's addresses are checked when it is connected to.

        Raises:
            TargetRefused: not a URL that a webhook may have.
        """
        if len(text) > MAX_URL or not text.isprintable() or " " in text or "\\" in text:
            raise TargetRefused("not a URL")
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise TargetRefused("not a URL") from None
        if url.scheme not in ("https", "http") or not url.host or port is None:
            raise TargetRefused("an HTTPS URL must be provided")
        if url.user is not None or url.password is not None or "@" in (url.raw_authority or ""):
            raise TargetRefused("a URL with a user or a password is not allowed")
        host = _ascii_host(url)
        literal = _literal(host)
        if literal is not None:
            self.check(literal, port, tls=url.scheme == "https")
        else:
            _check_name(host)
        return url

    def check(self, address: Address, port: int, *, tls: bool) -> None:
        """Check one address that is about to be connected to.

        Raises:
            TargetRefused: it is not allowed.
        """
        if self.is_named(address):
            return
        if not is_public(address):
            raise TargetRefused("the address is private or reserved")
        if not tls:
            raise TargetRefused("an HTTPS URL must be provided")
        if port != HTTPS and port not in HIGH_PORTS:
            raise TargetRefused("the port is not allowed: 443, or 1024 and above")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _check_name(host: str) -> None:
    """A host name in letters, digits and dashes, and nothing that a resolver takes for an address."""
    last = host.rpartition(".")[2]
    if len(host) > 253 or not _HOST.fullmatch(host.lower()) or last.isdigit() or last.lower().startswith("0x"):
        raise TargetRefused("the host is not a name")


async def check_target(policy: TargetPolicy, text: str, lookup: "Resolve | None" = None) -> URL:
    """Read a target's URL and look where it leads now; that is looked at again for every connection.

    Raises:
        TargetRefused: it may not be a target, or its host has no address.
    """
    url = policy.check_url(text)
    if _literal(_ascii_host(url)) is None:
        try:
            resolver = CheckedResolver(policy, url.scheme == "https", lookup or resolve)
            await resolver.resolve(_ascii_host(url), url.port or HTTPS)
        except OSError:
            raise TargetRefused("failed to resolve host") from None
    return url


def _ascii_host(url: URL) -> str:
    return (url.raw_host or "").rstrip(".")  # yarl applies IDNA


class Lookups:
    """Finds the addresses of hosts as this machine does, of ``MAX_LOOKUPS`` at the same time, in threads that nothing else needs.

    Whoever names a host may have its name server answer as slowly as they like, and such a thread cannot be ended: so nobody waits for
    one longer than ``seconds``, and it keeps its place until it is over.
    """

    def __init__(self, seconds: float = LOOKUP_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "lookup")
        self._seconds = seconds

    async def __call__(self, host: str, port: int) -> list[Address]:
        """All addresses of a host.

        Raises:
            OSError: it has none, or they were not found in time.
        """
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        async with asyncio.timeout(self._seconds):
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [ipaddress.ip_address(entry[4][0]) for entry in found]


resolve = Lookups()  # for URLs that are looked at once; deliveries to a target have their own


@dataclass(frozen=True, slots=True)
class CheckedResolver(AbstractResolver):
    """aiohttp's resolver for one target: what it returns was checked, all of it. ``tls`` says whether the target is an https one."""

    policy: TargetPolicy
    tls: bool
    lookup: Resolve = field(default_factory=Lookups)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        """Resolve once, and check.

        Raises:
            TargetRefused: one of the addresses is not allowed.
            OSError: there are none.
        """
        addresses = list(dict.fromkeys(await self.lookup(host, port)))
        for address in addresses:
            self.policy.check(address, port, tls=self.tls)
        if not addresses:
            raise OSError("a host without addresses")
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        """Nothing is open."""

    def open_socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Aiohttp's socket factory: a last look at the address that is connected to, literal ones included.

        Raises:
            TargetRefused: it is not allowed.
        """
        family, kind, protocol, _, place = info
        address, port = ipaddress.ip_address(str(place[0])), place[1]
        self.policy.check(address, port if isinstance(port, int) else 0, tls=self.tls)
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened


def _result(host: str, port: int, address: Address) -> ResolveResult:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=str(address), port=port, family=family, proto=0, flags=flags)
