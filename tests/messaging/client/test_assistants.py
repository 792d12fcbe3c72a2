"""Which assistant a conversation goes to: the same one for all members, among those that prove themselves, whatever the relay says."""

import asyncio
import secrets
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.client.assistant import (
    REAPPRAISE_AFTER,
    AssistantError,
    AssistantNotVerified,
    AssistantRefused,
    AssistantSilent,
    AssistantUnreachable,
    EvidenceRefused,
)
from messaging.client.assistants import (
    DIRECTORY_AGE,
    DOWN_SECONDS,
    GONE_LOOKS,
    MAX_ASSISTANTS,
    MAX_STRANGERS,
    MAX_TRIES,
    REFUSED_SECONDS,
    STRANGERS_SECONDS,
    Assistants,
    NoAssistant,
    has_forgotten,
    is_worth_another,
    rank,
)
from messaging.client.errors import ClientError, IdentityChanged, RelayRefused, RelayUnreachable, UnknownRecipient
from messaging.wire.assistant import AssistantRequest, EvidenceRequest, Refusal
from messaging.wire.assistants import ListedAssistant
from messaging.wire.content import AssistantCall, Content, DataMessage
from messaging.wire.identifiers import IdentityKind, ServiceId
from tests.messaging.client.enclaves import STRICT, UNSAFE, Enclave

CONVERSATION = b"\x01" * 32
START = datetime(2026, 11, 25, 12, tzinfo=UTC)
service_ids = st.builds(ServiceId, st.uuids())


def a_key() -> bytes:
    return b"\x05" + secrets.token_bytes(32)


def listed(service_id: ServiceId | str, *, online: bool = True, accepting: bool = True) -> ListedAssistant:
    return ListedAssistant(name="assistant", service_id=str(service_id), online=online, accepting=accepting)


@dataclass
class Guests:
    """Who may be treated as an assistant, as a test says; and who has proved itself."""

    people: set[ServiceId] = field(default_factory=set)
    proved: list[ServiceId] = field(default_factory=list)

    async def admit(self, service_id: ServiceId) -> bool:
        return service_id not in self.people

    async def note_proved(self, service_id: ServiceId) -> None:
        self.proved.append(service_id)


@dataclass
class Network:
    """A device, a relay with a directory, and enclaves, by account; in ``order``, the first is the conversation's."""

    enclaves: dict[ServiceId, Enclave] = field(default_factory=dict)
    silent: set[ServiceId] = field(default_factory=set)
    fails: dict[ServiceId, ClientError] = field(default_factory=dict)
    trusted: dict[ServiceId, bytes] = field(default_factory=dict)
    asked: list[ServiceId] = field(default_factory=list)
    told: dict[ServiceId, list[Content]] = field(default_factory=lambda: defaultdict(list))
    directory: list[ListedAssistant] | ClientError = field(default_factory=list)
    looks: int = 0
    seconds: float = 0.0
    guests: Guests = field(default_factory=Guests)
    assistants: Assistants = field(init=False)

    def __post_init__(self) -> None:
        self.assistants = Assistants(
            self,
            self.look,
            UNSAFE,
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
            deadline=0.05,
            accounts=self.guests,
        )

    @property
    def order(self) -> list[ServiceId]:
        return rank(CONVERSATION, self.enclaves)

    async def look(self) -> tuple[ListedAssistant, ...]:
        self.looks += 1
        await asyncio.sleep(0)
        if isinstance(self.directory, ClientError):
            raise self.directory
        return tuple(self.directory)

    async def send(self, to: ServiceId, content: Content, *, only_to: bytes | None = None) -> None:
        if to in self.fails:
            raise self.fails[to]
        if to not in self.enclaves:
            raise UnknownRecipient
        enclave = self.enclaves[to]
        trusted = self.trusted.setdefault(to, enclave.identity_key)
        if trusted != enclave.identity_key or only_to not in (None, trusted):
            raise IdentityChanged(to, enclave.identity_key)
        self.told[to].append(content)
        if isinstance(content, AssistantCall):
            self.answer(to, enclave, content.request)

    def answer(self, to: ServiceId, enclave: Enclave, call: bytes) -> None:
        request = AssistantRequest.parse(call)
        if isinstance(request.kind, EvidenceRequest):
            self.asked.append(to)
        if to not in self.silent:
            for frame in enclave.answer(request, call):
                asyncio.get_running_loop().call_soon(self.assistants.receive, to, frame)

    async def trusted_identity(self, service_id: ServiceId) -> bytes | None:
        return self.trusted.get(service_id)

    async def trust(self, service_id: ServiceId, identity_key: bytes) -> None:
        self.trusted[service_id] = identity_key

    async def choose(self) -> ServiceId:
        return (await self.assistants.choose(CONVERSATION)).service_id

    async def choose_for_one_who_asks_now(self) -> ServiceId:
        return (await self.assistants.choose(CONVERSATION, silent_before=self.assistants.monotonic())).service_id

    def list_all(self, *but: ServiceId) -> None:
        self.directory = [listed(each) for each in self.enclaves if each not in but]
        self.assistants.look_again()


