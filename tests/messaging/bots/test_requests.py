"""What a request carries, and for how long it is waited for; the rest of it is seen through HTTP, in ``test_http``."""

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from messaging.bots.requests import Intake, read_request


async def test_time_that_a_method_runs_out_of_is_not_the_body_s(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with read_request(make_mocked_request("GET", "/?x=1"), Intake(tmp_path)):
            raise TimeoutError
