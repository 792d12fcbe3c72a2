"""What parameters and results of several domains share."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

_MAX_ROW: Final = 2**63 - 1

RowNumber = Annotated[int, Field(ge=1, le=_MAX_ROW)]  # where a page ends


def day_text(milliseconds: int) -> str:
    """The day (UTC) of a time in milliseconds since 1970: ``2025-11-26``. What is kept as a day is shown as one."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