def a_network(count: int = 3) -> Network:
    network = Network({ServiceId(uuid4()): Enclave(a_key(), now=lambda: START) for _ in range(count)})
    network.list_all()
    return network


# --- whose a conversation is ---


@given(st.binary(min_size=32, max_size=32), st.lists(service_ids, min_size=1, unique=True), st.randoms())
def test_members_agree_whatever_the_order_of_the_directory(
    conversation: bytes, assistants: list[ServiceId], random: Random
) -> None:
    ranked = rank(conversation, assistants)
    random.shuffle(assistants)
    assert rank(conversation, assistants) == ranked
    assert sorted(ranked) == sorted(assistants)


@given(
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20),
    st.lists(service_ids, min_size=2, unique=True),
    st.data(),
)
def test_a_lost_assistant_moves_its_own_conversations_only(
    conversations: list[bytes], assistants: list[ServiceId], data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(assistants))
    left = [each for each in assistants if each != lost]
    for conversation in conversations:
        before, after = rank(conversation, assistants), rank(conversation, left)
        assert after == [each for each in before if each != lost]


def test_conversations_are_spread_over_all() -> None:
    assistants = [ServiceId(UUID(int=number)) for number in range(4)]
    firsts = [rank(number.to_bytes(32, "big"), assistants)[0] for number in range(400)]
    assert all(60 < firsts.count(each) < 140 for each in assistants)


def test_the_order_is_that_of_other_clients() -> None:
    """Written down, so that a client in another language can be held against it."""
    assistants = [ServiceId(UUID(int=number)) for number in (1, 2, 3)]
    assert [each.uuid.int for each in rank(bytes(32), assistants)] == [1, 2, 3]
    assert [each.uuid.int for each in rank(b"\x01" * 32, assistants)] == [2, 3, 1]


# --- choosing ---


async def test_the_first_in_order_is_verified_and_the_others_are_not_asked() -> None:
    network = a_network()
    assistant = await network.assistants.choose(CONVERSATION)
    assert assistant.service_id == network.order[0]
    assert assistant.claims is not None
    assert network.asked == [network.order[0]]
    assert network.guests.proved == [network.order[0]]
    assert await network.choose() == network.order[0]
    assert len(network.asked) == 1


async def test_without_an_assistant_there_is_none() -> None:
    with pytest.raises(NoAssistant, match="none is connected to the relay") as none:
        await a_network(0).choose()
    assert none.value.refusals == ()


async def test_one_that_cannot_prove_itself_is_passed_over_and_named_if_nobody_is_left() -> None:
    network = a_network(2)
    first, second = network.order
    network.enclaves[first].release = "release 2"
    assert await network.choose() == second
    network.list_all(second)
    with pytest.raises(NoAssistant, match=r"evidence was refused \(measurement\)") as none:
        await network.choose()
    assert [type(each) for each in none.value.refusals] == [EvidenceRefused]
    assert network.asked == [first, second]


async def test_under_a_strict_policy_all_simulated_ones_are_refused() -> None:
    network = a_network(2)
    network.assistants.set_policy(STRICT)
    with pytest.raises(NoAssistant) as none:
        await network.choose()
    assert [each.check for each in none.value.refusals if isinstance(each, EvidenceRefused)] == ["genuine hardware"] * 2


async def test_a_silent_one_is_left_alone_for_a_while_longer_each_time() -> None:
    network = a_network(2)
    first, second = network.order
    network.silent.add(first)
    for times in (1, 2, 4):
        assert await network.choose() == second
        asked = len(network.asked)
        network.seconds += times * DOWN_SECONDS - 1
        assert await network.choose() == second
        assert len(network.asked) == asked
        network.seconds += 1
    network.silent.clear()
    assert await network.choose() == first


