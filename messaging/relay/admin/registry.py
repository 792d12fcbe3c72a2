"""Everything that an operator may look at and do: of this the console, the admin API and the terminal are made."""

from typing import Any, Final

from messaging.relay.admin import (
    abuse,
    accounts,
    assistants,
    audit_domain,
    bots,
    invites,
    jobs,
    limits_and_config,
    nodes,
    operators_domain,
    overview,
    parked,
    schema,
)
from messaging.relay.admin.desk import Action, View

_DOMAINS: Final = (
    abuse,
    accounts,
    assistants,
    audit_domain,
    bots,
    invites,
    jobs,
    limits_and_config,
    nodes,
    operators_domain,
    overview,
    parked,
    schema,
)

VIEWS: Final[dict[str, View[Any, Any]]] = {view.name: view for domain in _DOMAINS for view in domain.VIEWS}
ACTIONS: Final[dict[str, Action[Any]]] = {action.name: action for domain in _DOMAINS for action in domain.ACTIONS}
