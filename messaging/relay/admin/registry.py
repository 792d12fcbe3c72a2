"""Everything that an operator may look at and do: of this the console, the admin API and the terminal are made."""

from typing import Any, Final

from messaging.relay.admin import operators_domain
from messaging.relay.admin.desk import Action, View

_DOMAINS: Final = (operators_domain,)

VIEWS: Final[dict[str, View[Any, Any]]] = {view.name: view for domain in _DOMAINS for view in domain.VIEWS}
ACTIONS: Final[dict[str, Action[Any]]] = {action.name: action for domain in _DOMAINS for action in domain.ACTIONS}
