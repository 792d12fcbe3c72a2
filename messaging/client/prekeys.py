"""Keeping enough one-time prekeys at the relay for others to begin sessions with."""

from messaging.client.account import Account, kyber_json
from messaging.client.connection import ChatConnection
from messaging.client.errors import RelayRefused
from messaging.client.requests import read_as
from messaging.client.stores import Store
from messaging.wire.keys import PreKey, PreKeyCount, SetKeysRequest
from signal_protocol.operations import SignalCrypto
from signal_protocol.types import MAX_KEY_ID

LOW = 20  # of either kind: upload anew
BATCH = 100  # of each kind; the relay takes no more

_NEXT_ID = "next prekey id"


async def top_up_prekeys(
    store: Store, crypto: SignalCrypto, account: Account, connection: ChatConnection, now: int
) -> None:
    """Upload fresh one-time prekeys when few are left.

    The private halves of the earlier set stay in the store: somebody may have fetched one and not written yet.

    Raises:
        ConnectionLost, RelayUnreachable, RelayRefused: the relay was not reached or did not take them.
    """
    answer = await connection.request("GET", "/v2/keys?identity=aci")
    if answer.status != 200:
        raise RelayRefused(answer.status)
    left = read_as(PreKeyCount, answer)
    if min(left.count, left.pq_count) >= LOW:
        return
    first_id = await _take_ids(store)
    one_time = await crypto.generate_one_time_prekeys(first_id=first_id, count=BATCH)
    kyber = await crypto.generate_kyber_prekeys(first_id=first_id, count=BATCH, identity=account.identity, now=now)
    async with store.transaction() as transaction:
        for key in one_time:
            await transaction.save_one_time_prekey(key.public.key_id, key.record)
        for kyber_key in kyber:
            await transaction.save_kyber_prekey(kyber_key.public.key_id, kyber_key.record, last_resort=False)
    request = SetKeysRequest(
        pre_keys=tuple(PreKey(key_id=key.public.key_id, public_key=key.public.public_key) for key in one_time),
        pq_pre_keys=tuple(kyber_json(key.public) for key in kyber),
    )
    answer = await connection.request("PUT", "/v2/keys?identity=aci", request.to_json())
    if answer.status not in (200, 204):
        raise RelayRefused(answer.status)


async def _take_ids(store: Store) -> int:
    """The first of ``BATCH`` ids that no prekey had before, until they begin again after millions."""
    async with store.transaction() as transaction:
        stored = transaction.get(_NEXT_ID)
        first = 2 if stored is None else int(stored)
        if first + BATCH > MAX_KEY_ID:
            first = 2
        transaction.put(_NEXT_ID, record=str(first + BATCH).encode())
    return first
