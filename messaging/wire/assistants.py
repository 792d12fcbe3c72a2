"""JSON of ``/v1/assistants``, endpoints of our own: which assistants there are, and which can be asked now.

All of it is the relay's word, and the relay is not trusted: it may hide an assistant, list a stranger, or lie about who is there.
It tells a client where to ask for evidence first; whom to trust only the evidence tells (``attestation``).
"""

from messaging.wire.json import Entity


class ListedAssistant(Entity):
    """One assistant account. ``online``: a device of it is connected; ``accepting``: it has not said that it drains."""

    name: str
    service_id: str
    online: bool
    accepting: bool


class AssistantDirectory(Entity):
    """``GET /v1/assistants``: all of them, in the order of their names."""

    assistants: tuple[ListedAssistant, ...] = ()


class AssistantState(Entity):
    """``PUT /v1/assistants/{name}/state``: what an assistant says of itself."""

    accepting: bool
