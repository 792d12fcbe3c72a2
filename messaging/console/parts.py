"""What pages and the API of the console are made of, and what guards have found out about a request.

Handlers find the ``Console`` in their application. One that is reached has ``request[OPERATOR]``, whatever the way of signing in; only the
paths that ``guards`` lists are reached without.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from messaging.console.live import Live
from messaging.console.settings import Settings
from messaging.relay.admin.desk import Desk, Operator
from messaging.relay.admin.door import Door
from messaging.relay.admin.operators import OperatorRecord
from messaging.relay.admin.sign_ins import SignIn

OPERATOR = web.RequestKey("operator", Operator)  # who asks, with the permissions that they have now
SIGN_IN = web.RequestKey("sign_in", SignIn)  # there with a cookie, not with a token
RECORD = web.RequestKey("record", OperatorRecord)  # the same
AT_RISK = web.RequestKey("at_risk", bool)  # whether this page urges the operator to make recovery codes or a passkey


@dataclass(frozen=True, slots=True)
class Site:
    """Where the console is for browsers: ``origin`` is a scheme, a host and a port (RFC 6454), as passkeys are bound to it.

    ``hosts`` are the values of ``Host`` that are answered, ``origins`` those of ``Origin`` that may change something.
    """

    origin: str
    hosts: frozenset[str]
    origins: frozenset[str]

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it through TLS."""
        return self.origin.startswith("https://")

    @property
    def host(self) -> str:
        """The value of ``Host`` under which it calls itself."""
        return self.origin.partition("://")[2]

    @property
    def name(self) -> str:
        """The host without its port: the relying party's id of passkeys."""
        return urlsplit(self.origin).hostname or ""


@dataclass(frozen=True, slots=True)
class Console:
    """Everything that handlers use."""

    settings: Settings
    site: Site
    desk: Desk
    door: Door
    live: Live  # the history for charts
    has_oidc: bool = False


CONSOLE = web.AppKey("console", Console)
