"""Which pages there are and how they hang together: the side navigation, and what a thing on a page leads to.

A view or an action is offered where everything that it cannot do without is at hand, under the same names: beside an invite's ``id``
stands what takes an ``id``. Nothing is offered that the operator may not see or do.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from messaging.console.forms import SENSITIVE, Field, checked, fields_of, required_names
from messaging.console.translate import N_
from messaging.console.words import label_of
from messaging.relay.admin.desk import Action, Operator, View
from messaging.relay.admin.errors import InvalidInput
from messaging.relay.admin.registry import ACTIONS, VIEWS

# Where a list goes on: links give them, nobody types them.
CURSORS: Final = frozenset({"before", "after", "afterReporters", "next", "limit"})

TITLES: Final = {
    "overview": N_("Overview"),
    "nodes": N_("Nodes"),
    "storage": N_("Storage"),
    "jobs": N_("Jobs"),
    "parked": N_("Parked messages"),
    "push": N_("Push"),
    "accounts": N_("Accounts"),
    "invites": N_("Invites"),
    "bots": N_("Bots"),
    "abuse": N_("Reports and abuse"),
    "assistants": N_("Assistants"),
    "releases": N_("Releases"),
    "limits": N_("Rate limits"),
    "config": N_("Remote configuration"),
    "schema": N_("What this server cannot see"),
    "audit": N_("Audit log"),
    "operators": N_("Operators"),
    "approvals": N_("Approvals"),
    "tokens": N_("API tokens"),
    "proposals": N_("Approvals"),
}
_GROUPS: Final = (
    (N_("Server"), ("overview", "nodes", "jobs", "parked", "storage", "push")),
    (N_("People"), ("accounts", "invites", "bots", "abuse")),
    (N_("Private AI"), ("assistants", "releases")),
    (N_("Rules"), ("limits", "config")),
    (N_("Proof"), ("schema", "audit")),
    (N_("Access"), ("approvals", "operators", "tokens")),
)
# The page that a domain opens with, where it is not the first of its views that needs nothing.
_MAIN: Final = {"overview": "/", "approvals": "/approvals", "accounts": "/views/accounts.search"}
# Where data of a thing is known by these names, wherever it stands.
_ELSEWHERE: Final = ("accounts.show",)
# Domains that have no page of their own.
_ELSEWHERE_SHOWN: Final = frozenset({"proposals", "devices"})
# What an action or a view calls what a line of this view calls something else.
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "nodes.list": {"node": "id"},
    "operators.list": {"operatorId": "id"},
    "operators.sign_ins": {"signIn": "id"},
    "tokens.list": {"tokenId": "id"},
}
# What else names a thing in a line of this view.
_NAMES: Final[Mapping[str, frozenset[str]]] = {
    "accounts.show": frozenset({"limit"}),
    "limits.show": frozenset({"limit", "bots"}),
    "config.show": frozenset({"name"}),
}
_IDENTIFIERS: Final = frozenset({"aci", "id", "node", "signIn", "version"})
# When an action makes sense, as far as what is shown of the thing tells. It is refused otherwise anyway.
_WHEN: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "accounts.suspend": lambda it: it.get("suspendedAt") is None and it.get("state") != "deleted",
    "accounts.unsuspend": lambda it: it.get("suspendedAt") is not None or it.get("state") == "suspended",
    "assistants.drain": lambda it: it.get("state") != "drained",
    "assistants.undrain": lambda it: it.get("state") == "drained",
    "invites.revoke": lambda it: it.get("state") == "good",
    "nodes.drain": lambda it: it.get("state") == "ready" and it.get("drainAskedAt") is None,
    "nodes.stop_drain": lambda it: it.get("state") == "ready" and it.get("drainAskedAt") is not None,
    "operators.disable": lambda it: it.get("disabledAt") is None,
    "parked.retry": lambda it: it.get("parked") != 0,
    "parked.drop": lambda it: it.get("parked") != 0,
}
# Domains whose actions stand on this one's pages, too.
_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {"accounts": ("devices", "limits", "parked")}


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the navigation."""

    domain: str
    title: str
    address: str


@dataclass(frozen=True, slots=True)
class Link:
    """Something that a thing leads to: a view or an action, with the parameters that are at hand."""

    target: View[Any, Any] | Action[Any]
    parameters: Mapping[str, str]

    @property
    def is_action(self) -> bool:
        """Whether it does something."""
        return isinstance(self.target, Action)

    @property
    def is_complete(self) -> bool:
        """Whether it is an action that asks for nothing more: then a button is enough, and no form."""
        return self.is_action and all(field.name in self.parameters for field in fields_of(self.target.takes))

    @property
    def address(self) -> str:
        """The path of its page."""
        return f"/{'actions' if self.is_action else 'views'}/{self.target.name}"


def domain_of(name: str) -> str:
    """``accounts`` of ``accounts.suspend``."""
    return name.partition(".")[0]


def title_of(domain: str) -> str:
    """In English."""
    return TITLES.get(domain) or label_of(domain)


def main_of(domain: str) -> str:
    """The page that a domain opens with."""
    alone = [name for name, view in VIEWS.items() if domain_of(name) == domain and stands_alone(view)]
    return _MAIN.get(domain) or (f"/views/{alone[0]}" if alone else "/")