async def test_many_who_wait_for_the_same_silence_count_once() -> None:
    network = a_network(1)
    assistant = await network.assistants.choose(CONVERSATION)
    for _ in range(5):
        network.assistants.leave(assistant, AssistantSilent())
    network.seconds += DOWN_SECONDS
    assert await network.assistants.choose(CONVERSATION) is assistant
    network.assistants.leave(assistant, AssistantSilent())
    network.assistants.leave(assistant, EvidenceRefused("check", "which counts for more"))
    network.seconds += REFUSED_SECONDS - 1
    with pytest.raises(NoAssistant, match="counts for more"):
        await network.choose()


async def test_who_says_when_to_come_back_is_left_alone_until_then() -> None:
    network = a_network(1)
    [only] = network.order
    network.enclaves[only].refuses_evidence = Refusal("busy", 2500)
    with pytest.raises(NoAssistant):
        await network.choose()
    network.enclaves[only].refuses_evidence = None
    network.seconds += 2
    with pytest.raises(NoAssistant):
        await network.choose()
    network.seconds += 1
    assert await network.choose() == only


async def test_nobody_is_left_alone_for_ever() -> None:
    network = a_network(1)
    [only] = network.order
    network.silent.add(only)
    for _ in range(12):
        with pytest.raises(NoAssistant):
            await network.choose()
        network.seconds += REFUSED_SECONDS
    network.silent.clear()
    assert await network.choose() == only


async def test_who_was_refused_is_left_alone_for_long() -> None:
    network = a_network(2)
    first, second = network.order
    network.enclaves[first].release = "release 2"
    assert await network.choose() == second
    network.enclaves[first].release = "release 1"
    network.seconds += REFUSED_SECONDS - 1
    assert await network.choose() == second
    network.seconds += 1
    assert await network.choose() == first


async def test_one_that_went_silent_while_it_was_used_is_left() -> None:
    network = a_network(2)
    assistant = await network.assistants.choose(CONVERSATION)
    looks = network.looks
    network.assistants.leave(assistant, AssistantSilent())
    assert await network.choose() == network.order[1]
    assert network.looks == looks + 1


async def test_one_that_is_away_or_drains_is_not_asked_and_is_asked_again_when_it_is_back() -> None:
    network = a_network(2)
    first, second = network.order
    for away in ({"online": False}, {"accepting": False}):
        network.directory = [listed(first, **away), listed(second)]
        network.assistants.look_again()
        assert await network.choose() == second
        network.list_all()
        assert await network.choose() == first


async def test_one_that_was_silent_and_comes_back_is_asked_at_once() -> None:
    network = a_network(2)
    first, second = network.order
    network.silent.add(first)
    assert await network.choose() == second
    network.silent.clear()
    for _ in range(2):  # it is still listed
        assert await network.choose() == second
    network.list_all(first)
    assert await network.choose() == second
    network.list_all()
    assert await network.choose() == first


async def test_before_there_is_none_who_asks_has_those_asked_again_that_were_silent() -> None:
    network = a_network(2)
    restarted, other = network.order
    network.silent.add(restarted)
    assert await network.choose() == other
    network.silent.clear()  # it was never seen to be away
    assert await network.choose_for_one_who_asks_now() == other
    network.list_all(other)
    network.seconds += 1
    with pytest.raises(NoAssistant, match="did not answer in time"):
        await network.choose()
    assert await network.choose_for_one_who_asks_now() == restarted
    assert await network.choose() == restarted


async def test_a_second_chance_is_for_silence_of_before_only() -> None:
    network = a_network(3)
    before, refused, never_asked = network.order
    await network.choose()
    network.asked.clear()
    network.silent = set(network.enclaves)
    for each, why in ((before, AssistantUnreachable()), (refused, EvidenceRefused("check", "no"))):
        network.assistants.leave(network.assistants.get(each), why)
        network.assistants.get(each).distrust()
    network.seconds += 1
    with pytest.raises(NoAssistant):
        await network.choose_for_one_who_asks_now()
    assert network.asked == [never_asked, before]


async def test_a_verified_one_that_went_silent_is_used_at_once_when_it_is_back() -> None:
    network = a_network(2)
    assistant = await network.assistants.choose(CONVERSATION)
    network.assistants.leave(assistant, AssistantSilent())
    network.list_all(assistant.service_id)
    assert await network.choose() == network.order[1]
    network.list_all()
    assert await network.assistants.choose(CONVERSATION) is assistant


