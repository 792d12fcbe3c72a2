"""Posts a group's daily digest, made by the assistant: /digest on, /digest off, /digest now.

Shows how a bot asks the assistant. Only what its authors have let the assistant have is summarized; the rest is counted, and said to be
left out. The bot itself has to opt in, which all members see. It has to be told of every message, too, so an admin lets it read all.

Which enclaves are accepted is for the bot's owner to say: SUBROSA_POLICY is a signed policy, SUBROSA_POLICY_KEY whose signature it has.
The next digest is a timer, which holds when the last one was: a restart changes neither.
"""

from datetime import timedelta

from messaging.client.assistant_errors import AssistantError
from messaging.client.bot import Bot, BotConversation, MessageContext, TimerContext
from messaging.wire.assistant import Summary

DAY = timedelta(days=1)
MAX_MESSAGES = 500  # of one digest, the latest: the assistant holds no more of a conversation
USAGE = "/digest on has me post a digest each day, /digest off ends that, /digest now posts one."
BLIND = "I am only told what is addressed to me. Let me read all messages here first, then write /digest on again."

bot = Bot("digest")


@bot.command("digest", help=USAGE)
async def digest(message: MessageContext) -> None:
    conversation = message.conversation
    match message.arguments.lower():
        case "on" if not conversation.state.gets_all(bot.id):
            await message.reply(BLIND)
        case "on":
            await allow(conversation)
            await schedule(conversation, since=message.event.timestamp)
            await message.reply("You get a digest each day. I summarize nothing of those who have not opted in.")
        case "off":
            await bot.cancel(timer_key(conversation))
            await message.reply("There are no more digests.")
        case "now":
            await allow(conversation)
            await message.reply(await summary_of(conversation, 0, message.event.timestamp) or "There is nothing new.")
        case _:
            await message.reply(USAGE)


@bot.timer("digest")
async def post(timer: TimerContext) -> None:
    since = int(timer.data)
    await schedule(timer.conversation, since=timer.event.timestamp)  # first: the next one does not depend on this one
    try:
        summary = await summary_of(timer.conversation, since, timer.event.timestamp)
    except AssistantError as error:
        if not timer.is_last_attempt:
            raise  # it is tried again
        summary = f"There is no digest today: {error}"
    if summary:
        await timer.send(summary)


async def allow(conversation: BotConversation) -> None:
    """Let the assistant have what the bot writes, which asking it needs. Once: each statement of consent is told to all."""
    if bot.id not in conversation.state.opted_in(bot.account.inbox.now):
        await conversation.opt_in()


async def schedule(conversation: BotConversation, *, since: int) -> None:
    """Have the next digest come in a day, of what is said from now on; there is one of a conversation."""
    await conversation.later(DAY, "digest", data=str(since), key=timer_key(conversation))


def timer_key(conversation: BotConversation) -> str:
    return f"digest {conversation.state.id.hex()[:32]}"


async def summary_of(conversation: BotConversation, since: int, until: int) -> str:
    """What people said in this time (milliseconds since 1970), but for commands; empty if that was nothing."""
    said = [message for message in conversation.messages if since < message.id.timestamp <= until and message.text]
    told = [message.id for message in said if message.id.author != bot.id and not message.text.startswith("/")]
    new = told[-MAX_MESSAGES:]
    if not new:
        return ""
    result = await bot.account.summarize(conversation.key, new)
    if not isinstance(result.kind, Summary):
        raise TypeError("an answer of another kind")
    return as_text(result.kind, result.engine)


def as_text(summary: Summary, engine: str) -> str:
    """A summary as the group reads it: with what it does not rest on, and what made it."""
    lines = [f"- {line.text}" for line in summary.lines] or ["- nothing that has to be told"]
    coverage = summary.coverage
    rests_on = f"From {coverage.used} messages; {coverage.left_out} were left out"
    why = f"{coverage.not_opted_in} of them because their authors have not opted in"
    return "\n".join(["What was said:", *lines, f"{rests_on}, {why}. Engine: {engine}."])


if __name__ == "__main__":
    bot.run()
