"""Why collateral could not be fetched, and what to do about it.

The text names the service and nothing of the request: addresses of AMD's and NVIDIA's services carry the identifier of
a chip. A failure to fetch says nothing about the evidence. Who goes on without the document is refused by the appraisal
(``MissingCollateral``).
"""

from typing import ClassVar


class FetchError(Exception):
    """A document was not fetched. ``service`` names who was asked; ``advice`` says what to do."""

    advice: ClassVar[str]

    def __init__(self, service: str, what: str) -> None:
        super().__init__(f"{service} {what}. {self.advice}")
        self.service = service


class Unreachable(FetchError):
    """No answer came, or none within the deadline."""

    advice = "Check the network and the proxy and ask again, or use a bundle, which needs no network."

    def __init__(self, service: str) -> None:
        super().__init__(service, "did not answer")


class Refused(FetchError):
    """The service answered with another status than 200; ``status`` is the HTTP status."""

    advice = (
        "From 500 on the fault is the service's: ask again later. Below, it does not accept the way in which it was "
        "asked: it may want an API key, or a newer version of this program."
    )

    def __init__(self, service: str, status: int) -> None:
        super().__init__(service, f"refused with status {status}")
        self.status = status


class Redirected(Refused):
    """The service pointed elsewhere; nobody is followed, because the address was chosen with care."""

    advice = "Redirects are not followed. A login page may stand between: remove it, or configure the new address."


class NotKnown(FetchError):
    """The service has no such document."""

    advice = (
        "Compare product, firmware level and driver version with the evidence. Firmware that is very new may not be "
        "published yet; firmware that is not released never will be."
    )

    def __init__(self, service: str) -> None:
        super().__init__(service, "knows no such document")


class RateLimited(FetchError):
    """The service was asked too often. ``retry_after`` is in seconds, ``None`` if it did not say."""

    advice = "Put a cache in front, which asks once for each document."

    def __init__(self, service: str, retry_after: int | None = None) -> None:
        wait = "wait some minutes" if retry_after is None else f"wait {retry_after} seconds"
        super().__init__(service, f"was asked too often; {wait}")
        self.retry_after = retry_after


class AnswerTooLarge(FetchError):
    """The answer is larger than any real one."""

    advice = "Real documents are smaller: something between, or the configured address, is not the service."

    def __init__(self, service: str, limit: int) -> None:
        super().__init__(service, f"answered with more than {limit} bytes")


class MalformedAnswer(FetchError):
    """The answer came with status 200, but is not the document in the form that its vendor describes."""

    advice = "Ask again; if it stays so, something between, or the configured address, is not the service."


class CannotAsk(FetchError):
    """The evidence does not give what the service has to be asked by."""

    advice = "Take the document from the machine's provider, beside the report, or from a bundle."


class UnsafeFolder(FetchError):
    """The folder of the cache is open to other users of this machine."""

    advice = "Give the cache a folder of its own with mode 0700."

    def __init__(self) -> None:
        super().__init__("The cache", "would lie in a folder that others may read or write, and files in it name chips")
