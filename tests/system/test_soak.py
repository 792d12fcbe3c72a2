"""An hour of life: twenty members, two enclaves, one of them killed now and then, the relay killed once.

Members write, ask for everything, opt in and out, have things forgotten, take requests back, ask far too often, and vanish in the
middle of whatever they do. Every minute and at the end: each request got an answer or a refusal, unless what it went to was killed or
it was one of a flood; memory stays where it is; nothing secret is anywhere. At the end every message has reached all who were to get it.

``SUBROSA_SOAK_SECONDS`` says how long (3600), ``SUBROSA_SOAK_SEED`` repeats the choices of a run.
"""

import asyncio
import faulthandler
import math
import os
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from messaging.client import ClientError, Device, RelayRefused, RelayUnreachable, Store
from messaging.client.assistant import AssistantNotVerified, AssistantRefused, AssistantSilent
from messaging.client.assistants import Assistants, NoAssistant
from messaging.client.chats import Chats
from messaging.wire.consent import ConsentScope
from messaging.wire.identifiers import MessageId, ServiceId
from tests.secrecy import descendants, find_canaries
from tests.system.world import World, a_world

MEMBERS, GROUPS, GROUP_SIZE, PAIRS = 20, 6, 5, 4
ENCLAVES = ("assistant-1", "assistant-2")  # the second one is killed
PAUSE = 3.0  # seconds between two things that one member does, on average
DEADLINE = 30.0  # seconds for an answer
STAY = (15.0, 90.0)  # seconds for which a member is there before they vanish
FLOOD = 30  # requests at once
EXCUSED = 90.0  # seconds after something was killed in which an assistant may be silent, or none be there: it is left alone for 60
LAST_WORDS = 120.0  # seconds for the last messages to arrive
STUCK = 900.0  # seconds beyond its time after which a run hangs

MAX_ENCLAVE_MB, MAX_WORKER_MB = 900, 400
MAX_GROWTH_MB, MAX_WORKER_GROWTH_MB = (
    80.0,
    24.0,
)  # after warming up: room for the engine's work comes and goes, 100 MiB at a time
WARM_UP, WARM_UP_SECONDS = 0.3, 600.0  # of the time, and at least: until texts of each length were met


