"""Requests in, events out, step by step: what the scheduler plans is computed, and what follows is given out.

For one thread, and without one of its own: ``worker`` has it. Whatever fails, fails for the requests that it concerns, and their blocks
are zeroed before anything else happens.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ai_enclave.engine.interface import Admitted, Done, Event, Failed, Failure, Lines, Stats, Token
from ai_enclave.engine.local.blocks import Prefix
from ai_enclave.engine.local.grammar import Grammar, Writing
from ai_enclave.engine.local.packing import Piece
from ai_enclave.engine.local.prompt import Prompt
from ai_enclave.engine.local.runner import Runner
from ai_enclave.engine.local.sampler import NO_TOKEN
from ai_enclave.engine.local.scheduler import Chunk, Job, Scheduler
from ai_enclave.engine.local.vocabulary import Text, Vocabulary

MAX_PREFIX_TOKENS = 4096  # that are kept, of all prefixes together; the one that was not used longest goes first

Events = list[tuple[int, Event]]  # to whom, by number


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, its prompt in tokens."""

    number: int
    tenant: bytes = field(repr=False)
    deadline: float
    most: int  # tokens of the answer
    priority: int = 0
    prompt: Prompt = field(repr=False)
    form: Lines | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """One request on its way."""

    job: Job
    tokens: list[int] = field(repr=False)  # the prompt's and its own
    text: Text = field(repr=False)
    writing: Writing | None = field(repr=False)


