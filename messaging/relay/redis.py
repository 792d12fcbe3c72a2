"""How relays reach Redis or Valkey: one server, or a cluster.

``redis://``, ``rediss://`` and ``unix://`` name one server; ``redis+cluster://`` and ``rediss+cluster://`` name any node of a
cluster. Whatever is kept or published has one key, with the part that a cluster hashes in braces.
"""

from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

_CLUSTER = "+cluster://"
FAILURES = (RedisError, RedisClusterException, OSError)  # a cluster that is away is no RedisError to redis-py
Client = Redis | RedisCluster


def is_cluster(url: str) -> bool:
    """Whether ``url`` names a cluster."""
    return _CLUSTER in url


def node_url(url: str, host: str, port: int) -> str:
    """The URL of one node of the cluster that ``url`` names: the same, credentials included, at another address."""
    parts = urlsplit(url.replace(_CLUSTER, "://", 1))
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return urlunsplit(parts._replace(netloc=login + address))


def connect(url: str, *, timeout: float | None, connect_timeout: float) -> Client:
    """A client that connects when it is first used. A ``timeout`` of ``None`` waits for an answer for ever.

    Raises:
        ValueError: not a URL of Redis.
    """
    if is_cluster(url):
        single = url.replace(_CLUSTER, "://", 1)
        return RedisCluster.from_url(single, socket_timeout=timeout, socket_connect_timeout=connect_timeout)
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=connect_timeout)