def visible(operator: Operator, domain: str) -> list[View[Any, Any]]:
    """The views of a domain that the operator may see."""
    return [
        view for view in VIEWS.values() if domain_of(view.name) == domain and view.permission in operator.permissions
    ]


def navigation(operator: Operator) -> list[tuple[str, list[Item]]]:
    """Groups of pages that the operator may see."""
    named = {domain for _, domains in _GROUPS for domain in domains} | _ELSEWHERE_SHOWN
    others = tuple(dict.fromkeys(domain_of(name) for name in VIEWS if domain_of(name) not in named))
    groups = [
        (group, [item for domain in domains if (item := _item(operator, domain)) is not None])
        for group, domains in (*_GROUPS, (N_("More"), others))
    ]
    return [(group, items) for group, items in groups if items]


def _item(operator: Operator, domain: str) -> Item | None:
    open_to_all = domain == "approvals"
    views = [view for view in visible(operator, domain) if stands_alone(view) or view.name == "accounts.search"]
    if not views and not open_to_all:
        return None
    return Item(domain, title_of(domain), _MAIN.get(domain) or f"/views/{views[0].name}")


def stands_alone(what: View[Any, Any] | Action[Any]) -> bool:
    """Whether it needs nothing to be typed first."""
    return not required_names(what.takes)


def filters_of(view: View[Any, Any]) -> list[Field]:
    """The fields that people fill in for a view."""
    return [field for field in fields_of(view.takes) if field.name not in CURSORS]


def tabs(operator: Operator, domain: str) -> list[View[Any, Any]]:
    """The views of a domain between which one goes to and fro."""
    found = [view for view in visible(operator, domain) if stands_alone(view) and view.name != "audit.export"]
    return found if len(found) > 1 else []


def starters(operator: Operator, domain: str) -> list[Action[Any]]:
    """The actions of a domain that are about nothing that is there already, such as making an invite."""
    return [action for action in _permitted(operator, domain) if not _named(action)]


def links(
    operator: Operator, here: str, at_hand: Mapping[str, Any], row: Mapping[str, Any] | None = None
) -> list[Link]:
    """What leads on from a thing on the page of the view ``here``.

    Args:
        here: the name of the view.
        at_hand: what is known of the whole page: its parameters, and what it shows once.
        row: what is known of one line of a table. Then only what needs something of it is given.
    """
    facts = {**at_hand, **(row or {})}
    if row is not None:
        aliases = {name: row[called] for name, called in _ALIASES.get(here, {}).items() if called in row}
        row, facts = {**row, **aliases}, {**facts, **aliases}
    known = {name: value for name, value in facts.items() if _is_plain(value)}
    of, also = (set(known), _IDENTIFIERS) if row is None else (set(row), _IDENTIFIERS | _NAMES.get(here, frozenset()))
    found = (_link(target, known, of, also) for target in _targets(operator, here, in_row=row is not None))
    return [link for link in found if link is not None and _WHEN.get(link.target.name, _always)(facts)]


def _targets(operator: Operator, here: str, *, in_row: bool) -> list[View[Any, Any] | Action[Any]]:
    """What might be led to. A line of a list of accounts leads to the account; what can be done to it stands there."""
    domain = domain_of(here)
    views = [view for view in visible(operator, domain) if view.name != here]
    views += [VIEWS[name] for name in _ELSEWHERE if name in VIEWS and VIEWS[name] not in views and name != here]
    beside = () if in_row and here != "accounts.show" else _BESIDE.get(domain, ())
    actions = [action for each in (domain, *beside) for action in _permitted(operator, each)]
    shown = [view for view in views if view.permission in operator.permissions]
    return [*shown] if in_row and here == "accounts.search" else [*shown, *actions]


def _link(
    target: View[Any, Any] | Action[Any], known: Mapping[str, Any], of: AbstractSet[str], naming: AbstractSet[str]
) -> Link | None:
    """A link to ``target``, if what it needs is known, and something of it is in ``of``; ``None`` if not."""
    takes = {field.name for field in fields_of(target.takes)}
    needed = _named(target) if isinstance(target, Action) else required_names(target.takes)
    also = {name for name in takes if name in naming or name.endswith("Id")} & known.keys() & of
    if not (needed or also) or needed & SENSITIVE or not needed <= known.keys() or not (needed | also) & of:
        return None
    if isinstance(target, View) and not needed:
        return None
    parameters = {name: known[name] for name in sorted((needed | also | ({"seen"} & takes)) & known.keys())}
    try:
        checked(target.takes, parameters)
    except InvalidInput as error:
        if set(error.fields) & parameters.keys():
            return None  # such as the first device, which cannot be removed
    return Link(target, {name: _as_typed(value) for name, value in parameters.items()})


def _as_typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _always(_facts: Mapping[str, Any]) -> bool:
    return True


def _named(action: Action[Any]) -> frozenset[str]:
    """What says to which thing an action is done: parameters without which it cannot be, that are called as identifiers are."""
    return frozenset(name for name in required_names(action.takes) if name in _IDENTIFIERS or name.endswith("Id"))


def _permitted(operator: Operator, domain: str) -> list[Action[Any]]:
    return [
        action
        for action in ACTIONS.values()
        if domain_of(action.name) == domain and action.permission in operator.permissions
    ]


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int) and value != ""
