"""Tests of bots in one process: no relay, no Node, no network, no test framework.

```python
async with Scene(bot) as scene:
    ann = scene.person("Ann")
    chat = scene.private(ann)
    await ann.writes(chat, "/start")
    assert await scene.settled()
    assert chat.answers == ["Hello!"]
```

``scene.passes(seconds)`` lets time pass, ``scene.restart()`` ends the bot's process in the middle of what it does, and
``scene.relay.fail_next(…)`` has a call of the bot fail.
"""

from messaging.client.testing.account import MemoryAccount, open_memory_account
from messaging.client.testing.clock import Clock
from messaging.client.testing.relay import MemoryRelay
from messaging.client.testing.scene import Chat, Person, Scene, StillBusy

__all__ = ["Chat", "Clock", "MemoryAccount", "MemoryRelay", "Person", "Scene", "StillBusy", "open_memory_account"]
