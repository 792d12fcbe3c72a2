"""How an assistant tells the relay that it runs, where, and how much it has to do: for its operator to see, over HTTPS.

A report is no message: it is larger than a frame of the socket may be, and nothing else waits for it.
"""

from messaging.client.account import Account
from messaging.client.connection import Relay
from messaging.client.errors import CredentialsRevoked, RelayRefused
from messaging.wire.assistants import AssistantReport, ReportNonce
from messaging.wire.errors import WireError


async def report_nonce(relay: Relay, account: Account, name: str) -> bytes:
    """What the next report has to answer. See ``Device.report_nonce``."""
    status, body = await _call(relay, account, "GET", name)
    try:
        if status == 200:
            return ReportNonce.from_json(body).nonce
    except WireError:
        pass
    raise RelayRefused(status)


async def send_report(relay: Relay, account: Account, name: str, report: AssistantReport) -> None:
    """Tell it. See ``Device.report``."""
    status, _ = await _call(relay, account, "PUT", name, report.to_json())
    if status != 204:
        raise RelayRefused(status)


async def _call(relay: Relay, account: Account, verb: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": account.authorization}
    status, answer = await relay.call(verb, f"/v1/assistants/{name}/report", body, headers=headers)
    if status == 401:
        raise CredentialsRevoked
    return status, answer
