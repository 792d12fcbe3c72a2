"""Who is worked on in the next step, and how far. Decisions only: no tensors, no texts, no clock.

In each step every running answer grows by one token, and what is left of the step's token budget goes to prompts, in chunks, in equal
shares for the tenants. Tenants take turns at being admitted, so that many requests of one do not delay another's. Where blocks run out, the
job that was admitted last gives its own back and is computed again later; the one that was admitted first always goes on, so that there is
always progress. Nothing is ever moved to another memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ai_enclave.engine.interface import Failure
from ai_enclave.engine.local.ledger import Ledger

_MEMORY = 0.9  # of the older measurements, when a new one comes
_FIRST_SHARE = 0.25  # of the tokens that an answer may have, until it is known how long answers get


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a scheduler."""

    running: int = 32  # jobs that are worked on at a time
    waiting: int = 256
    waiting_of_tenant: int = 64
    budget: int = 512  # tokens of one step


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One request, in numbers. The first five are given; the scheduler keeps the others."""

    number: int  # the order of arrival, and a name
    tenant: bytes = field(repr=False)
    deadline: float
    prompt: int  # tokens
    most: int  # tokens of the answer, at least 1
    priority: int = 0
    prefix: bytes | None = None  # names the constant start of the prompt, which may be kept
    prefix_tokens: int = 0  # fewer than ``prompt``
    written: int = 0  # tokens of the answer so far
    computed: int = 0  # tokens whose keys and values are in its blocks
    shared: int = 0  # of these, that were taken from what is kept, at the first admission
    blocks: list[int] = field(default_factory=list)
    admissions: int = 0  # more than one, if it was preempted

    @property
    def left(self) -> int:
        """Tokens that are known and not computed: one for a growing answer, more for a prompt."""
        return self.prompt + self.written - self.computed

    @property
    def grows(self) -> bool:
        """Whether its next step gives one more token from one token."""
        return self.computed > 0 and self.written > 0 and self.left == 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next ``count`` tokens of a job are computed; if they are the last that are known, the next token follows from them."""

    job: Job
    count: int

    @property
    def samples(self) -> bool:
        """Whether a token follows."""
        return self.count == self.job.left


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. ``released`` blocks must be zero before any chunk is computed, and kept prefixes copied into the admitted."""

    failed: tuple[tuple[Job, Failure], ...]
    admitted: tuple[Job, ...]
    released: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Scheduler:
    """Jobs that wait and jobs that run. Give it every event; do what ``plan`` says, then call ``advance``."""

    def __init__(self, ledger: Ledger, limits: Limits) -> None:
        self.ledger = ledger
        self.limits = limits
        self.speed = Speed()
        self.preempted = 0
        self._running: list[Job] = []  # in order of admission
        self._queues: dict[bytes, list[Job]] = {}  # tenants in the order of their turns; none is empty
        self._kept: set[bytes] = set()

    @property
    def running(self) -> int:
        """How many are worked on."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many are not."""
        return sum(map(len, self._queues.values()))

    def submit(self, job: Job, now: float) -> Failure | None:
        """Queue a job, or say why not."""
        if job.deadline <= now:
            return Failure.LATE
        if self.ledger.needed(job.prompt + job.most) > self.ledger.count:
            return Failure.TOO_LONG
        queue = self._queues.get(job.tenant, [])
        full = self.waiting >= self.limits.waiting or len(queue) >= self.limits.waiting_of_tenant
        if full or now + self._until_done(job) > job.deadline:
            return Failure.BUSY
        self._queue(job)
        return None

    def keep(self, prefix: bytes) -> None:
        """From now on this prefix can be taken from what is kept."""
        self._kept.add(prefix)

    def forget(self, prefix: bytes) -> None:
        """It is not kept any more."""
        self._kept.discard(prefix)

    def remove(self, job: Job) -> list[int]:
        """Forget a job, in whatever state, and take its blocks back: zero them before the next step."""
        if job in self._running:
            self._running.remove(job)
        elif job in (queue := self._queues.get(job.tenant, [])):
            queue.remove(job)
            self._drop_if_empty(job.tenant)
        return self._release(job)

    def finish(self, job: Job) -> list[int]:
        """Like ``remove``, for an answer that is whole: its length is learned from."""
        self.speed.finished(job.written / job.most)
        return self.remove(job)

    def plan(self, now: float) -> Plan:
        """What to do next."""
        failed, released = self._expire(now)
        growing = self._grow(released)
        budget = max(self.limits.budget - len(growing), 0)
        admitted = self._admit(budget, now, failed)
        chunks = [Chunk(job, 1) for job in growing] + self._prompts(budget)
        return Plan(tuple(failed), tuple(admitted), tuple(released), tuple(chunks))

    def advance(self, chunks: Sequence[Chunk]) -> None:
        """These were computed; those that sampled wrote one token each."""
        for chunk in chunks:
            samples = chunk.samples
            chunk.job.computed += chunk.count
            chunk.job.written += samples

    def jobs(self) -> list[Job]:
        """All of them."""
        return self._running + [job for queue in self._queues.values() for job in queue]

    def _expire(self, now: float) -> tuple[list[tuple[Job, Failure]], list[int]]:
        late = [job for job in self.jobs() if job.deadline <= now]
        released = [block for job in late for block in self.remove(job)]
        return [(job, Failure.LATE) for job in late], released

    def _grow(self, released: list[int]) -> list[Job]:
        """The answers that grow in this step, each with room for one token more."""
        growing = [job for job in self._running if job.grows]
        for job in growing:
            # It may have been preempted for an older one meanwhile.
            while job in self._running and self.ledger.needed(job.computed + 1) > len(job.blocks):
                if self.ledger.free:
                    job.blocks += self.ledger.take(1)
                else:
                    released += self._preempt(self._running[-1])
        return [job for job in growing if job in self._running]

    def _preempt(self, job: Job) -> list[int]:
        self.preempted += 1
        self._running.remove(job)
        blocks = self._release(job)
        self._queue(job)
        self._queues = {job.tenant: self._queues.pop(job.tenant), **self._queues}  # it is this tenant's turn
        return blocks

    def _release(self, job: Job) -> list[int]:
        blocks, job.blocks, job.computed = job.blocks, [], 0
        self.ledger.give(blocks)
        return blocks

    def _queue(self, job: Job) -> None:
        queue = self._queues.setdefault(job.tenant, [])
        queue.append(job)
        queue.sort(key=_turn)

    def _drop_if_empty(self, tenant: bytes) -> None:
        if not self._queues[tenant]:
            del self._queues[tenant]

    def _admit(self, budget: int, now: float, failed: list[tuple[Job, Failure]]) -> list[Job]:
        """Tenants in turn, as long as there is something to do for them in this step."""
        admitted: list[Job] = []
        pending = sum(job.left for job in self._running if not job.grows)
        while self._queues and len(self._running) < self.limits.running and pending < budget:
            tenant, queue = next(iter(self._queues.items()))
            job = queue[0]
            hopeless = now + self.speed.seconds(job.prompt + job.written, 0) > job.deadline
            if not hopeless and not self._fits(job):
                break
            queue.pop(0)
            del self._queues[tenant]
            if queue:
                self._queues[tenant] = queue  # behind the others
            if hopeless:
                failed.append((job, Failure.BUSY))
                continue
            self._start(job)
            admitted.append(job)
            pending += job.left
        return admitted

    def _fits(self, job: Job) -> bool:
        """Whether there are blocks for all that is known of it; and one more for each of the others, or it would soon go again."""
        return self.ledger.needed(job.prompt + job.written) + len(self._running) <= self.ledger.free

    def _start(self, job: Job) -> None:
        job.blocks = self.ledger.take(self.ledger.needed(job.prompt + job.written))
        if job.prefix in self._kept:
            job.computed = job.prefix_tokens
            job.shared = job.shared if job.admissions else job.prefix_tokens
        job.admissions += 1
        self._running.append(job)

    def _prompts(self, budget: int) -> list[Chunk]:
        jobs = [job for job in self._running if not job.grows]
        counts = shares([(job.tenant, job.left) for job in jobs], budget)
        return [Chunk(job, count) for job, count in zip(jobs, counts, strict=True) if count]

    def _until_done(self, job: Job) -> float:
        """Seconds until a new job would be done, by what was measured so far; 0 if nothing was."""
        ahead = list(self._ahead(job))
        prompts = sum(other.left for other in self._running if not other.grows) + sum(each.prompt for each in ahead)
        rounds = (len(self._running) + len(ahead)) // self.limits.running
        others = [each.most for each in [*self._running, *ahead]]
        typical = sum(others) / max(len(others), 1)
        return self.speed.seconds(prompts + job.prompt, job.most + rounds * typical)

    def _ahead(self, job: Job) -> Iterator[Job]:
        """Those that wait and will have their turn before a new job: of each tenant no more than of its own."""
        place = sum(_turn(other) < _turn(job) for other in self._queues.get(job.tenant, []))
        for tenant, queue in self._queues.items():
            yield from queue[: place if tenant == job.tenant else place + 1]


