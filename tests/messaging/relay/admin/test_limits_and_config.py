"""Limits and remote configuration for operators: versions, differences, and the way back."""

from dataclasses import replace
from typing import Any

import pytest

from messaging.relay.admin.audit import Outcome
from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.desk import Done, Nothing, act, look
from messaging.relay.admin.errors import Conflict, InvalidInput, NothingThere
from messaging.relay.admin.limits import MAX_CONFIG_NAMES, MAX_VERSIONS
from messaging.relay.admin.limits_and_config import (
    ConfigChange,
    ConfigsShown,
    LimitChange,
    LimitsShown,
    VersionNamed,
)
from messaging.relay.admin.permissions import Permission
from messaging.relay.admin.registry import ACTIONS, VIEWS
from messaging.relay.database import Database
from messaging.relay.limits import (
    BOT_DEFAULTS,
    DEFAULTS,
    LEAST_REQUESTS,
    SLOWEST_REQUESTS,
    Bucket,
    Limit,
    Sizes,
    layered,
)
from messaging.relay.operator_settings import LIMITS, REMOTE_CONFIG, read_setting, write_setting
from messaging.relay.remote_config import LiveConfig
from messaging.wire.json import Entity
from tests.messaging.relay.admin.town import Town, a_town


@pytest.fixture
async def town(database: Database) -> Town:
    return await a_town(database)


async def do(town: Town, name: str, parameters: Entity) -> Done:
    return await act(town.desk, ACTIONS[name], town.operator(), parameters, reason="asked")


async def limits(town: Town) -> LimitsShown:
    found: LimitsShown = await look(town.desk, VIEWS["limits.show"], town.operator(), Nothing())
    return found


async def config(town: Town) -> ConfigsShown:
    found: ConfigsShown = await look(town.desk, VIEWS["config.show"], town.operator(), Nothing())
    return found


async def standing(town: Town) -> Sizes:
    """The limits of a relay without a file, as it would apply what stands."""
    async with town.desk.database.read() as db:
        setting = await read_setting(db, LIMITS)
    assert setting is not None
    return layered(Sizes(DEFAULTS, BOT_DEFAULTS), setting.document)


async def change(town: Town, limit: Limit, **more: Any) -> Done:
    return await do(town, "limits.change", LimitChange(limit=limit, **more))


async def test_a_change_is_a_version_that_relays_apply(town: Town) -> None:
    done = await change(town, Limit.PIN, at_once=5, refill_seconds=60)
    assert done.detail["version"] == 3
    after = {"atOnce": 5, "refillSeconds": 60}
    assert done.detail["differences"] == {"pin (everybody)": {"before": None, "after": after}}
    sizes = await standing(town)
    assert sizes.everybody[Limit.PIN] == Bucket(5, 60)
    assert sizes.everybody[Limit.MESSAGES] == Bucket(100, 2, fail_open=True)  # what stood before stands


async def test_what_is_set_for_bots_alone_is_theirs(town: Town) -> None:
    await change(town, Limit.MESSAGES, bots=True, at_once=7, refill_seconds=1)
    sizes = await standing(town)
    assert (sizes.bots[Limit.MESSAGES].size, sizes.everybody[Limit.MESSAGES].size) == (7, 100)
    shown = {(each.limit, each.bots): (each.at_once, each.set) for each in (await limits(town)).limits}
    assert shown["messages", True] == (7, True)
    assert shown["messages", False] == (100, True)
    assert shown["prekeysPerCaller", True] == (BOT_DEFAULTS[Limit.PREKEYS_PER_CALLER].size, False)
    assert shown["pin", False] == (DEFAULTS[Limit.PIN].size, False)


async def test_what_is_set_for_everybody_takes_the_place_of_a_default_of_bots(town: Town) -> None:
    sizes = await standing(town)  # messages are set for everybody
    assert Limit.MESSAGES not in sizes.bots
    assert ("messages", True) not in {(each.limit, each.bots) for each in (await limits(town)).limits}


