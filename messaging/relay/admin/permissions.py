"""Who may do what: the one table. A role is a set of permissions; a token has some of those of its operator."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final

from messaging.relay.admin.errors import NotPermitted


class Role(StrEnum):
    """What an operator is there for."""

    VIEWER = "viewer"
    SUPPORT = "support"
    MODERATOR = "moderator"
    SECURITY = "security"
    OWNER = "owner"


class Permission(StrEnum):
    """One thing that may be permitted. The first word is what it is about."""

    HEALTH_SEE = "health.see"  # figures of the whole server, none about an account
    SCHEMA_SEE = "schema.see"  # what the server stores and what it does not
    ACCOUNTS_SEE = "accounts.see"
    ACCOUNTS_REPORT = "accounts.report"  # all that is held of one account, as an authority would get it
    ACCOUNTS_SUSPEND = "accounts.suspend"
    ACCOUNTS_DELETE = "accounts.delete"
    DEVICES_REVOKE = "devices.revoke"
    LIMITS_GRANT = "limits.grant"  # to one account
    LIMITS_CHANGE = "limits.change"  # for everybody
    INVITES_SEE = "invites.see"
    INVITES_MANAGE = "invites.manage"
    BOTS_SEE = "bots.see"
    ABUSE_SEE = "abuse.see"
    ABUSE_SETTLE = "abuse.settle"
    CONFIG_SEE = "config.see"
    CONFIG_CHANGE = "config.change"
    PARKED_MANAGE = "parked.manage"
    ASSISTANTS_DRAIN = "assistants.drain"
    NODES_DRAIN = "nodes.drain"
    AUDIT_SEE = "audit.see"
    OPERATORS_SEE = "operators.see"
    OPERATORS_MANAGE = "operators.manage"
    TOKENS_MAKE = "tokens.make"  # for oneself, of what one may


P = Permission
_VIEWER: Final = frozenset({P.HEALTH_SEE, P.SCHEMA_SEE, P.CONFIG_SEE, P.BOTS_SEE, P.TOKENS_MAKE})
_SUPPORT: Final = _VIEWER | {
    P.ACCOUNTS_SEE,
    P.DEVICES_REVOKE,
    P.LIMITS_GRANT,
    P.INVITES_SEE,
    P.INVITES_MANAGE,
    P.PARKED_MANAGE,
}
_MODERATOR: Final = _VIEWER | {
    P.ACCOUNTS_SEE,
    P.ACCOUNTS_SUSPEND,
    P.ABUSE_SEE,
    P.ABUSE_SETTLE,
    P.INVITES_SEE,
}
_SECURITY: Final = _VIEWER | {
    P.ACCOUNTS_SEE,
    P.ACCOUNTS_REPORT,
    P.ACCOUNTS_SUSPEND,
    P.ACCOUNTS_DELETE,
    P.DEVICES_REVOKE,
    P.ABUSE_SEE,
    P.LIMITS_CHANGE,
    P.ASSISTANTS_DRAIN,
    P.NODES_DRAIN,
    P.AUDIT_SEE,
    P.OPERATORS_SEE,
}
GRANTED: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _VIEWER,
    Role.SUPPORT: _SUPPORT,
    Role.MODERATOR: _MODERATOR,
    Role.SECURITY: _SECURITY,
    Role.OWNER: frozenset(Permission),
}


def require(held: AbstractSet[Permission], needed: Permission) -> None:
    """Check that ``needed`` is among what somebody holds.

    Raises:
        NotPermitted: it is not.
    """
    if needed not in held:
        raise NotPermitted
