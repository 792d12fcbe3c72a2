"""Pages of lists."""

import pytest

from messaging.relay.admin.parameters import page_of


@pytest.mark.parametrize(
    ("found", "page", "last"),
    [([], [], None), ([1], [1], None), ([1, 2], [1, 2], None), ([1, 2, 3], [1, 2], 2)],
)
def test_a_page_says_where_the_next_one_begins_if_there_is_one(
    found: list[int], page: list[int], last: int | None
) -> None:
    assert page_of(found, 2) == (page, last)
