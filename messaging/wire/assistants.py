"""JSON of ``/v1/assistants``, endpoints of our own: which assistants there are, and which can be asked now.

All of it is the relay's word, and the relay is not trusted: it may hide an assistant, list a stranger, or lie about who is there.
It tells a client where to ask for evidence first; whom to trust only the evidence tells (``attestation``).

What an assistant reports for the operator to see is as little as its operator may learn: that it runs, where, and its load in
steps. No count in it is exact, and none is of a user.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from messaging.wire.json import Base64, Entity
from messaging.wire.limits import MAX_RELEASE_NAME, MAX_REPORTED_BUNDLE, MEASUREMENT, NONCE

REQUEST_STEPS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # what a number of requests is rounded up to
CONVERSATION_STEPS: Final = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
MEMORY_STEPS: Final = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # MiB


def rounded_up(exact: float, steps: Sequence[int]) -> int:
    """The least of ``steps``, which ascend, that is not below ``exact``; the last one if all are."""
    return steps[min(bisect_left(steps, exact), len(steps) - 1)]


def _one_of(steps: Sequence[int]) -> AfterValidator:
    def check(value: int) -> int:
        if value not in steps:
            raise ValueError("not one of the steps: an exact number is nobody's to know")
        return value

    return AfterValidator(check)


def _is_plain(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has no control characters")
    return name


class ListedAssistant(Entity):
    """One assistant account. ``online``: a device of it is connected.

    ``accepting``: it has not said that it drains, and no operator lets it have nothing new.
    """

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


class ReportNonce(Entity):
    """``GET /v1/assistants/{name}/report``: what the next report's evidence has to answer."""

    nonce: Annotated[Base64, Field(min_length=NONCE, max_length=NONCE)]


class AssistantLoad(Entity):
    """How much an assistant has to do, each number rounded up to a step.

    ``waiting`` and ``serving`` are requests, ``conversations`` those that it holds messages of, ``memory_mib`` what these take.
    """

    waiting: Annotated[int, _one_of(REQUEST_STEPS), Field(json_schema_extra={"enum": list(REQUEST_STEPS)})]
    serving: Annotated[int, _one_of(REQUEST_STEPS), Field(json_schema_extra={"enum": list(REQUEST_STEPS)})]
    conversations: Annotated[
        int, _one_of(CONVERSATION_STEPS), Field(json_schema_extra={"enum": list(CONVERSATION_STEPS)})
    ]
    memory_mib: Annotated[int, _one_of(MEMORY_STEPS), Field(json_schema_extra={"enum": list(MEMORY_STEPS)})]


class ReportedEvidence(Entity):
    """Where an assistant runs, and what proves it.

    ``bundle`` is an ``attestation.Bundle``, deflated (RFC 1950); it answers ``nonce``. ``release`` and ``measurement`` are what is in
    it, said once more for whoever cannot read it, and proved by nothing else.
    """

    nonce: Annotated[Base64, Field(min_length=NONCE, max_length=NONCE)]
    bundle: Annotated[Base64, Field(min_length=1, max_length=MAX_REPORTED_BUNDLE)]
    release: Annotated[str, Field(min_length=1, max_length=MAX_RELEASE_NAME), AfterValidator(_is_plain)]
    measurement: Annotated[Base64, Field(min_length=MEASUREMENT, max_length=MEASUREMENT)]


class AssistantReport(Entity):
    """``PUT /v1/assistants/{name}/report``: what an assistant tells the operator. One that drains has no new evidence."""

    load: AssistantLoad
    evidence: ReportedEvidence | None = None