@dataclass
class Ledger:
    """What happened, and what should not have."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    killed: list[float] = field(default_factory=list)
    sent: dict[bytes, set[MessageId]] = field(default_factory=dict)

    def note(self, outcome: str, *, began: float, excusable: bool = False, fault: bool = False) -> None:
        """Count an outcome; a fault counts as unexplained, unless it is excusable and something was killed."""
        self.outcomes[outcome] += 1
        now = time.monotonic()
        if fault and not (excusable and any(at - 1 < now and began < at + EXCUSED for at in self.killed)):
            self.unexplained.append(outcome)

    def note_kill(self) -> None:
        self.killed.append(time.monotonic())

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())


class Person:
    """One member, with a store that stays while they come and go."""

    def __init__(self, world: World, ledger: Ledger, dice: random.Random, words: "Words") -> None:
        self.world, self.ledger, self.dice, self.words = world, ledger, dice, words
        self.number = f"+4915{secrets.randbelow(10**9):09}"
        self.path = world.folders.clients / f"{secrets.token_hex(4)}.db"
        self.key = secrets.token_bytes(32)
        self.service_id: ServiceId
        self.registered = False
        self.flooded_at = -math.inf

    @asynccontextmanager
    async def online(self) -> AsyncIterator[Chats]:
        """Be there until the end of the block."""
        world = self.world
        async with Store.open(self.path, self.key) as store:
            device = await self._device(store)
            async with device:
                await device.ready()
                assistants = Assistants(device, world.client.assistants, world.policy, deadline=DEADLINE)
                async with await Chats.open(device, store, assistants) as chats:
                    receiving = asyncio.create_task(chats.receive())
                    try:
                        yield chats
                    finally:
                        if receiving.done():
                            receiving.result()
                        receiving.cancel()
                        await asyncio.gather(receiving, return_exceptions=True)

    async def _device(self, store: Store) -> Device:
        world = self.world
        if self.registered:
            return await Device.open(store, world.client, world.crypto, deadline=DEADLINE)

        async def code() -> str:
            return world.code_for(self.number)

        device = await Device.register(store, world.client, world.crypto, number=self.number, code=code)
        self.registered, self.service_id = True, device.service_id
        account = device._account
        assert account.pni is not None
        self.words.secrets |= {self.number.encode(), account.password.encode(), account.profile_key}
        self.words.secrets |= {account.identity.private_key, account.pni.identity.private_key}
        return device

    async def live(self, ends: float) -> None:
        """Come, do things, vanish in the middle of one of them, and come again."""
        while time.monotonic() < ends:
            with suppress(RelayUnreachable, RelayRefused):  # it is away just now
                async with self.online() as chats:
                    stay = min(self.dice.uniform(*STAY), ends - time.monotonic())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, stay)):
                            while True:
                                await self._do_something(chats)
                                await asyncio.sleep(self.dice.expovariate(1 / PAUSE))
            await asyncio.sleep(self.dice.uniform(0, 3))

    async def _do_something(self, chats: Chats) -> None:
        if not chats.conversations:
            return
        key = self.dice.choice(chats.conversations).key
        todo: list[tuple[int, Callable[[Chats, bytes], Awaitable[None]]]] = [
            (40, self._write),
            (30, self._ask),
            (6, self._opt_in),
            (3, self._opt_out),
            (3, self._take_back),
            (1, self._flood),
        ]
        [do] = self.dice.choices([do for _, do in todo], [weight for weight, _ in todo])
        await do(chats, key)

    async def _write(self, chats: Chats, key: bytes) -> None:
        text = self.words.sentence(self.dice)
        began = time.monotonic()
        try:
            written = await chats.write(key, text)
        except RelayUnreachable:
            self.ledger.note("write: relay away", began=began)  # it may go out later
            return
        self.ledger.sent.setdefault(key, set()).add(written.id)
        for error in written.failed.values():
            self.ledger.note(
                f"write: {type(error).__name__}", began=began, fault=not isinstance(error, RelayUnreachable)
            )

    async def _opt_in(self, chats: Chats, key: bytes) -> None:
        scopes = self.dice.choice([tuple(ConsentScope), (ConsentScope.SUMMARIES,)])
        await self._noted("opt in", chats.opt_in(key, scopes))

    async def _opt_out(self, chats: Chats, key: bytes) -> None:
        await self._noted("opt out", chats.opt_out(key))

    async def _ask(self, chats: Chats, key: bytes) -> None:
        asked = self.dice.choice(REQUESTS)
        await self._noted(asked, self._asking(chats, key, asked))

    async def _flood(self, chats: Chats, key: bytes) -> None:
        """What is far too much gets no answer, and the member's device leaves the assistant alone for a while."""
        asked = [self.dice.choice(REQUESTS) for _ in range(FLOOD)]
        self.flooded_at = time.monotonic()
        await asyncio.gather(*(self._noted(each, self._asking(chats, key, each)) for each in asked))

    async def _take_back(self, chats: Chats, key: bytes) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.dice.uniform(0, 0.3)):
                await self._noted("summarize", self._asking(chats, key, "summarize"))

    def _asking(self, chats: Chats, key: bytes, asked: str) -> Awaitable[object]:
        messages = [message.id for message in chats.messages(key)[-60:]]
        names = {member: f"{self.words.name} {place}" for place, member in enumerate(chats.conversation(key).members)}
        match asked:
            case "summarize":
                return chats.summarize(key, messages, names)
            case "suggest_replies":
                return chats.suggest_replies(key, messages, names)
            case "questions_for_me":
                return chats.questions_for_me(key, messages, names)
            case "actions":
                return chats.actions(key, messages, names)
            case "rewrite":
                return chats.rewrite(key, f"not now, {self.words.draft}", "kind")
            case "forget":
                return chats.forget(key, whole=self.dice.random() < 0.2)
            case "forget_everything":
                return chats.forget_everything(key)
            case _:
                return chats.status(key)

    async def _noted(self, asked: str, asking: Awaitable[object]) -> None:
        """Every outcome but an answer or a refusal needs an excuse."""
        began = time.monotonic()
        explained = began < self.flooded_at + EXCUSED
        try:
            await asking
        except AssistantRefused as refused:
            broken = refused.code in {"engine_failed", "malformed", "no_evidence"}
            self.ledger.note(f"{asked}: refused, {refused.code}", began=began, fault=broken)
        except (AssistantSilent, NoAssistant, AssistantNotVerified) as error:
            self.ledger.note(f"{asked}: {type(error).__name__}", began=began, fault=not explained, excusable=True)
        except (RelayUnreachable, RelayRefused) as error:
            self.ledger.note(f"{asked}: {type(error).__name__}", began=began, fault=True, excusable=True)
        except ClientError as error:
            self.ledger.note(f"{asked}: {type(error).__name__}", began=began, fault=True)
        else:
            self.ledger.note(f"{asked}: done", began=began)


