"""Polls in a group: /poll Lunch? | pizza | soup, votes by a reaction or by /vote 2, results in the poll's own message.

Shows a bot without a state of its own. Who voted for what is read from the conversation each time, so nothing can be lost by a
restart, nobody is counted twice, and a vote that is handled again changes nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from messaging.client.bot import Bot, MessageContext, ReactionContext, SentMessage
from messaging.client.history import ChatMessage
from messaging.wire.identifiers import MessageId, ServiceId

MAX_OPTIONS = 9  # there are emoji for so many
KEYCAP = "\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}"  # makes an emoji of the digit before it
HOW = f"React with 1{KEYCAP} and so on, or answer with /vote 1. Your last vote counts."
USAGE = "Write: /poll Lunch? | pizza | soup, with 2 to 9 answers to choose from."
OPTION = re.compile(rf"[1-9]{KEYCAP} (.+): \d+")
EMOJI = re.compile(r"([1-9])\N{VARIATION SELECTOR-16}?\N{COMBINING ENCLOSING KEYCAP}")
VOTE = re.compile(r"/vote(?:@\w+)?\s+([1-9])\s*", re.IGNORECASE)

bot = Bot("poll")


@dataclass
class Poll:
    """A poll, and when each member chose which option, from 1 on. The latest choice stands."""

    question: str
    options: list[str]
    choices: dict[ServiceId, tuple[int, int]] = field(default_factory=dict)

    def choose(self, who: ServiceId, at: int, option: int) -> None:
        if option <= len(self.options):
            self.choices[who] = max(self.choices.get(who, (0, 0)), (at, option))

    def __str__(self) -> str:
        counts = Counter(option for _, option in self.choices.values())
        lines = [f"{number}{KEYCAP} {option}: {counts[number]}" for number, option in enumerate(self.options, 1)]
        return "\n".join([self.question, *lines, HOW])


def read_poll(text: str) -> Poll | None:
    """The poll that a message of this bot shows; ``None`` if it shows none."""
    if not text.endswith(HOW):
        return None
    question, *lines = text.splitlines()
    return Poll(question, [found[1] for line in lines if (found := OPTION.fullmatch(line))])


def polls_in(messages: Iterable[ChatMessage], me: ServiceId) -> dict[MessageId, Poll]:
    """All polls of a conversation, counted. A vote is for the poll that it quotes, or else for the latest one before it."""
    polls: dict[MessageId, Poll] = {}
    latest: MessageId | None = None
    for message in messages:
        if message.id.author == me and (poll := read_poll(message.text)) is not None:
            latest, polls[message.id] = message.id, poll
            for who, given in message.reactions.items():
                if shown := EMOJI.fullmatch(given.emoji):
                    poll.choose(who, given.timestamp, int(shown[1]))
        elif vote := VOTE.fullmatch(message.text):
            meant = message.quote.message if message.quote is not None else latest
            if meant in polls:
                polls[meant].choose(message.id.author, message.id.timestamp, int(vote[1]))
    return polls


@bot.command("poll", help=USAGE)
async def ask(message: MessageContext) -> None:
    question, *options = [" ".join(part.split()) for part in message.arguments.split("|")]
    if not question or not all(options) or not 2 <= len(options) <= MAX_OPTIONS:
        await message.reply(USAGE)
        return
    await message.send(str(Poll(question, options)))


@bot.command("vote", help="/vote 1 votes in the latest poll, or in the one that you quote")
async def vote(message: MessageContext) -> None:
    await count(message)


@bot.reaction()
async def react(reaction: ReactionContext) -> None:
    if reaction.to_me:
        await count(reaction)


async def count(context: MessageContext | ReactionContext) -> None:
    """Show in each poll what is not shown yet."""
    conversation, me = context.conversation, bot.id
    shown = {message.id: message.text for message in conversation.messages}
    for poll_id, poll in polls_in(conversation.messages, me).items():
        if str(poll) != shown[poll_id]:
            await SentMessage(conversation, poll_id).edit(str(poll))


if __name__ == "__main__":
    bot.run()