class Batcher:
    """All requests of an engine."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        vocabulary: Vocabulary,
        stops: frozenset[int],
        grammar: Grammar,
        clock: Callable[[], float],
    ) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self._vocabulary = vocabulary
        self._stops = stops
        self._grammar = grammar
        self._clock = clock
        self._answers: dict[int, Answer] = {}
        self._prefixes: OrderedDict[bytes, Prefix] = OrderedDict()
        self._finished = self._failed = self._prompt_tokens = self._tokens = self._shared = 0

    @property
    def numbers(self) -> list[int]:
        """The requests that wait or run."""
        return list(self._answers)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._answers)

    def stats(self) -> Stats:
        """Counts. Any thread may ask."""
        return Stats(
            running=self.scheduler.running,
            waiting=self.scheduler.waiting,
            finished=self._finished,
            failed=self._failed,
            prompt_tokens=self._prompt_tokens,
            tokens=self._tokens,
            shared_prompt_tokens=self._shared,
        )

    def submit(self, ask: Ask) -> Events:
        """Take a request, or refuse it."""
        tokens = ask.prompt.tokens
        if ask.most <= 0:
            self._finished += 1
            return [(ask.number, Done(len(tokens), 0, cut=True))]
        try:
            writing = None if ask.form is None else self._grammar.begin(ask.form)
        except ValueError:
            return self._refuse(ask.number, Failure.BROKEN)
        job = Job(
            number=ask.number,
            tenant=ask.tenant,
            deadline=ask.deadline,
            prompt=len(tokens),
            most=ask.most,
            priority=ask.priority,
            prefix=_name(tokens[: ask.prompt.prefix]) if 0 < ask.prompt.prefix < len(tokens) else None,
            prefix_tokens=ask.prompt.prefix,
        )
        if (why := self.scheduler.submit(job, self._clock())) is not None:
            return self._refuse(ask.number, why)
        self._answers[ask.number] = Answer(job, list(tokens), Text(self._vocabulary), writing)
        return []

    def cancel(self, number: int, why: Failure = Failure.CANCELLED) -> Events:
        """Stop a request, if there is such a one; its blocks are free and zero when this returns."""
        answer = self._answers.get(number)
        return [] if answer is None else self._fail(answer, why)

    def step(self) -> Events:
        """Everybody goes on a little."""
        plan = self.scheduler.plan(self._clock())
        self.runner.pool.clear(plan.released)
        events = [event for job, why in plan.failed for event in self._fail(self._answers[job.number], why)]
        for job in plan.admitted:
            events += self._admit(job)
        if not plan.chunks:
            return events
        try:
            return events + self._compute(plan.chunks)
        except Exception:  # noqa: BLE001  # whatever it was, nobody may read half of a step
            return events + self._break()

    def end(self, why: Failure) -> Events:
        """Stop everything, and overwrite all that is kept."""
        events = [event for answer in list(self._answers.values()) for event in self._fail(answer, why)]
        self.wipe()
        return events

    def wipe(self) -> None:
        """Overwrite all that is kept."""
        self._forget(self._prefixes)
        self.runner.pool.wipe()

    def forget(self) -> None:
        """Keep nothing of anybody, after a fault; nothing is computed any more."""
        self._answers.clear()
        with suppress(Exception):  # of the device, which may be what failed
            self.wipe()

    def _admit(self, job: Job) -> Events:
        if job.computed and job.prefix is not None:
            self.runner.pool.copy_in(self._prefixes[job.prefix], job.blocks)
            self._prefixes.move_to_end(job.prefix)
        if job.admissions > 1:
            return []
        self._prompt_tokens += job.prompt
        self._shared += job.shared
        return [(job.number, Admitted())]

    def _compute(self, chunks: Sequence[Chunk]) -> Events:
        start = self._clock()
        following = self.runner.step([self._piece(chunk) for chunk in chunks])
        self.scheduler.speed.observe(sum(chunk.count for chunk in chunks if not chunk.job.grows), self._clock() - start)
        self.scheduler.advance(chunks)
        for chunk in chunks:
            self._keep_prefix(chunk.job)
        answers = [(self._answers[chunks[place].job.number], token) for place, token in following]
        return [event for answer, token in answers for event in self._take(answer, token)]

    def _piece(self, chunk: Chunk) -> Piece:
        job, answer = chunk.job, self._answers[chunk.job.number]
        allowed = answer.writing.mask() if answer.writing is not None and chunk.samples else None
        return Piece(
            answer.tokens[job.computed : job.computed + chunk.count], job.computed, job.blocks, chunk.samples, allowed
        )

    def _take(self, answer: Answer, token: int) -> Events:
        """One more token of an answer."""
        job = answer.job
        if token == NO_TOKEN:
            return self._fail(answer, Failure.BROKEN)
        if token in self._stops and answer.writing is None:
            return self._finish(answer, Done(job.prompt, job.written - 1))
        self._tokens += 1
        answer.tokens.append(token)
        text = answer.text.add(token)
        events: Events = [(job.number, Token(text))] if text else []
        if answer.writing is not None and not answer.writing.take(token):
            return self._fail(answer, Failure.BROKEN)
        if answer.writing is not None and answer.writing.ended:
            return events + self._finish(answer, Done(job.prompt, job.written))
        if job.written == job.most:
            events += self._finish(answer, Done(job.prompt, job.written, cut=True))
        return events

    def _finish(self, answer: Answer, done: Done) -> Events:
        self._finished += 1
        del self._answers[answer.job.number]
        self.runner.pool.clear(self.scheduler.finish(answer.job))
        return [(answer.job.number, done)]

    def _fail(self, answer: Answer, why: Failure) -> Events:
        del self._answers[answer.job.number]
        self.runner.pool.clear(self.scheduler.remove(answer.job))
        return self._refuse(answer.job.number, why)

    def _refuse(self, number: int, why: Failure) -> Events:
        self._failed += 1
        return [(number, Failed(why))]

    def _break(self) -> Events:
        """A step failed: what ran cannot be trusted any more, what waits can."""
        running = [answer for answer in self._answers.values() if answer.job.blocks]
        events = [event for answer in running for event in self._fail(answer, Failure.BROKEN)]
        self.wipe()
        return events

    def _keep_prefix(self, job: Job) -> None:
        """Keep the constant start of a prompt, as soon as it is computed."""
        fits = job.prefix_tokens <= MAX_PREFIX_TOKENS
        if job.prefix is None or job.prefix in self._prefixes or job.computed < job.prefix_tokens or not fits:
            return
        self._prefixes[job.prefix] = self.runner.pool.copy_out(job.blocks, job.prefix_tokens)
        self.scheduler.keep(job.prefix)
        while sum(prefix.tokens for prefix in self._prefixes.values()) > MAX_PREFIX_TOKENS:
            self._forget([next(iter(self._prefixes))])

    def _forget(self, names: Iterable[bytes]) -> None:
        for name in list(names):
            self._prefixes.pop(name).wipe()
            self.scheduler.forget(name)


def _name(tokens: Sequence[int]) -> bytes:
    return hashlib.sha256(np.array(tokens, "<i4").tobytes()).digest()