async def test_one_that_answered_in_between_is_left_alone_no_longer_than_before() -> None:
    network = a_network(1)
    [only] = network.order
    for _ in range(3):
        network.silent.add(only)
        network.assistants.set_policy(UNSAFE)
        with pytest.raises(NoAssistant):
            await network.choose()
        network.silent.clear()
        network.seconds += DOWN_SECONDS
        assert await network.choose() == only


async def test_one_that_says_that_it_drains_is_left() -> None:
    network = a_network(2)
    first, second = network.order
    network.enclaves[first].refuses_evidence = Refusal("draining")
    assert await network.choose() == second


async def test_a_busy_one_keeps_what_it_proved_before() -> None:
    network = a_network(2)
    first = await network.choose()
    network.seconds = REAPPRAISE_AFTER.total_seconds()
    network.enclaves[first].refuses_evidence = Refusal("busy")
    assert await network.choose() == first
    assert network.asked == [first, first]
    assert await network.choose() == first  # and is not asked again and again
    assert network.asked == [first, first]
    network.seconds += 3600
    network.enclaves[first].refuses_evidence = Refusal("draining")
    assert await network.choose() == network.order[1]


async def test_on_a_schedule_evidence_is_asked_for_anew() -> None:
    network = a_network(1)
    await network.choose()
    network.seconds = REAPPRAISE_AFTER.total_seconds() - 1
    await network.choose()
    assert len(network.asked) == 1
    network.seconds += 1
    await network.choose()
    assert len(network.asked) == 2


async def test_a_restarted_one_is_verified_anew_at_once() -> None:
    network = a_network(1)
    assistant = await network.assistants.choose(CONVERSATION)
    network.assistants.leave(assistant, AssistantSilent())
    network.enclaves[assistant.service_id].identity_key = a_key()
    assert network.assistants.identity_changed(assistant.service_id)
    assert assistant.claims is None
    again = await network.assistants.choose(CONVERSATION)
    assert again.claims is not None
    assert again.claims.identity_key == network.enclaves[assistant.service_id].identity_key
    assert len(network.asked) == 2


async def test_that_somebody_else_has_other_keys_is_nothing_to_us() -> None:
    network = a_network(2)
    await network.choose()
    assert not network.assistants.identity_changed(ServiceId(uuid4()))
    assert not network.assistants.identity_changed(network.order[1])  # listed, and never asked


async def test_a_revoked_release_is_dropped_at_once() -> None:
    network = a_network(2)
    first, second = network.order
    network.enclaves[second].release, network.enclaves[second].tee = (
        "release 2",
        replace(network.enclaves[second].tee, measurement=bytes(48)),
    )
    assistant = await network.assistants.choose(CONVERSATION)
    assert assistant.service_id == first
    [release] = UNSAFE.releases
    network.assistants.set_policy(
        replace(UNSAFE, releases=(replace(release, name="release 2", measurement=bytes(48)),))
    )
    assert network.assistants.ready(CONVERSATION) is None
    with pytest.raises(AssistantNotVerified):
        await assistant.tell(DataMessage("hello", 1))
    assert await network.choose() == second
    assert network.told[first].count(DataMessage("hello", 1)) == 0