async def test_a_limit_without_numbers_is_as_in_the_files_again(town: Town) -> None:
    await change(town, Limit.MESSAGES)
    assert (await standing(town)).everybody[Limit.MESSAGES] == DEFAULTS[Limit.MESSAGES]
    with pytest.raises(Conflict):
        await change(town, Limit.MESSAGES)


@pytest.mark.parametrize(
    "numbers", [(0.5, 1), (1, 0), (-1, 1), (float("inf"), 1), (None, 1), (1, None), (1e200, 1e200)]
)
async def test_a_bucket_that_is_none_is_refused(town: Town, numbers: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput):
        await change(town, Limit.PIN, at_once=numbers[0], refill_seconds=numbers[1])


@pytest.mark.parametrize("bots", [False, True])
async def test_requests_cannot_be_so_few_that_everybody_is_shut_out(town: Town, bots: bool) -> None:
    for numbers in ((1, 1e6), (LEAST_REQUESTS - 1, 1), (LEAST_REQUESTS, SLOWEST_REQUESTS + 1)):
        with pytest.raises(InvalidInput, match="nobody is shut out"):
            await change(town, Limit.REQUESTS, bots=bots, at_once=numbers[0], refill_seconds=numbers[1])
    await change(town, Limit.REQUESTS, bots=bots, at_once=LEAST_REQUESTS, refill_seconds=SLOWEST_REQUESTS)
    await standing(town)


async def test_who_has_not_seen_the_latest_version_changes_nothing(town: Town) -> None:
    for name, given in (
        ("limits.change", LimitChange(limit=Limit.PIN, at_once=1, refill_seconds=1, seen=1)),
        ("limits.undo", VersionNamed(version=1, seen=1)),
        ("config.change", ConfigChange(name="x", value="1", seen=1)),
        ("config.undo", VersionNamed(version=1, seen=1)),
    ):
        with pytest.raises(Conflict):
            await do(town, name, given)
    assert ((await limits(town)).version, (await config(town)).version) == (2, 2)
    await do(town, "config.change", ConfigChange(name="x", value="1", seen=2))


async def test_undoing_is_one_more_version_with_what_stood(town: Town) -> None:
    done = await do(town, "limits.undo", VersionNamed(version=1))
    assert done.detail["version"] == 3
    assert (await standing(town)).everybody == DEFAULTS
    await do(town, "limits.undo", VersionNamed(version=2))
    assert (await standing(town)).everybody[Limit.MESSAGES].size == 100
    await do(town, "limits.undo", VersionNamed(version=0))
    assert (await standing(town)).everybody == DEFAULTS
    shown = await limits(town)
    assert [each.version for each in shown.versions] == [5, 4, 3, 2, 1]
    assert [each.what for each in shown.versions[1].differences] == ["messages (everybody)"]
    with pytest.raises(NothingThere):
        await do(town, "limits.undo", VersionNamed(version=9))
    with pytest.raises(Conflict):
        await do(town, "limits.undo", VersionNamed(version=5))


@pytest.mark.parametrize(
    ("setting", "action", "document"),
    [
        (LIMITS, "limits.undo", {"everybody": {"requests": {"size": 1.0, "refill": 1e6}}}),
        (REMOTE_CONFIG, "config.undo", {"new.look": {"value": "on", "percentage": 101}}),
    ],
)
async def test_what_relays_refuse_does_not_come_back(
    town: Town, setting: str, action: str, document: dict[str, Any]
) -> None:
    async with town.desk.database.begin() as db:
        for version, said in ((2, document), (3, {})):
            await write_setting(db, setting, said, after=version, at=1, by="olga")
    with pytest.raises(Conflict, match="Relays refuse it"):
        await do(town, action, VersionNamed(version=3))


async def test_old_versions_are_listed_up_to_a_bound_and_none_is_lost(town: Town) -> None:
    async with town.desk.database.begin() as db:
        for version in range(2, MAX_VERSIONS + 3):
            document = {"everybody": {"pin": {"size": float(version), "refill": 1.0}}}
            await write_setting(db, LIMITS, document, after=version, at=1, by="olga")
    shown = (await limits(town)).versions
    assert len(shown) == MAX_VERSIONS
    assert len(shown[-1].differences) == 1  # it is compared with one that is not shown
    await do(town, "limits.undo", VersionNamed(version=2))