REQUESTS = (
    *("summarize", "suggest_replies", "questions_for_me", "actions", "rewrite", "status"),
    *("forget", "forget_everything"),
)


@dataclass
class Words:
    """Canaries: in all that is said, in what people are called, in titles and drafts; and keys and numbers."""

    word: str = field(default_factory=lambda: f"quail{secrets.token_hex(6)}")
    name: str = field(default_factory=lambda: f"Zoe{secrets.token_hex(6)}")
    draft: str = field(default_factory=lambda: f"draft{secrets.token_hex(6)}")
    title: str = field(default_factory=lambda: f"trip{secrets.token_hex(6)}")
    secrets: set[bytes] = field(default_factory=set)

    def spoken(self) -> set[bytes]:
        return {word.encode() for word in (self.word, self.name, self.draft, self.title)}

    def sentence(self, dice: random.Random) -> str:
        begins = dice.choice(["Can you bring", "I will pay for", "We decided on", "Did anybody see", "Let us meet at"])
        size = dice.choice([1, 1, 1, 1, 20, 400])
        return f"{begins} the {self.word} number {dice.randrange(10**6)}" * size + dice.choice([".", "?", "!"])


@dataclass
class Memory:
    """Resident memory of one process since its start, by seconds."""

    pid: int
    samples: list[tuple[float, float]] = field(default_factory=list)

    def look(self, at: float) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            self.samples.append((at, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    @property
    def peak(self) -> float:
        return max((size for _, size in self.samples), default=0.0)

    @property
    def growth(self) -> float:
        """MiB, from the first quarter after warming up to the last one, in the middle of each."""
        last = self.samples[-1][0] if self.samples else 0.0
        warm = [size for at, size in self.samples if at >= max(WARM_UP * last, WARM_UP_SECONDS)]
        quarter = len(warm) // 4
        return statistics.median(warm[-quarter:]) - statistics.median(warm[:quarter]) if quarter else 0.0


class Watch:
    """Looks at memory all the time, and at everything every minute."""

    def __init__(self, world: World, ledger: Ledger, words: Words, since: float) -> None:
        self.world, self.ledger, self.words, self.since = world, ledger, words, since
        self.began = time.monotonic()
        self.memory: dict[tuple[str, int], Memory] = {}
        self.found: list[str] = []

    async def run(self) -> None:
        for count in range(1, 1_000_000):
            await asyncio.sleep(2)
            self.look()
            if count % 30 == 0:
                await self.search(self.words.spoken())
                self.report()

    def look(self) -> None:
        for name, enclave in self.world.enclaves.items():
            for place, pid in enumerate(descendants([enclave.pid])[:2]):
                kind = f"{name}, {('itself', 'worker')[place]}"
                self.memory.setdefault((kind, pid), Memory(pid)).look(time.monotonic() - self.began)
        pid = self.world.relay.pid
        self.memory.setdefault(("relay", pid), Memory(pid)).look(time.monotonic() - self.began)

    async def search(self, canaries: set[bytes]) -> None:
        world = self.world
        pids = [enclave.pid for enclave in world.enclaves.values()] + [world.relay.pid]
        searchable = [pid for pid in descendants(pids) if os.access(f"/proc/{pid}/environ", os.R_OK)]
        folders, ignored = [world.folders.server, world.folders.clients], [world.folders.root]
        self.found += await asyncio.to_thread(
            find_canaries, canaries, folders, searchable, self.since, ignoring=ignored
        )

    def report(self) -> None:
        ledger, now = self.ledger, time.monotonic() - self.began
        sizes = {kind: round(memory.samples[-1][1]) for (kind, _), memory in self.memory.items() if memory.samples}
        sent = sum(map(len, ledger.sent.values()))
        done = sum(count for outcome, count in ledger.outcomes.items() if outcome.endswith("done"))
        refused = sum(count for outcome, count in ledger.outcomes.items() if ", " in outcome)
        say(
            f"{now:6.0f} s: {sent} messages, {ledger.requests} requests, {done} done, {refused} refused, "
            f"{len(ledger.killed)} kills, unexplained {Counter(ledger.unexplained)}, found {self.found}, MiB {sizes}"
        )
        assert ledger.unexplained == []
        assert self.found == []
        self.check_memory(final=False)

    def check_memory(self, *, final: bool) -> None:
        for (kind, _), memory in self.memory.items():
            if kind != "relay":
                assert memory.peak < (MAX_WORKER_MB if "worker" in kind else MAX_ENCLAVE_MB), kind
            if final and kind.startswith(ENCLAVES[0]):  # the others were killed
                allowed = MAX_WORKER_GROWTH_MB if "worker" in kind else MAX_GROWTH_MB
                assert memory.growth < allowed, (kind, memory.growth)


def say(text: str) -> None:
    """Progress of a run that takes long."""
    print(text, flush=True)  # noqa: T201


async def trouble(world: World, ledger: Ledger, seconds: float, dice: random.Random) -> None:
    """Kill one enclave now and then, and the relay once, in the middle."""
    pause = max(20.0, seconds / 12)
    began, relay_killed = time.monotonic(), False
    while True:
        await asyncio.sleep(pause * dice.uniform(0.7, 1.3))
        if not relay_killed and time.monotonic() - began > seconds / 2:
            relay_killed = True
            ledger.note_kill()
            os.kill(world.relay.pid, 9)  # it is started again on its database
            continue
        ledger.note_kill()
        await world.kill_enclave(ENCLAVES[1])
        await asyncio.sleep(dice.uniform(0, 5))
        await world.start_enclave(ENCLAVES[1])
        ledger.note_kill()  # from now on it has other keys


async def found_conversations(people: Sequence[Person], dice: random.Random, words: Words) -> dict[bytes, list[Person]]:
    """Groups and pairs, everybody in several of them."""
    made: dict[bytes, list[Person]] = {}
    for person in people:
        async with person.online():
            pass
    for size in [GROUP_SIZE] * GROUPS + [2] * PAIRS:
        chosen = dice.sample(list(people), size)
        async with chosen[0].online() as chats:
            conversation = await chats.create(f"The {words.title}", [person.service_id for person in chosen])
        made[conversation.key] = chosen
        words.secrets.add(conversation.key)
    return made


async def missing(person: Person, expected: dict[bytes, set[MessageId]]) -> int:
    """How many messages this member still lacks after the last of them had time to arrive."""
    async with person.online() as chats:

        def lacks() -> int:
            known = {conversation.key for conversation in chats.conversations}
            return sum(
                len(ids - {message.id for message in chats.messages(key)} if key in known else ids)
                for key, ids in expected.items()
            )

        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await chats.wait_until(lambda: lacks() == 0)
        return lacks()


@pytest.mark.long
async def test_an_hour_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(os.environ.get("SUBROSA_SOAK_SECONDS", "3600"))
    seed = int(os.environ.get("SUBROSA_SOAK_SEED", random.SystemRandom().randrange(10**6)))
    faulthandler.dump_traceback_later(seconds + STUCK, exit=True)  # in place of pytest's, which may be shorter
    say(f"SUBROSA_SOAK_SECONDS={seconds:.0f} SUBROSA_SOAK_SEED={seed}")
    dice, words, ledger, since = random.Random(seed), Words(), Ledger(), time.time()  # noqa: S311  # no secret
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    async with a_world(tmp_path / "world") as world:
        await asyncio.gather(*(world.start_enclave(name) for name in ENCLAVES))
        people = [Person(world, ledger, random.Random(dice.random()), words) for _ in range(MEMBERS)]  # noqa: S311
        conversations = await found_conversations(people, dice, words)
        watch = Watch(world, ledger, words, since)
        ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            around = [tasks.create_task(watch.run()), tasks.create_task(trouble(world, ledger, seconds, dice))]
            await asyncio.gather(*(person.live(ends) for person in people))
            for task in around:
                task.cancel()
        expected = {
            person: {k: ledger.sent.get(k, set()) for k, who in conversations.items() if person in who}
            for person in people
        }
        lacking = await asyncio.gather(*(missing(person, expected[person]) for person in people))
        watch.look()
        await watch.search(words.spoken() | words.secrets)
        watch.report()
        say("\n".join(f"{count:6} {outcome}" for outcome, count in sorted(ledger.outcomes.items())))
        for (kind, pid), memory in watch.memory.items():
            say(f"{kind} ({pid}): peak {memory.peak:.0f} MiB, growth {memory.growth:.1f} MiB")
        assert sum(lacking) == 0, lacking
        watch.check_memory(final=True)
        assert ledger.outcomes["summarize: done"] > 0
        assert sum(map(len, ledger.sent.values())) > 0
