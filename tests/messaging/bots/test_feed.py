"""What the feed makes of events: only of who is somebody here, and of what is there."""

from uuid import uuid4

import pytest

from messaging.bots.records import Numbering
from messaging.wire.data import Mention
from messaging.wire.identifiers import ServiceId
from tests.messaging.bots.gateways import Api


def strangers(count: int) -> list[Mention]:
    return [Mention(0, 1, ServiceId.parse(str(uuid4()))) for _ in range(count)]


async def people(api: Api) -> int:
    """The last number that somebody was given."""

    def last(db: object) -> int:
        numbers = Numbering(db, api.number, api.me)  # type: ignore[arg-type]
        return numbers._people.last(numbers.transaction)

    return await api.gateway.records.run(last)


async def test_a_mention_of_a_stranger_gives_them_no_number(api: Api) -> None:
    conversation = await api.group()
    mentions = [*strangers(200), Mention(1, 3, api.bob)]
    api.world.relay.say(api.alice, conversation.key, "/tell them", mentions=mentions)
    (update,) = await api.updates()
    named = [each["user"]["first_name"] for each in update["message"]["entities"] if "user" in each]
    assert named == ["Bob"]
    numbered = await people(api)
    api.world.relay.say(api.alice, conversation.key, "/tell them", mentions=strangers(200))
    await api.updates(offset=update["update_id"] + 1)
    assert await people(api) == numbered


@pytest.mark.parametrize(
    ("start", "length", "stays"),
    [(0, 6, True), (4, 2, True), (4, 3, False), (6, 1, False), (0, 0, False), (2**31, 1, False)],
)
async def test_a_mention_beyond_the_text_is_left_out(api: Api, start: int, length: int, *, stays: bool) -> None:
    """Counted in UTF-16: the emoji is two units."""
    conversation = await api.private()
    api.world.relay.say(api.alice, conversation.key, "Hi 🌱!", mentions=[Mention(start, length, api.me)])
    (update,) = await api.updates()
    assert bool(update["message"].get("entities")) is stays
