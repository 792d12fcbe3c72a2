"""Own messages: written down, then handed over to members, own devices and the assistant, and not forgotten before.

What a crash or an error leaves is handed over again, whole: who has a message already notices by its name.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

from messaging.client.assistant_accounts import AssistantAccounts
from messaging.client.chat_records import Chat, ChatMessage, ChatRecords, Unsent
from messaging.client.device import Device
from messaging.client.errors import ClientError, CredentialsRevoked, Displaced, IdentityChanged, RelayRefused
from messaging.client.sharing import Sharing
from messaging.wire.content import DataMessage, SentTranscript
from messaging.wire.identifiers import MessageId, ServiceId


class Writing:
    """Hands own messages over."""

    def __init__(self, device: Device, records: ChatRecords, accounts: AssistantAccounts, sharing: Sharing) -> None:
        self._device = device
        self._records = records
        self._accounts = accounts
        self._sharing = sharing

    async def note(self, chat: Chat, message: DataMessage) -> Unsent:
        """Write a message down: from here on it will be sent."""
        named = MessageId(self._device.service_id, message.timestamp)
        return await self._records.add_unsent(chat, ChatMessage(named, message.body, message.roster))

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
        chat, named = self._records.chats[unsent.conversation], unsent.message.id
        message = DataMessage(unsent.message.text, named.timestamp, unsent.conversation, unsent.message.roster)
        assistant = await self._sharing.recipient(chat, named)
        only_to = {} if assistant is None else {assistant.service_id: assistant.identity_key}
        failed, _ = await asyncio.gather(
            self._send_to(chat, (*self._people(chat), *only_to), message, only_to), self._tell_own_devices(message)
        )
        for error in failed.values():
            if isinstance(error, CredentialsRevoked | Displaced):
                raise error
        missed = None if assistant is None else failed.pop(assistant.service_id, None)
        if assistant is not None and isinstance(missed, IdentityChanged):
            assistant.assistant.distrust()
        await self._sharing.note_sent(chat, named, shared=assistant is not None and missed is None)
        return failed

    def _people(self, chat: Chat) -> list[ServiceId]:
        """Members but for enclaves, whoever calls them members; nobody if we are out by now."""
        me, conversation = self._device.service_id, chat.conversation
        others = conversation.others(me) if me in conversation.members else ()
        return [each for each in others if not self._accounts.has_proved(each)]

    async def _send_to(
        self, chat: Chat, to: Collection[ServiceId], message: DataMessage, only_to: Mapping[ServiceId, bytes]
    ) -> dict[ServiceId, ClientError]:
        """With a sender key in a group; between two people, and with their assistant, pairwise."""
        if len(chat.conversation.members) > 2:
            group = chat.conversation.distribution_id(self._device.address)
            try:
                return dict(await self._device.send_to_group(group, to, message, only_to=only_to))
            except ClientError as error:
                return dict.fromkeys(to, error)
        failed: dict[ServiceId, ClientError] = {}

        async def send(member: ServiceId) -> None:
            try:
                await self._device.send(member, message, only_to=only_to.get(member))
            except ClientError as error:
                failed[member] = error

        await asyncio.gather(*map(send, to))
        return failed

    async def _tell_own_devices(self, message: DataMessage) -> None:
        with suppress(ClientError):
            await self._device.send_to_own_devices(SentTranscript(message))