async def test_a_value_goes_to_a_part_of_the_accounts_and_to_chosen_ones(town: Town) -> None:
    one, other = town.people[0].aci, town.people[1].aci
    await do(town, "config.change", ConfigChange(name="new.look", value="off", percentage=0, accounts=(one, one)))
    live = LiveConfig({})
    async with town.desk.database.read() as db:
        setting = await read_setting(db, REMOTE_CONFIG)
    assert setting is not None
    live.apply(setting.document)
    value = live.values()["new.look"]
    assert (value.value, value.is_for("new.look", one), value.is_for("new.look", other)) == ("off", True, False)
    (shown,) = (await config(town)).values
    assert (shown.value, shown.percentage, shown.accounts, shown.hidden) == ("off", 0, (one,), False)


async def test_which_accounts_a_value_names_is_for_those_who_may_see_accounts_and_looking_is_written_down(
    town: Town,
) -> None:
    person = town.people[0].aci
    await do(town, "config.change", ConfigChange(name="new.look", value="off", accounts=(person,)))
    for sees, accounts in ((frozenset(), ()), (frozenset({Permission.ACCOUNTS_SEE}), (person,))):
        operator = replace(town.operator(), permissions=sees | {Permission.CONFIG_SEE})
        shown = await look(town.desk, VIEWS["config.show"], operator, Nothing())
        (value,) = shown.values
        assert (value.accounts, value.named_accounts) == (accounts, 1)
        assert str(person) not in shown.model_dump_json() or accounts
        told = [entry.said async for entry in all_entries(town.desk.database) if entry.said.action == "config.show"]
        noted = (
            [("accounts that values name", Outcome.READ)] if accounts else []
        )  # who is shown none has looked at none
        assert [(said.subject, said.outcome) for said in told] == noted


async def test_values_that_name_no_account_are_looked_at_without_an_entry(town: Town) -> None:
    await do(town, "config.change", ConfigChange(name="new.look", value="off"))
    before = [entry async for entry in all_entries(town.desk.database)]
    await config(town)
    assert [entry async for entry in all_entries(town.desk.database)] == before


async def test_a_value_is_hidden_or_left_to_the_files(town: Town) -> None:
    await do(town, "config.change", ConfigChange(name="other", hidden=True))
    await do(town, "config.change", ConfigChange(name="new.look"))
    (shown,) = (await config(town)).values
    assert (shown.name, shown.hidden, shown.value) == ("other", True, None)
    with pytest.raises(InvalidInput):
        await do(town, "config.change", ConfigChange(name="other", hidden=True, value="1"))
    with pytest.raises(Conflict):
        await do(town, "config.change", ConfigChange(name="other", hidden=True))


async def test_the_log_says_how_many_accounts_and_not_which(town: Town) -> None:
    person = town.people[2]
    await do(town, "config.change", ConfigChange(name="new.look", value="off", accounts=(person.aci,)))
    (entry,) = [entry async for entry in all_entries(town.desk.database)]
    assert str(person.aci) not in entry.as_json()
    assert entry.said.detail["differences"]["new.look"]["after"] == {"value": "off", "percentage": 100, "accounts": 1}


async def test_names_have_a_bound(town: Town) -> None:
    document = {f"name{place}": None for place in range(MAX_CONFIG_NAMES)}
    async with town.desk.database.begin() as db:
        await write_setting(db, REMOTE_CONFIG, document, after=2, at=1, by="olga")
    with pytest.raises(Conflict):
        await do(town, "config.change", ConfigChange(name="more", value="1"))
    await do(town, "config.change", ConfigChange(name="name0", value="1"))


@pytest.mark.parametrize("name", ["", "a b", "<script>", "x" * 65])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ConfigChange(name=name, value="1")