async def test_who_chooses_at_the_same_time_asks_once_and_waits_once() -> None:
    network = a_network(1)
    chosen = await asyncio.gather(*(network.choose() for _ in range(5)))
    assert chosen == network.order * 5
    assert (len(network.asked), network.looks) == (1, 1)
    silent = a_network(1)
    silent.silent.update(silent.order)
    outcomes = await asyncio.gather(*(silent.choose() for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [NoAssistant] * 5
    assert len(silent.asked) == 1


async def test_that_the_relay_is_away_is_nobodys_fault() -> None:
    network = a_network(1)
    [only] = network.order
    network.fails[only] = RelayUnreachable()
    with pytest.raises(RelayUnreachable):
        await network.choose()
    network.fails.clear()
    assert await network.choose() == only


# --- without asking anybody ---


async def test_ready_is_the_verified_one_that_would_be_chosen() -> None:
    network = a_network(2)
    first, second = network.order
    assert network.assistants.ready(CONVERSATION) is None
    await network.choose()
    ready = network.assistants.ready(CONVERSATION)
    assert ready is not None
    assert ready.service_id == first
    network.assistants.leave(ready, AssistantSilent())
    assert network.assistants.ready(CONVERSATION) is None  # the next one has to be verified first
    await network.choose()
    ready = network.assistants.ready(CONVERSATION)
    assert ready is not None
    assert ready.service_id == second


def is_stale(network: Network) -> bool:
    return network.assistants.is_stale


async def test_the_directory_is_looked_at_now_and_then() -> None:
    network = a_network(1)
    await network.choose()
    assert not is_stale(network)
    network.seconds += DIRECTORY_AGE - 1
    await network.choose()
    assert network.looks == 1
    network.seconds += 1
    assert is_stale(network)
    await network.choose()
    assert network.looks == 2
    network.seconds += 2
    await network.assistants.choose(CONVERSATION, directory_age=2)
    assert network.looks == 3


# --- waiting for one that goes away ---


@dataclass
class Waiting:
    """Somebody who waits for an answer of the only assistant, while the directory says of it what ``states`` hold, look by look."""

    states: list[dict[str, bool]]
    network: Network = field(default_factory=lambda: a_network(1))
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def exchange(self) -> str:
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "the answer"

    async def directory(self) -> tuple[ListedAssistant, ...]:
        self.network.seconds += 1  # each look finds the one before too old
        state = self.states.pop(0)
        if not self.states:
            self.answer.set()
        return (listed(self.network.order[0], **state),)

    async def wait(self) -> str:
        assistant = await self.network.assistants.choose(CONVERSATION)
        self.network.seconds += 1
        self.network.assistants.directory = self.directory
        return await self.network.assistants.while_there(assistant, self.exchange())


@pytest.fixture
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging.client.assistants.GONE_SECONDS", 0.01)


@pytest.mark.usefixtures("_looks_often")
async def test_nobody_waits_the_whole_deadline_for_one_that_is_gone() -> None:
    waiting = Waiting([{"online": False}] * (GONE_LOOKS + 1))
    async with asyncio.timeout(10):
        with pytest.raises(AssistantSilent):
            await waiting.wait()
    assert waiting.cancelled


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize(
    "states",
    [
        [{"accepting": False}] * 5,  # it drains: what it accepted it finishes
        [{"online": False}, {}] * 3,  # relays restart, and it is back each time, with the same key
    ],
)
async def test_one_that_is_there_is_waited_for(states: list[dict[str, bool]]) -> None:
    waiting = Waiting(list(states))
    async with asyncio.timeout(10):
        assert await waiting.wait() == "the answer"
    assert waiting.states == []


@pytest.mark.usefixtures("_looks_often")
async def test_nobody_waits_for_one_that_is_back_with_another_key() -> None:
    waiting = Waiting([{"online": False}, {}, {}])
    await waiting.network.choose()
    waiting.network.enclaves[waiting.network.order[0]] = Enclave(a_key())
    async with asyncio.timeout(10):
        with pytest.raises(AssistantNotVerified):
            await waiting.wait()
    assert waiting.cancelled
    assert not waiting.answer.is_set()


@pytest.mark.usefixtures("_looks_often")
async def test_while_the_relay_says_nothing_of_the_directory_the_assistant_is_waited_for() -> None:
    network = a_network(1)
    assistant = await network.assistants.choose(CONVERSATION)
    network.seconds += DIRECTORY_AGE
    network.directory = RelayUnreachable()

    async def answer_later() -> str:
        while network.looks < 5:
            network.seconds += 1
            await asyncio.sleep(0.001)
        return "the answer"

    async with asyncio.timeout(10):
        assert await network.assistants.while_there(assistant, answer_later()) == "the answer"


# --- a hostile directory ---


async def test_a_directory_that_cannot_be_read_leaves_what_it_said_before() -> None:
    network = a_network(1)
    await network.choose()
    for error in (RelayUnreachable(), RelayRefused(500)):
        network.directory = error
        network.assistants.look_again()
        assert await network.choose() == network.order[0]
    with pytest.raises(NoAssistant):
        await Network(directory=RelayUnreachable()).choose()


async def test_malformed_entries_spoil_no_others() -> None:
    network = a_network(1)
    [only] = network.order
    pni = ServiceId(uuid4(), IdentityKind.PNI)
    network.directory = [listed("nobody"), listed(""), listed(pni), listed(only), listed(only), listed("\x00" * 5000)]
    assert await network.choose() == only
    assert len(network.assistants._known) == 1


async def test_of_a_huge_directory_all_members_see_the_same_few() -> None:
    accounts = [ServiceId(uuid4()) for _ in range(MAX_ASSISTANTS + 10)]
    seen = []
    for order in (accounts, accounts[::-1]):
        network = Network(directory=[listed(each) for each in order])
        with pytest.raises(NoAssistant):
            await network.choose()
        assert len(network.assistants._listed) == MAX_ASSISTANTS
        seen.append(network.assistants._listed)
    assert seen[0] == seen[1]


async def test_liars_cost_a_few_tries_each_time_and_honest_ones_are_reached_in_the_end() -> None:
    network = a_network(1)
    [honest] = network.order
    strangers = [ServiceId(uuid4()) for _ in range(4 * MAX_TRIES)]
    network.directory = [listed(each) for each in [honest, *strangers]]
    before = rank(CONVERSATION, [honest, *strangers]).index(honest)
    for _ in range(before // MAX_TRIES):
        with pytest.raises(NoAssistant) as none:
            await network.choose()
        assert sum(isinstance(each, AssistantUnreachable) for each in none.value.refusals[-MAX_TRIES:]) == MAX_TRIES
    assert await network.choose() == honest


async def test_silent_strangers_are_asked_in_small_numbers() -> None:
    network = a_network(2 * MAX_TRIES)
    network.silent.update(network.enclaves)
    with pytest.raises(NoAssistant):
        await network.choose()
    assert network.asked == network.order[:MAX_TRIES]


async def test_ever_new_names_fill_no_memory_and_are_not_asked_without_end() -> None:
    network = Network()
    for _ in range(3 * MAX_STRANGERS):
        stranger = ServiceId(uuid4())
        network.enclaves = {stranger: Enclave(a_key(), now=lambda: START, release="release 2")}
        network.list_all()
        with pytest.raises(NoAssistant):
            await network.choose()
    assert len(network.asked) == MAX_STRANGERS
    assert len(network.assistants._known) <= 2
    with pytest.raises(NoAssistant, match="ever new assistants"):
        await network.choose()
    network.seconds += STRANGERS_SECONDS
    with pytest.raises(NoAssistant, match="measurement"):
        await network.choose()


async def test_a_person_is_never_asked_and_no_other_key_of_theirs_is_trusted() -> None:
    network = a_network(2)
    first, second = network.order
    network.trusted[first] = a_key()  # theirs; the relay shows another
    network.guests.people.add(first)
    assert await network.choose() == second
    assert first not in network.asked
    assert network.trusted[first] != network.enclaves[first].identity_key
    assert not network.assistants.identity_changed(first)
    network.list_all(second)
    with pytest.raises(NoAssistant, match=r"\(account\)"):
        await network.choose()


async def test_what_was_verified_stays_so_while_the_relay_hides_it() -> None:
    network = a_network(1)
    assistant = await network.assistants.choose(CONVERSATION)
    network.list_all(assistant.service_id)
    with pytest.raises(NoAssistant):
        await network.choose()
    assert network.assistants.get(assistant.service_id) is assistant
    network.list_all()
    assert await network.assistants.choose(CONVERSATION) is assistant
    assert len(network.asked) == 1


# --- what to do about an error ---


@pytest.mark.parametrize(
    ("error", "another", "again"),
    [
        (AssistantSilent(), True, False),
        (AssistantUnreachable(), True, False),
        (AssistantNotVerified(), False, True),
        (AssistantRefused("draining"), True, False),
        (AssistantRefused("no_evidence"), True, False),
        (AssistantRefused("engine_failed"), True, False),
        (AssistantRefused("unknown_evidence"), False, True),
        (AssistantRefused("not_opted_in"), False, True),
        (AssistantRefused("busy"), False, False),
        (AssistantRefused("quota"), False, False),
        (AssistantRefused("out_of_scope"), False, False),
        (AssistantRefused("malformed"), False, False),
        (EvidenceRefused("check", "reason"), False, False),
        (NoAssistant(), False, False),
    ],
)
def test_whether_another_or_the_same_one_would_help(error: AssistantError, another: bool, again: bool) -> None:
    assert (is_worth_another(error), has_forgotten(error)) == (another, again)


async def test_it_ends_with_all_that_runs() -> None:
    network = a_network(1)
    assistant = await network.assistants.choose(CONVERSATION)
    network.silent.add(assistant.service_id)
    with pytest.raises(AssistantSilent):
        await assistant.status()
    await network.assistants.close()
    assert assistant._background == set()
