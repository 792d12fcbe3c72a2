"""What parameters and results of several domains share."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

from pydantic import Field

from messaging.relay.admin.limits import MAX_PAGE

T = TypeVar("T")

MAX_ROW: Final = 2**63 - 1
DAY: Final = 24 * 60 * 60 * 1000  # milliseconds

RowNumber = Annotated[int, Field(ge=1, le=MAX_ROW)]  # where a page ends
PageSize = Annotated[int, Field(ge=1, le=MAX_PAGE)]


def page_of(found: Sequence[T], limit: int) -> tuple[Sequence[T], T | None]:
    """The page in what was found with a limit of one more; and its last one, behind which the next page begins, if there is a next."""
    page = found[:limit]
    return page, page[-1] if len(found) > limit else None


def day_text(milliseconds: int) -> str:
    """The day (UTC) of a time in milliseconds since 1970: ``2025-11-26``. What is kept as a day is shown as one."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