class Speed:
    """How fast it goes, from what was measured: running means. Seconds are 0 until something was."""

    def __init__(self) -> None:
        self._prompt_seconds = 0.0  # of steps with prompts in them, beyond what a step takes without, fading
        self._prompt_tokens = 0.0  # the same
        self._step = 0.0  # seconds of a step in which answers grow
        self._share = _FIRST_SHARE

    def observe(self, prompt_tokens: int, seconds: float) -> None:
        """One step took so long, with so many tokens of prompts in it."""
        if prompt_tokens:
            self._prompt_seconds = _MEMORY * self._prompt_seconds + max(seconds - self._step, 0.0)
            self._prompt_tokens = _MEMORY * self._prompt_tokens + prompt_tokens
        else:
            self._step = _mean(self._step, seconds)

    def finished(self, share: float) -> None:
        """An answer took this share of the tokens that it might have had."""
        self._share = _mean(self._share, share)

    def seconds(self, prompt_tokens: int, most_tokens: float) -> float:
        """For a prompt, and an answer that is as long as answers are."""
        prompt_token = self._prompt_seconds / self._prompt_tokens if self._prompt_tokens else 0.0
        return prompt_tokens * prompt_token + most_tokens * self._share * self._step


def shares(wants: Sequence[tuple[bytes, int]], budget: int) -> list[int]:
    """Divide ``budget`` among wants of tenants: tenants get equal shares, what one does not want goes to the others.

    Of one tenant, those that stand first are served first. Nothing is left over while something is wanted.
    """
    totals: dict[bytes, int] = {}
    for tenant, want in wants:
        totals[tenant] = totals.get(tenant, 0) + want
    grants = _level(totals, budget)
    given = []
    for tenant, want in wants:
        given.append(min(want, grants[tenant]))
        grants[tenant] -= given[-1]
    return given


def _level(totals: dict[bytes, int], budget: int) -> dict[bytes, int]:
    """Water-filling: who wants least is served first, and leaves what it does not need."""
    grants: dict[bytes, int] = {}
    for place, tenant in enumerate(sorted(totals, key=lambda each: totals[each])):
        # Rounded up, so that the last tokens of a budget are given as well.
        grants[tenant] = min(totals[tenant], -(-budget // (len(totals) - place)))
        budget -= grants[tenant]
    return grants


def _turn(job: Job) -> tuple[int, int]:
    """The order of a tenant's own: greater priority first, then who came first."""
    return -job.priority, job.number


def _mean(old: float, new: float) -> float:
    return _MEMORY * old + (1 - _MEMORY) * new if old else new
