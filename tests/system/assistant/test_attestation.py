"""An enclave gets a nonce and nothing else before it has proved what it is, and whatever the relay does about that is stopped by a check."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation import Collateral, CpuType, Policy, Release
from attestation.appraisal.policy_file import PolicySigner
from messaging.client.assistant import AssistantError, AssistantSilent, EvidenceRefused
from messaging.client.assistant_errors import PolicyDowngraded
from messaging.client.assistants import NoAssistant
from messaging.client.policies import accept_policy
from messaging.wire.assistant import AssistantRequest, EvidenceRequest, Summary
from messaging.wire.content import AssistantCall, ConsentUpdate, ProfileKeyUpdate, Roster
from messaging.wire.identifiers import ServiceId
from messaging.wire.limits import REQUEST_BUCKETS
from tests.simulators.hostile_relay import (
    Copy,
    Drop,
    Duplicate,
    Match,
    Passing,
    Redirect,
    Reorder,
    SwapKeys,
    deliveries,
    list_stranger,
    sends,
)
from tests.system.assistant.world import ENCLAVES, Client, RunningEnclave, World, policy_text

SHORT = 0.7  # seconds for which a client waits for who will not answer


@pytest.fixture
async def world(world_of_module: World) -> AsyncIterator[World]:
    """One of this module: clients that begin anew with assistants do so in the conversations of all tests before."""
    await world_of_module.begin()
    yield world_of_module
    await world_of_module.end()


def frames(*, to: ServiceId) -> Match:
    """Frames of answers that the relay delivers: nothing else is of their size."""
    delivered = deliveries(to=to)

    def match(passing: Passing) -> bool:
        return delivered(passing) and passing.envelope is not None and 8_000 < len(passing.envelope.content) < 11_000

    return match


async def refusal(client: Client) -> AssistantError:
    """Why no assistant can be used: the first reason."""
    with pytest.raises(NoAssistant) as refused:
        await client.assistants.choose(client.conversation.id)
    return refused.value.refusals[0]


async def check_that_refused(client: Client) -> str:
    """The name of the check that an assistant did not pass."""
    reason = await refusal(client)
    assert isinstance(reason, EvidenceRefused), reason
    return reason.check


async def honest_use_goes_on(world: World, client: Client) -> None:
    """With an honest relay, and the right policy, the same client uses an assistant."""
    world.hostile.rules.clear()
    client.judge()
    await client.chats.opt_in(world.key)
    written = await client.write("We meet on Friday at 9:30.")
    answered = await client.chats.summarize(world.key, [written], world.names)
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.coverage.used == 1


def got_only_nonces(enclave: RunningEnclave, since: int = 0) -> bool:
    """Whether requests for evidence are all that it decrypted."""
    return all(
        isinstance(content, AssistantCall) and isinstance(AssistantRequest.parse(content.request).kind, EvidenceRequest)
        for _, content in enclave.contents[since:]
    )


async def test_before_it_is_verified_an_enclave_has_got_a_nonce_and_nothing_else(new_world: World) -> None:
    world = new_world
    ann, serving = world["Ann"].phone, world.serving()
    world["Ann"].laptop.judge(only=["nobody"])  # the other device of the account knows of no assistant
    await ann.chats.opt_in(world.key)
    await serving.knows(ann.conversation, ann)
    # What the relay saw of it: one request of the size of all requests went in before an answer came out.
    traffic = [seen for seen in serving.proxy.seen if seen.is_send or (seen.is_delivery and seen.contents != (0,))]
    answered = next(at for at, seen in enumerate(traffic) if seen.is_send)
    assert [seen.other for seen in traffic[:answered]] == [ann.me]
    assert REQUEST_BUCKETS[0] < traffic[0].contents[0] < REQUEST_BUCKETS[0] + 4096
    # What the enclave decrypted: a nonce first, and after its answer whose messages it may have.
    kinds = [type(content) for _, content in serving.contents]
    assert kinds == [AssistantCall, ProfileKeyUpdate, ConsentUpdate, Roster]
    first = serving.contents[0][1]
    assert isinstance(first, AssistantCall)
    asked = AssistantRequest.parse(first.request)
    assert isinstance(asked.kind, EvidenceRequest)
    assert asked == AssistantRequest(asked.id, asked.kind, deadline=asked.deadline)  # no conversation, no evidence
    assert world.other().contents == []
    await honest_use_goes_on(world, ann)


@pytest.mark.parametrize(
    ("weaker", "check"),
    [
        (lambda policy: Policy(releases=policy.releases), "genuine hardware"),
        (lambda policy: replace(policy, releases=()), "measurement"),
        (lambda policy: replace(policy, releases=(another_release(policy),)), "measurement"),
        (lambda policy: replace(policy, valid_until=datetime.now(UTC) - timedelta(days=1)), "policy validity"),
        (lambda policy: replace(policy, gpus=1), "device count"),
    ],
    ids=[
        "a simulation under a strict policy",
        "no release",
        "another release",
        "a policy that ran out",
        "a GPU too few",
    ],
)
async def test_what_the_policy_does_not_accept_is_refused_by_name_and_gets_nothing(
    world: World, weaker: Callable[[Policy], Policy], check: str
) -> None:
    ann, enclaves = world["Ann"].phone, list(world.enclaves.values())
    for client in world["Ann"].clients:
        client.judge(weaker(world.policy))
    heard = [len(enclave.contents) for enclave in enclaves]
    with pytest.raises(NoAssistant, match=check) as refused:
        await ann.chats.opt_in(world.key)
    assert [reason.check for reason in refused.value.refusals if isinstance(reason, EvidenceRefused)] == [check] * 2
    written = await ann.write("nothing of this is for them")
    with pytest.raises(NoAssistant, match=check):
        await ann.chats.summarize(world.key, [written], {})
    await world.nothing_is_lost()
    assert all(got_only_nonces(enclave, since) for enclave, since in zip(enclaves, heard, strict=True))
    await honest_use_goes_on(world, ann)


def another_release(policy: Policy) -> Release:
    """The next one, which nobody runs yet."""
    [release] = policy.releases
    return Release(name=release.name, type=CpuType.SIMULATED, measurement=secrets.token_bytes(48))


async def test_a_release_that_is_revoked_gets_nothing_more_and_all_of_it_when_it_is_accepted_again(
    world: World,
) -> None:
    ann, serving = world["Ann"].phone, world.serving()
    world["Ann"].laptop.judge(only=["nobody"])
    ann.judge()
    await ann.chats.opt_in(world.key)
    before = await ann.write("while it was accepted")
    await serving.has(world.key, before)
    ann.assistants.set_policy(replace(world.policy, releases=(another_release(world.policy),)))
    heard = len(serving.contents)
    during = await ann.write("while it was revoked")
    assert await check_that_refused(ann) == "measurement"
    await world.nothing_is_lost()
    assert got_only_nonces(serving, heard)
    ann.assistants.set_policy(world.policy)
    answered = await ann.chats.summarize(world.key, [before, during], world.names)
    assert isinstance(answered.result.kind, Summary)
    assert answered.result.kind.coverage.used == 2
    assert {before, during} <= serving.messages(world.key).keys()


async def test_a_policy_that_was_replaced_is_not_taken_back(world: World) -> None:
    ann, signer, now = world["Ann"].phone, PolicySigner("clinic", Ed25519PrivateKey.generate()), datetime.now(UTC)

    async def offer(policy: Policy, issued: timedelta) -> None:
        note = signer.sign(policy_text(replace(policy, valid_from=(now + issued).replace(microsecond=0)))).encode()
        ann.judge(await accept_policy(ann.store, note, signer.key, now))

    revoking = replace(world.policy, releases=(another_release(world.policy),))
    await offer(world.policy, timedelta(days=-3))
    await ann.assistants.choose(ann.conversation.id)
    await offer(revoking, timedelta(days=-2))
    assert await check_that_refused(ann) == "measurement"
    with pytest.raises(PolicyDowngraded, match="policy downgrade"):
        await offer(world.policy, timedelta(days=-3))  # it was signed once, and whoever delivers policies has kept it
    assert await check_that_refused(ann) == "measurement"
    await offer(world.policy, timedelta(days=-1))
    await ann.assistants.choose(ann.conversation.id)
    await honest_use_goes_on(world, ann)


async def test_a_stranger_in_the_directory_is_refused_whatever_it_shows(world: World) -> None:
    ann, serving, other = world["Ann"].phone, world.serving(), world.other()
    shown: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}

    async def document(nonce: bytes) -> bytes:
        return await shown["now"](nonce)

    stranger = await world.impostor(document)
    rules = [list_stranger(name, stranger.service_id) for name in ENCLAVES]
    old = await stranger.ask(serving.service_id, secrets.token_bytes(32))

    async def replayed(_: bytes) -> bytes:
        return old

    async def passed_on(nonce: bytes) -> bytes:
        return await stranger.ask(other.service_id, nonce)

    async def changed(nonce: bytes) -> bytes:
        genuine = await stranger.ask(other.service_id, nonce)
        return genuine.replace(b'"release":"', b'"release":"x')

    async def made_up(_: bytes) -> bytes:
        return b"{}"

    for show, check in (
        (replayed, "binding to nonce and keys"),
        (passed_on, "identity key"),
        (changed, "binding to nonce and keys"),
        (made_up, "syntax"),
    ):
        shown["now"] = show
        world.hostile.rules[:] = rules
        ann.judge(deadline=SHORT * 4)
        assert await check_that_refused(ann) == check
    assert all(isinstance(received.content, AssistantCall) for received in stranger.got)
    await honest_use_goes_on(world, ann)


async def test_an_operator_who_takes_the_name_of_an_enclave_cannot_take_its_place(new_world: World) -> None:
    world = new_world
    ann, serving, other = world["Ann"].phone, world.serving(), world.other()
    await ann.chats.opt_in(world.key)
    mine: list[Callable[[ServiceId, bytes], Awaitable[bytes]]] = []

    async def passed_on(nonce: bytes) -> bytes:
        return await mine[0](other.service_id, nonce)

    operator = await world.impostor(passed_on, serving.name)
    mine.append(operator.ask)
    assert operator.service_id == serving.service_id  # the account is now the operator's
    await serving.ended()
    first = await ann.write("for those who have proved themselves")
    await other.has(world.key, first)
    assert all(isinstance(received.content, AssistantCall) for received in operator.got)
    ann.judge(only=[serving.name])
    assert await check_that_refused(ann) == "identity key"
    await honest_use_goes_on(world, ann)


async def test_enclaves_that_the_relay_exchanges_learn_nothing_from_it(world: World) -> None:
    ann, serving, other = world["Ann"].phone, world.serving(), world.other()
    eve = await world.register()  # somebody without sessions yet, whom the relay can give any keys
    world.hostile.rules += [
        SwapKeys(serving.service_id, other.service_id),
        Redirect(serving.service_id, other.service_id),
    ]
    eve.judge()
    eve.wait_at_most(SHORT, serving)
    with pytest.raises(AssistantSilent):  # what was encrypted for one is nothing that the other can read
        await eve.assistants.get(serving.service_id).verify()
    assert not [who for who, _ in (*serving.contents, *other.contents) if who == eve.device.address]
    await eve.assistants.get(other.service_id).verify()  # under its own name it is what it is
    assert [type(content) for who, content in other.contents if who == eve.device.address] == [AssistantCall]
    await honest_use_goes_on(world, ann)


async def test_evidence_that_the_relay_drops_or_keeps_for_later_is_no_evidence(world: World) -> None:
    ann, serving, other = world["Ann"].phone, world.serving(), world.other()
    ann.judge()
    copies = Copy(frames(to=ann.me))
    world.hostile.rules.append(copies)
    await ann.assistants.get(serving.service_id).verify()
    world.hostile.rules[:] = [Drop(frames(to=ann.me))]
    ann.wait_at_most(SHORT, serving)
    verifying = asyncio.create_task(ann.assistants.get(serving.service_id).verify())
    await asyncio.sleep(0)
    await world.hostile.send(*copies.copies)  # the answer to an earlier nonce, in place of the one to this
    with pytest.raises(AssistantSilent):
        await verifying
    world.hostile.rules[:] = [Drop(sends(to=serving.service_id))]
    ann.judge()
    ann.wait_at_most(SHORT, serving)
    chosen = await ann.assistants.choose(ann.conversation.id)
    assert chosen.service_id == other.service_id  # who cannot be reached is passed over
    await honest_use_goes_on(world, ann)


async def test_frames_that_come_late_twice_and_in_another_order_are_joined(world: World) -> None:
    eve, serving = await world.register(), world.serving()
    stapled = serving.memory("collateral")
    stapled._current = Collateral(rims=(secrets.token_bytes(40_000),))  # so that evidence takes 8 frames
    assistant = eve.assistants.get(serving.service_id)
    world.hostile.rules += [Duplicate(frames(to=eve.me)), Reorder(frames(to=eve.me), count=2 * 8)]
    claims = await assistant.verify()
    assert claims.identity_key == serving.identity_key
    assert assistant.bundle is not None
    assert assistant.bundle.collateral == stapled._current
    await honest_use_goes_on(world, world["Ann"].phone)
