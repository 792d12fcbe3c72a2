"""Uploads a file in a process of its own, which a test kills: ``python -m tests.messaging.client.uploading URL STORE FILE``."""

import asyncio
import sys
from pathlib import Path

from messaging.client import Relay, Store
from messaging.client.account import Account
from messaging.client.attachments import Attachments
from messaging.client.device import milliseconds_now
from tests.messaging.client.conftest import KEY


async def main(url: str, store: Path, file: Path) -> None:
    """Upload ``file`` for the account in ``store``."""
    async with Relay(url) as relay, Store.open(store, KEY) as opened:
        account = await Account.load(opened)
        await Attachments(relay, account, opened, now=milliseconds_now).upload(file, content_type="image/png")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
