"""Remote configuration: values that an operator sets for clients, for all or for a part of the accounts.

A file in TOML, one table for each name: ``value``, and optionally ``percentage`` (of accounts, always the same ones) and
``accounts`` (ACIs that always have it). An account that is not in the part does not see the name.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from messaging.relay.accounts.authentication import Authentication
from messaging.relay.errors import StartupError
from messaging.relay.http import Answer, Call, Doc, Route, answer_with
from messaging.relay.limits import RateLimits
from messaging.wire.profiles import Quota, Quotas, RemoteConfig


@dataclass(frozen=True, slots=True)
class ConfigValue:
    """One value, and who has it."""

    value: str
    percentage: float = 100
    accounts: frozenset[UUID] = field(default=frozenset())

    def is_for(self, name: str, aci: UUID) -> bool:
        """Whether an account has it: a hash of both decides, so that each name has another part of the accounts."""
        share = int.from_bytes(sha256(aci.bytes + name.encode()).digest()[:8], "big") / 2**64
        return aci in self.accounts or share * 100 < self.percentage


def read_remote_config(path: Path | None) -> dict[str, ConfigValue]:
    """The values of a file; none without one.

    Raises:
        StartupError: no such file, not TOML, or a table of another shape.
    """
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"cannot read the remote configuration: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise StartupError("the remote configuration is not TOML") from None
    return {name: _value(table) for name, table in tables.items()}


class LiveConfig:
    """The values as they are now: ``base``, which was read at the relay's start, with what operators have set since."""

    def __init__(self, base: Mapping[str, ConfigValue]) -> None:
        self._base = base
        self._set: Mapping[str, ConfigValue | None] = {}

    def values(self) -> dict[str, ConfigValue]:
        """All values that stand."""
        return {name: value for name, value in {**self._base, **self._set}.items() if value is not None}

    def apply(self, document: Mapping[str, Any]) -> None:
        """Let the setting ``remote_config`` stand above the base: tables as in the file, or null for a name that nobody has.

        Raises:
            ValueError: not such a document; nothing changes.
        """
        self._set = {name: None if table is None else value_of(table) for name, table in document.items()}


def _value(table: object) -> ConfigValue:
    try:
        return value_of(table)
    except ValueError as problem:
        raise StartupError(str(problem)) from None


def value_of(table: object) -> ConfigValue:
    """A value, read from a table with ``value``, ``percentage`` and ``accounts``.

    Raises:
        ValueError: a table of another shape.
    """
    problem = ValueError("the remote configuration takes tables with value, percentage (0 to 100) and accounts")
    if not isinstance(table, dict) or not table.keys() <= {"value", "percentage", "accounts"}:
        raise problem
    value, percentage, accounts = table.get("value"), table.get("percentage", 100), table.get("accounts", [])
    if not isinstance(value, str | bool | int) or not isinstance(percentage, int | float) or not 0 <= percentage <= 100:
        raise problem
    try:
        known = frozenset(UUID(str(account)) for account in accounts)
    except (ValueError, TypeError):
        raise problem from None
    return ConfigValue(str(value).lower() if isinstance(value, bool) else str(value), percentage, known)


def config_routes(config: LiveConfig, limits: RateLimits, authentication: Authentication) -> list[Route]:
    """The routes of remote configuration and of one's own quotas."""

    async def get_config(call: Call) -> Answer:
        caller = await authentication.require(call)
        values = {name: each.value for name, each in sorted(config.values().items()) if each.is_for(name, caller.aci)}
        answer = answer_with(RemoteConfig(config=values))
        tag = f'"{sha256(answer.body).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        known = {part.strip().removeprefix("W/") for part in call.headers.get("if-none-match", "").split(",")}
        if tag in known:
            return Answer(304, headers=headers)
        return Answer(answer.status, answer.body, {**answer.headers, **headers})

    async def get_limits(call: Call) -> Answer:
        caller = await authentication.require(call)
        quotas = tuple(
            Quota(
                name=usage.limit,
                size=int(usage.bucket.size),
                refill_seconds=usage.bucket.refill,
                remaining=usage.remaining,
                full_in_seconds=usage.reset,
            )
            for usage in await limits.quotas(caller.account_id, bot=caller.is_bot)
        )
        return answer_with(Quotas(limits=quotas))

    return [
        Route(
            "GET",
            "/v2/config",
            get_config,
            Doc("Values that the operator sets for clients", gives=RemoteConfig, also=(304,)),
        ),
        Route(
            "GET", "/v1/limits", get_limits, Doc("What is left to the calling account in its own buckets", gives=Quotas)
        ),
    ]
