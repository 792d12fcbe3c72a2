"""Tenants take turns, everything ends, and no plan asks for more than there is."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_enclave.engine.interface import Failure
from ai_enclave.engine.local.ledger import Ledger
from ai_enclave.engine.local.scheduler import Job, Limits, Plan, Scheduler, Speed, shares

NUMBERS = itertools.count()


def a_job(tenant: str = "a", prompt: int = 4, most: int = 3, priority: int = 0, deadline: float = 100.0) -> Job:
    return Job(
        number=next(NUMBERS), tenant=tenant.encode(), deadline=deadline, prompt=prompt, most=most, priority=priority
    )


def a_scheduler(blocks: int = 64, **limits: int) -> Scheduler:
    given = {"running": 4, "waiting": 50, "waiting_of_tenant": 40, "budget": 16, **limits}
    return Scheduler(Ledger(blocks, 4), Limits(**given))


def a_step(scheduler: Scheduler, now: float = 0.0) -> Plan:
    """Plan, compute, and end what is whole."""
    plan = scheduler.plan(now)
    scheduler.advance(plan.chunks)
    for chunk in plan.chunks:
        if chunk.job.written == chunk.job.most:
            scheduler.finish(chunk.job)
    return plan


def submitted(scheduler: Scheduler, *jobs: Job) -> list[Failure | None]:
    return [scheduler.submit(job, 0) for job in jobs]


def test_tenants_take_turns_and_not_requests() -> None:
    scheduler = a_scheduler(running=1)
    flood, other = [a_job("flood", most=1) for _ in range(5)], a_job("other", most=1)
    submitted(scheduler, *flood, other)
    order = [job for _ in range(6) for job in a_step(scheduler).admitted]
    assert order == [flood[0], other, *flood[1:]]


def test_of_one_tenant_the_greater_priority_comes_first_and_of_others_it_says_nothing() -> None:
    scheduler = a_scheduler(running=1)
    first, second, urgent = a_job(most=1), a_job(most=1), a_job(most=1, priority=5)
    other = a_job("other", most=1)
    submitted(scheduler, first, second, other, urgent)
    assert [job for _ in range(4) for job in a_step(scheduler).admitted] == [urgent, other, first, second]


def test_prompts_are_read_in_chunks_beside_growing_answers() -> None:
    scheduler = a_scheduler(budget=6)
    short, long = a_job("a", prompt=2, most=20), a_job("b", prompt=14)
    submitted(scheduler, short, long)
    steps = [{chunk.job.number: chunk.count for chunk in a_step(scheduler).chunks} for _ in range(4)]
    assert steps == [
        {short.number: 2, long.number: 4},
        {short.number: 1, long.number: 5},
        {short.number: 1, long.number: 5},
        {short.number: 1, long.number: 1},
    ]


def test_only_the_last_chunk_of_a_prompt_gives_a_token() -> None:
    scheduler = a_scheduler(budget=6)
    job = a_job(prompt=14)
    submitted(scheduler, job)
    written = []
    for _ in range(4):
        a_step(scheduler)
        written.append(job.written)
    assert written == [0, 0, 1, 2]


def test_refuses_what_could_never_fit_and_what_is_late_and_what_is_too_much() -> None:
    scheduler = a_scheduler(blocks=4, waiting=3, waiting_of_tenant=2)
    assert submitted(scheduler, a_job(prompt=16, most=1)) == [Failure.TOO_LONG]
    assert submitted(scheduler, a_job(prompt=15, most=1)) == [None]
    assert scheduler.submit(a_job(deadline=5), 5) == Failure.LATE
    assert submitted(scheduler, a_job(), a_job()) == [None, Failure.BUSY]  # two of this tenant
    assert submitted(scheduler, a_job("b"), a_job("c")) == [None, Failure.BUSY]  # three in all


def test_who_is_late_is_stopped_wherever_it_is() -> None:
    scheduler = a_scheduler(running=1)
    running, waiting = a_job(deadline=5, most=50), a_job(deadline=5)
    submitted(scheduler, running, waiting)
    a_step(scheduler, now=1)
    blocks = list(running.blocks)
    plan = a_step(scheduler, now=5)
    assert set(plan.failed) == {(running, Failure.LATE), (waiting, Failure.LATE)}
    assert list(plan.released) == blocks
    assert scheduler.jobs() == []


def test_is_busy_when_the_deadline_cannot_be_met_at_the_measured_speed() -> None:
    scheduler = a_scheduler()
    scheduler.speed.observe(10, 1.0)  # a tenth of a second for each token of a prompt
    assert submitted(scheduler, a_job(prompt=40, deadline=3.9), a_job(prompt=40, deadline=4.1)) == [Failure.BUSY, None]
    assert submitted(scheduler, a_job("b", prompt=40, deadline=7.9)) == [Failure.BUSY]  # the other one is ahead
    assert submitted(scheduler, a_job("b", prompt=40, deadline=8.1)) == [None]


def test_a_few_tokens_beside_growing_answers_do_not_make_prompts_look_slow() -> None:
    speed = Speed()
    speed.observe(0, 0.1)
    speed.observe(500, 0.6)
    speed.observe(1, 0.101)
    assert 0.9 < speed.seconds(1000, 0) < 1.1
    assert 0.09 < speed.seconds(0, 4) < 0.11  # an answer is taken to be a quarter of what it may be
    for _ in range(60):
        speed.finished(1.0)
    assert 0.39 < speed.seconds(0, 4) < 0.41


def test_one_tenants_queue_makes_nobody_else_wait_longer() -> None:
    scheduler = a_scheduler()
    scheduler.speed.observe(10, 1.0)
    submitted(scheduler, *(a_job("flood", prompt=20) for _ in range(10)))
    assert submitted(scheduler, a_job("other", prompt=20, deadline=4.1)) == [None]  # behind one of them
    assert submitted(scheduler, a_job("flood", prompt=20, deadline=4.1)) == [Failure.BUSY]  # behind all of them


def test_gives_up_at_its_turn_what_cannot_be_done_any_more() -> None:
    scheduler = a_scheduler()
    job = a_job(prompt=40, deadline=5)
    submitted(scheduler, job)
    scheduler.speed.observe(10, 1.0)
    assert a_step(scheduler, now=1.5).failed == ((job, Failure.BUSY),)


def test_the_last_admitted_gives_its_blocks_back_and_the_first_goes_on() -> None:
    scheduler = a_scheduler(blocks=5)
    first, last = a_job("a", prompt=4, most=12), a_job("b", prompt=4, most=12)
    submitted(scheduler, first, last)
    had: list[int] = []
    while not (released := a_step(scheduler).released):
        had = list(last.blocks)
    assert list(released) == had
    assert (first.admissions, last.admissions, last.computed) == (1, 1, 0)
    written = last.written
    while scheduler.jobs():
        a_step(scheduler)
    assert last.admissions == 2
    assert written > 0
    assert (first.written, last.written) == (12, 12)


def test_cancelling_frees_blocks_at_once() -> None:
    scheduler = a_scheduler(blocks=4)
    job, other = a_job(prompt=12), a_job("b", prompt=8)
    submitted(scheduler, job, other)
    assert a_step(scheduler).admitted == (job,)
    assert len(scheduler.remove(job)) == 3
    assert scheduler.ledger.free == 4
    assert a_step(scheduler).admitted == (other,)
    assert scheduler.remove(other) != []
    assert scheduler.remove(other) == []


def test_a_kept_prefix_is_not_computed_again() -> None:
    scheduler = a_scheduler()
    scheduler.keep(b"kept")
    kept, other = a_job(prompt=10), a_job(prompt=10)
    kept.prefix, kept.prefix_tokens = b"kept", 6
    other.prefix, other.prefix_tokens = b"other", 6
    submitted(scheduler, kept, other)
    counts = {chunk.job: chunk.count for chunk in a_step(scheduler).chunks}
    assert counts == {kept: 4, other: 10}
    assert (kept.shared, other.shared) == (6, 0)


wants = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 50)), max_size=12)


@given(wants, st.integers(0, 100))
def test_shares_are_fair_and_nothing_is_left_over(wants: list[tuple[bytes, int]], budget: int) -> None:
    given_out = shares(wants, budget)
    assert sum(given_out) == min(budget, sum(want for _, want in wants))
    assert all(0 <= got <= want for got, (_, want) in zip(given_out, wants, strict=True))
    tenants = {tenant for tenant, _ in wants}
    for tenant in tenants:
        wanted = sum(want for name, want in wants if name == tenant)
        got = sum(each for each, (name, _) in zip(given_out, wants, strict=True) if name == tenant)
        assert got >= min(wanted, budget // len(tenants))


jobs = st.tuples(
    st.sampled_from("abc"), st.integers(1, 20), st.integers(1, 12), st.integers(0, 2), st.integers(0, 60), st.booleans()
)


@settings(max_examples=150, deadline=None)
@given(st.lists(jobs, max_size=14), st.integers(8, 20), st.integers(1, 20))
def test_everything_ends_and_no_plan_is_impossible(
    wanted: list[tuple[str, int, int, int, int, bool]], blocks: int, budget: int
) -> None:
    scheduler = a_scheduler(blocks=blocks, budget=budget)
    coming = sorted(wanted, key=lambda each: each[4])
    step = 0
    while coming or scheduler.jobs():
        while coming and coming[0][4] <= step:
            tenant, prompt, most, priority, _, cancelled = coming.pop(0)
            job = a_job(tenant, prompt, most, priority, deadline=1000)
            scheduler.submit(job, step)
            if cancelled:
                scheduler.remove(job)
        plan = a_step(scheduler, step)
        check(plan, scheduler)
        step += 1
        assert step < 1000
    assert scheduler.ledger.free == blocks


def check(plan: Plan, scheduler: Scheduler) -> None:
    """What a plan must be."""
    growing = sum(chunk.count == 1 and chunk.job.written > 1 for chunk in plan.chunks)
    assert sum(chunk.count for chunk in plan.chunks) <= max(scheduler.limits.budget, growing)
    assert scheduler.running <= scheduler.limits.running
    owned = [block for job in scheduler.jobs() for block in job.blocks]
    assert len(set(owned)) == len(owned)
    for job in scheduler.jobs():
        assert len(job.blocks) * scheduler.ledger.size >= job.computed


@pytest.mark.parametrize("budget", [1, 3])
def test_answers_grow_even_if_they_are_more_than_the_budget(budget: int) -> None:
    scheduler = a_scheduler(budget=budget)
    running = [a_job(str(number), prompt=1, most=9) for number in range(4)]
    submitted(scheduler, *running)
    for _ in range(60):
        a_step(scheduler)
    assert [job.written for job in running] == [9] * 4
