"""A bot made with the SDK, as a process: it writes down what it handles, and answers now and then. Argument: its ledger.

The environment says where its relay and its home are.
"""

import sys
import time
from pathlib import Path

from messaging.client.bot import Bot
from messaging.client.bot.context import MessageContext
from tests.system.faults.ledger import Ledger, answer_to

NAME = "recorder"


def main(path: Path) -> None:
    """Run it, until it is killed."""
    ledger, bot = Ledger(path), Bot(NAME)

    @bot.message()
    async def record(message: MessageContext) -> None:
        ledger.note(message.id, message.conversation.key.hex(), message.text, begun=time.time())
        if (answer := answer_to(message.text)) is not None:
            await message.reply(answer)

    bot.run([])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
