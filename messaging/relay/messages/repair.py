"""Repair in one round trip: whoever is told that devices are missing or stale may get their bundles with the answer.

Only on request, and rarely: each bundle costs the recipient a one-time prekey.
"""

from dataclasses import dataclass

from messaging.relay.errors import DevicesMismatched, DevicesStale, RelayError
from messaging.relay.keys.service import KeyService
from messaging.relay.limits import Limit, RateLimits
from messaging.relay.messages.service import MessageService, Sending
from messaging.wire.identifiers import ServiceId
from messaging.wire.keys import PreKeyResponseItem
from messaging.wire.messages import IncomingMessageList, SendMessageResponse


@dataclass(frozen=True, slots=True)
class RepairingSender:
    """Sends, and on failure adds what the sender needs to try again."""

    messages: MessageService
    keys: KeyService
    limits: RateLimits

    async def send(
        self, messages: IncomingMessageList, to: ServiceId, sending: Sending, *, with_bundles: bool
    ) -> SendMessageResponse:
        """Send; see :meth:`MessageService.send`. ``with_bundles`` asks for bundles inside a 409 or 410."""
        try:
            return await self.messages.send(messages, to, sending)
        except (DevicesMismatched, DevicesStale) as error:
            if with_bundles and not sending.story and error.needed:
                error.bundles = await self._bundles(to, error.needed, sending)
            raise

    async def _bundles(
        self, to: ServiceId, devices: tuple[int, ...], sending: Sending
    ) -> tuple[PreKeyResponseItem, ...] | None:
        caller = sending.sender
        sender, bot = (None, False) if caller is None else (caller.account_id, caller.is_bot)
        try:
            await self.limits.take(Limit.REPAIR_BUNDLES, sender, to, account=sender, bot=bot)
            if sender is not None:
                await self.limits.take(Limit.PREKEYS_PER_CALLER, sender, account=sender, bot=bot)
            return await self.keys.bundles(to, devices, caller=sending.sender, access_key=sending.access_key)
        except RelayError:
            return None  # too often, or the account changed meanwhile: the answer is true without them
