"""What the relay parked because this device refused it too often: asked for again when there is a reason that it may be taken now."""

from messaging.client.connection import ChatConnection
from messaging.client.errors import RelayRefused
from messaging.client.requests import read_as
from messaging.wire.messages import ParkedMessages


async def retry_parked(connection: ChatConnection) -> None:
    """Have the relay bring it again, after everything that waits there by now: the first hundred, which it lists at once.

    The list does not say who sent what. What still cannot be taken is refused and parked anew.

    Raises:
        ConnectionLost, RelayUnreachable, RelayRefused: the relay was not reached or did not do it; asking again is safe.
    """
    answer = await connection.request("GET", "/v1/messages/parked")
    if answer.status != 200:
        raise RelayRefused(answer.status)
    for parked in read_as(ParkedMessages, answer).messages:
        answer = await connection.request("POST", f"/v1/messages/parked/{parked.sequence}/retry")
        if answer.status not in (204, 404):  # 404: it has expired meanwhile
            raise RelayRefused(answer.status)
