"""How names of the registry are said to people: ``usesLeft`` is "Uses left", ``accounts.suspend`` stands under "Accounts"."""

import re
from functools import cache
from typing import Final

from pydantic.alias_generators import to_camel

_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
# What the rule below would say badly.
_SPECIAL: Final = {
    "aci": "Account",
    "pni": "Number identifier",
    "ip": "IP",
    "id": "Number",
    "at": "Time",
    "via": "Through",
    "url": "Address",
    "ttl": "Lifetime",
    "p50": "Median",
    "p95": "95th percentile",
    "totp": "Authenticator app",
    "json": "JSON",
    "sha256": "SHA-256",
}
# Short names of views and actions, for buttons and tabs, where the word behind the point would not do.
SHORT: Final = {
    "accounts.show": "Open",
    "accounts.report": "Data report",
    "accounts.unsuspend": "End the suspension",
    "assistants.show": "Open",
    "assistants.undrain": "Let it take requests again",
    "audit.list": "Entries",
    "audit.head": "Proof of now",
    "abuse.dismiss": "Forget the reports",
    "approvals.require": "Choose which actions wait",
    "devices.revoke": "Remove devices",
    "invites.make": "Make an invite",
    "limits.grant": "Grant a limit",
    "limits.ungrant": "Take a grant back",
    "limits.undo": "Go back to this",
    "config.undo": "Go back to this",
    "nodes.stop_drain": "Do not drain",
    "operators.bind_oidc": "Bind to the company's provider",
    "operators.change_role": "Change the role",
    "operators.disable": "Disable",
    "operators.end_sign_in": "Sign out",
    "operators.invite": "Invite an operator",
    "operators.list": "Operators",
    "operators.sign_ins": "Sign-ins",
    "parked.drop": "Forget what is parked",
    "parked.retry": "Deliver again",
    "tokens.make": "Make a token",
    "nodes.drain": "Drain",
    "config.change": "Change",
    "limits.change": "Change",
}
_ACRONYMS = frozenset(
    {
        "aci",
        "pni",
        "id",
        "url",
        "tls",
        "cpu",
        "gpu",
        "tee",
        "api",
        "sql",
        "apns",
        "fcm",
        "json",
        "totp",
        "oidc",
        "snp",
        "tdx",
    }
)


@cache
def label_of(name: str) -> str:
    """A member of a result or a parameter, in English."""
    camel = to_camel(name)
    if camel in _SPECIAL:
        return _SPECIAL[camel]
    words = [part.lower() for part in _PARTS.findall(camel)]
    # A time says so itself: "Created at" is read as "Created".
    if len(words) > 1 and words[-1] in {"at", "bytes", "seconds", "ms"}:
        words = words[:-1]
    text = " ".join(word.upper() if word in _ACRONYMS else word for word in words)
    return text[:1].upper() + text[1:]


@cache
def short_name(name: str) -> str:
    """A view or an action, in English, in as few words as a button has."""
    return SHORT.get(name) or label_of(name.partition(".")[2])


@cache
def words_of(value: str) -> str:
    """A value that is one of a few, in English: ``in_use`` is "in use"."""
    return value.replace("_", " ")
