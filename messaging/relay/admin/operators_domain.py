"""Operators as a domain of the console: who there is, and changing it."""

from typing import Any, Final

from messaging.relay.admin.desk import Action, View

VIEWS: Final[tuple[View[Any, Any], ...]] = ()
ACTIONS: Final[tuple[Action[Any], ...]] = ()
