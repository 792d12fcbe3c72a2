"""Reminds people: "remind me in 10m to water the plants", or /remind in a group.

Shows timers. They are kept in the bot's own sealed store: a restart loses none, and one whose time came meanwhile comes late, once.
"""

import re
from datetime import timedelta

from messaging.client.bot import Bot, MessageContext, TimerContext

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
WISH = re.compile(r"(?:in\s+)?(\d{1,4})\s*([smhd])\w*\s+(?:to\s+)?(\S.*)", re.IGNORECASE | re.DOTALL)
MAX_WORDS = 1000  # characters of what somebody wants to be reminded of
HELP = "Write: remind me in 10m to water the plants. I know s, m, h and d; in a group, begin with /remind."

bot = Bot("reminder")


@bot.command("start", help="says how to ask")
async def start(message: MessageContext) -> None:
    await message.reply(HELP)


@bot.command("reminders", help="what is still to come")
async def reminders(message: MessageContext) -> None:
    mine = [timer for timer in bot.timers if timer.conversation == message.conversation.key]
    await message.reply("\n".join(f"- {timer.data}" for timer in mine) or "There is nothing to come.")


@bot.command("forget", help="forgets all that is to come")
async def forget(message: MessageContext) -> None:
    for timer in bot.timers:
        if timer.conversation == message.conversation.key:
            await bot.cancel(timer.key)
    await message.reply("Forgotten.")


@bot.command("remind", help="/remind 10m water the plants")
async def remind(message: MessageContext) -> None:
    await note(message, message.arguments)


@bot.message(r"(?i)^remind me\b")
async def remind_me(message: MessageContext) -> None:
    await note(message, message.text[len("remind me") :].strip())


async def note(message: MessageContext, wish: str) -> None:
    found = WISH.fullmatch(wish)
    if found is None or len(found[3]) > MAX_WORDS:
        await message.reply(HELP)
        return
    number, unit, what = found[1], found[2].lower(), found[3]
    # From when it was written, not from now: so it is the same timer if this is handled again after a crash.
    await message.conversation.later(message.time + timedelta(**{UNITS[unit]: int(number)}), "reminder", data=what)
    await message.reply(f"I will, in {number}{unit}.")


@bot.timer("reminder")
async def remember(timer: TimerContext) -> None:
    await timer.send(f"You wanted to {timer.data}")


if __name__ == "__main__":
    bot.run()
