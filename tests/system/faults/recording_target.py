"""The target of a webhook, as a process: it verifies and writes down what is posted, then says 200, now and then with an answer.

Arguments: its ledger, and a file with the secret. It prints its port when it listens.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.system.faults.ledger import Ledger, answer_to


async def serve(path: Path, secret: str) -> None:
    """Serve, until it is killed."""
    ledger, signer = Ledger(path), Webhook(secret)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body, headers = await request.read(), {name.lower(): value for name, value in request.headers.items()}
        try:
            signer.verify(body, headers)
        except WebhookVerificationError:
            return web.Response(status=401)
        update = json.loads(body)
        message = update["message"]
        # Both names of it have to stay the same: the delivery's, and the update's number.
        event = f"{headers['webhook-id']} {update['update_id']}"
        # When the gateway sent it, in whole seconds: what it sent just before it was killed is handled after that.
        ledger.note(event, str(message["chat"]["id"]), message["text"], begun=float(headers["webhook-timestamp"]))
        answer = answer_to(message["text"])
        if answer is None:
            return web.Response()
        return web.json_response({"method": "sendMessage", "chat_id": message["chat"]["id"], "text": answer})

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]).read_text()))
