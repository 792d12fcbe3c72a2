"""Codes on the console and in a file."""

import json
import stat
from pathlib import Path

import pytest

from messaging.relay.accounts.providers import CodeMessage, ConsoleProvider, DeliveryFailed, FileProvider

MESSAGE = CodeMessage("+4915550000101", "123456", "sms", "ios")


async def test_the_console_shows_number_and_code() -> None:
    written: list[str] = []
    await ConsoleProvider(written.append).deliver(MESSAGE)
    assert written == ["verification code for +4915550000101: 123456\n"]


async def test_a_file_gets_a_line_for_each_code_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    for _ in range(2):
        await FileProvider(path).deliver(MESSAGE)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"number": "+4915550000101", "code": "123456"}] * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_cannot_be_written_fails_for_now(tmp_path: Path) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        await FileProvider(tmp_path / "none" / "codes").deliver(MESSAGE)
    assert (caught.value.permanent, caught.value.error) == (False, "FileNotFoundError")


def test_a_message_shows_neither_number_nor_code() -> None:
    assert "+49" not in repr(MESSAGE)
    assert "123456" not in repr(MESSAGE)
