"""What we say: written down, then handed over to members, own devices and the assistant, and not forgotten before.

What a crash or an error leaves is handed over again, whole: who has it already notices by its name. The assistant gets messages, and
edits and deletions of those that it may have; of attachments, of what is quoted and of who is mentioned it gets nothing.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

from messaging.client.assistant_accounts import AssistantAccounts
from messaging.client.chat_records import Chat, ChatRecords, Unsent
from messaging.client.conversation import Conversation
from messaging.client.device import Device
from messaging.client.errors import ClientError, CredentialsRevoked, Displaced, IdentityChanged, RelayRefused
from messaging.client.history import target_of
from messaging.client.sharing import Recipient, Sharing, without_others
from messaging.wire.content import Said, SentTranscript
from messaging.wire.data import DataMessage, Deletion, Edit, Reaction
from messaging.wire.identifiers import MessageId, ServiceId


class Writing:
    """Hands own messages over."""

    def __init__(self, device: Device, records: ChatRecords, accounts: AssistantAccounts, sharing: Sharing) -> None:
        self._device = device
        self._records = records
        self._accounts = accounts
        self._sharing = sharing

    async def note(self, chat: Chat, said: Said, *, once: str | None = None) -> Unsent:
        """Write down what we say: from here on it will be sent. ``once``: see ``ChatRecords.add_unsent``."""
        return await self._records.add_unsent(chat, self._device.service_id, said, once=once)

    async def send(self, unsent: Unsent) -> Mapping[ServiceId, ClientError]:
        """Hand it over; returns which members do not get it now.

        Raises:
            CredentialsRevoked, Displaced, SignalError: it has to be done again, by :meth:`send_unsent`.
        """
        try:
            failed = await self._hand_over(unsent)
        except BaseException:
            self._records.unsent.append(unsent)
            raise
        await self._records.note_sent(unsent)
        return failed

    async def send_unsent(self) -> None:
        """Hand over what was written down and perhaps not sent. Raises as :meth:`send`."""
        while self._records.unsent:
            unsent = self._records.unsent[0]
            failed = await self._hand_over(unsent)
            if any(isinstance(error, RelayRefused) and error.passes for error in failed.values()):
                return  # another time
            await self._records.note_sent(unsent)
            self._records.unsent.pop(0)

    async def _hand_over(self, unsent: Unsent) -> Mapping[ServiceId, ClientError]:
        """To the assistant in the same breath if it is ready; else it gets it when it is."""
        chat, said = self._records.chats[unsent.conversation], unsent.said
        if self._was_deleted(chat, said):
            return {}
        assistant = await self._assistant_for(chat, said)
        only_to = {} if assistant is None else {assistant.service_id: assistant.identity_key}
        members = self._people(chat)
        conversation = chat.conversation.with_unlisted_bots(await self._device.bots_among(members))
        people = [each for each in members if conversation.is_for(each, said)]
        failed, _ = await asyncio.gather(
            self._send_to(conversation, (*people, *only_to), said, only_to), self._tell_own_devices(said)
        )
        for error in failed.values():
            if isinstance(error, CredentialsRevoked | Displaced):
                raise error
        missed = None if assistant is None else failed.pop(assistant.service_id, None)
        if assistant is not None and isinstance(missed, IdentityChanged):
            assistant.assistant.distrust()
        if not isinstance(said, Reaction):
            shared = assistant is not None and missed is None
            await self._sharing.note_sent(chat, self._message_of(said), shared=shared)
        return failed

    def _message_of(self, said: Said) -> MessageId:
        me = self._device.service_id
        return MessageId(me, said.timestamp) if isinstance(said, DataMessage) else target_of(me, said)

    def _was_deleted(self, chat: Chat, said: Said) -> bool:
        """Whether it is, or is said of, what we have deleted before it could be sent."""
        known = chat.messages.get(self._message_of(said))
        return known is not None and known.deleted and not isinstance(said, Deletion)

    async def _assistant_for(self, chat: Chat, said: Said) -> Recipient | None:
        """Who gets it in the same ciphertext: not of what holds more than it may have, which it gets without that later."""
        text = said.message if isinstance(said, Edit) else said
        if isinstance(text, Reaction) or (isinstance(text, DataMessage) and text != without_others(text)):
            return None
        return await self._sharing.recipient(chat, self._message_of(said))

    def _people(self, chat: Chat) -> list[ServiceId]:
        """Members but for enclaves, whoever calls them members; nobody if we are out by now."""
        me, conversation = self._device.service_id, chat.conversation
        others = conversation.others(me) if me in conversation.members else ()
        return [each for each in others if not self._accounts.has_proved(each)]

    async def _send_to(
        self, conversation: Conversation, to: Collection[ServiceId], said: Said, only_to: Mapping[ServiceId, bytes]
    ) -> dict[ServiceId, ClientError]:
        """With a sender key in a group, but for bots that do not read all; to these, and between two people, pairwise.

        Whom a sender key leaves out once in a while would need another key each time.
        """
        bots = {bot.service_id for bot in conversation.bots if not bot.reads_all}
        pairwise = [each for each in to if each in bots or len(conversation.members) <= 2]
        group = [each for each in to if each not in pairwise]
        failed: dict[ServiceId, ClientError] = {}

        async def send(member: ServiceId) -> None:
            try:
                await self._device.send(member, said, only_to=only_to.get(member))
            except ClientError as error:
                failed[member] = error

        async def send_to_group() -> None:
            named = conversation.distribution_id(self._device.address)
            try:
                failed.update(await self._device.send_to_group(named, group, said, only_to=only_to))
            except ClientError as error:
                failed.update(dict.fromkeys(group, error))

        await asyncio.gather(*map(send, pairwise), *([send_to_group()] if group else []))
        return failed

    async def _tell_own_devices(self, said: Said) -> None:
        with suppress(ClientError):
            await self._device.send_to_own_devices(SentTranscript(said))
