"""Somebody breaks into an enclave: what they carry off, and what of the traffic they can read with it.

They get more than the machine gives: every record of the store, every key, all memory; and letters to members with the outer
layer, which hides the sender, already opened with the members' own keys. What they cannot read then, the enclave has no key for.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType

from ai_enclave.memory import Memory
from messaging.wire.content import Content, decode_content
from messaging.wire.envelope import EnvelopeType, decode_envelope
from messaging.wire.identifiers import ServiceId
from signal_protocol.errors import InvalidMessage, ProtocolError, SelfSend
from signal_protocol.operations import SignalCrypto, distribution_id_of
from signal_protocol.public import parse_prekey_message
from signal_protocol.types import Address, LocalDevice, MessageKind, PrekeyRecords
from tests.simulators.hostile_relay import Seen
from tests.system.assistant.world import RunningEnclave, World

_KEY_IDS = range(1, 512)  # more than any enclave of a test has made
_KINDS = {EnvelopeType.CIPHERTEXT: MessageKind.WHISPER, EnvelopeType.PREKEY_MESSAGE: MessageKind.PREKEY}


@dataclass(frozen=True, slots=True)
class Letter:
    """One ciphertext that a device got, without what hides its sender. ``outer`` is all of it, as the relay has it."""

    to: ServiceId
    sender: Address
    kind: MessageKind
    ciphertext: bytes = field(repr=False)
    outer: bytes = field(repr=False)


async def letters(world: World, seen: Sequence[Seen]) -> list[Letter]:
    """What the relay delivered to people's devices, each opened as far as its recipient's identity key goes."""
    people = {person.service_id: person.phone for person in world.people.values()}
    found: list[Letter] = []
    for each in seen:
        if not each.is_delivery or each.account not in people:
            continue
        envelope = decode_envelope(each.body)
        if envelope.type in _KINDS and envelope.source is not None:
            sender = Address(str(envelope.source.service_id), envelope.source.device_id)
            found.append(Letter(each.account, sender, _KINDS[envelope.type], envelope.content, envelope.content))
        elif envelope.type is EnvelopeType.UNIDENTIFIED_SENDER:
            account = people[each.account].device._account
            opened = await world.crypto.unseal(
                envelope.content, local=account.local, trust_roots=[account.trust_root], now=envelope.server_timestamp
            )
            found.append(Letter(each.account, opened.sender, opened.kind, opened.ciphertext, envelope.content))
    return found


@dataclass(frozen=True, slots=True)
class Loot:
    """All that an enclave has at one moment, and what tries it."""

    crypto: SignalCrypto
    local: LocalDevice
    trust_root: bytes
    records: dict[str, list[bytes]] = field(repr=False)
    one_time: dict[int, bytes] = field(repr=False)
    signed: dict[int, bytes] = field(repr=False)
    kyber: dict[int, bytes] = field(repr=False)
    texts: frozenset[str] = field(repr=False)

    @classmethod
    async def of(cls, enclave: RunningEnclave, crypto: SignalCrypto) -> "Loot":
        """Carry it off."""
        account = enclave.device._account
        async with enclave.store.transaction() as transaction:
            one_time = {number: await transaction.load_one_time_prekey(number) for number in _KEY_IDS}
            signed = {number: await transaction.load_signed_prekey(number) for number in _KEY_IDS}
            kyber = {number: await transaction.load_kyber_prekey(number) for number in _KEY_IDS}
        return cls(
            crypto=crypto,
            local=account.local,
            trust_root=account.trust_root,
            records=enclave.store.records(),
            one_time={number: record for number, record in one_time.items() if record is not None},
            signed={number: record for number, record in signed.items() if record is not None},
            kyber={number: stored.record for number, stored in kyber.items() if stored is not None},
            texts=frozenset(_texts_in(enclave.assistant.memory)),
        )

    async def opens(self, letter: Letter) -> bool:
        """Whether even the outer layer opens: it was sealed for this enclave."""
        try:
            await self.crypto.unseal(letter.outer, local=self.local, trust_roots=[self.trust_root], now=0)
        except (InvalidMessage, SelfSend):
            return False
        except ProtocolError:
            return True  # it opened, and only the time of the certificate was wrong
        return True

    async def read(self, letter: Letter) -> Content | None:
        """What a letter says, if any key that was carried off reads it."""
        plaintext = await (
            self._read_group(letter) if letter.kind is MessageKind.SENDER_KEY else self._read_pairwise(letter)
        )
        return None if plaintext is None else decode_content(plaintext)

    async def read_all(self, some: Sequence[Letter]) -> list[Content]:
        """What can be read of these letters."""
        return [content for letter in some if (content := await self.read(letter)) is not None]

    async def _read_group(self, letter: Letter) -> bytes | None:
        named = distribution_id_of(letter.ciphertext)
        for record in self.records.get("sender key", []):
            try:
                found = await self.crypto.group_decrypt(
                    sender=letter.sender, distribution_id=named, sender_key=record, ciphertext=letter.ciphertext
                )
            except ProtocolError:
                continue
            return found.plaintext
        return None

    async def _read_pairwise(self, letter: Letter) -> bytes | None:
        keys = PrekeyRecords()
        if letter.kind is MessageKind.PREKEY:
            names = parse_prekey_message(letter.ciphertext)
            keys = PrekeyRecords(
                one_time=self.one_time.get(names.one_time_prekey_id or 0),
                signed=self.signed.get(names.signed_prekey_id),
                kyber=self.kyber.get(names.kyber_prekey_id),
            )
        for session in [*(record[1:] for record in self.records.get("session", [])), None]:
            try:
                found = await self.crypto.decrypt(
                    local=self.local,
                    remote=letter.sender,
                    session=session,
                    known=None,
                    kind=letter.kind,
                    ciphertext=letter.ciphertext,
                    keys=keys,
                )
            except ProtocolError:
                continue
            return found.plaintext
        return None

    def holds(self, text: str) -> bool:
        """Whether a text is anywhere: in a record of the store, or in memory."""
        needle = text.encode()
        in_store = any(needle in record for records in self.records.values() for record in records)
        return in_store or any(text in found for found in self.texts)


def _texts_in(memory: Memory) -> Iterator[str]:
    """Every text that can be reached from what the enclave remembers."""
    waiting: list[object] = [memory]
    known: set[int] = set()
    while waiting:
        found = waiting.pop()
        if id(found) in known or isinstance(found, type | ModuleType | FunctionType):
            continue
        known.add(id(found))
        if isinstance(found, str):
            yield found
        waiting += gc.get_referents(found)
