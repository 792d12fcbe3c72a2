"""A support desk: people write to the bot privately, and a group of people answers them by quoting.

Shows a bot between conversations. It answers what it knows and hands the rest over: to a group that it makes of SUPPORT_STAFF, account
ids with commas between them. Whoever quotes there what the bot passed on answers its author; /close, quoting, ends the case.

Which message stands for which is kept in a small database beside the bot's store: names of messages, and nothing that was said.
"""

import os
import sqlite3
from pathlib import Path

from messaging.client.bot import Bot, BotConversation, MessageContext
from messaging.wire.identifiers import MessageId, ServiceId

STAFF = "SUPPORT_STAFF"
TITLE = "Support desk"
ANSWERS = {"hours": "We are here from 9 to 17, Monday to Friday.", "price": "It is free, and stays so."}

SCHEMA = """
create table if not exists cases (
    number integer primary key, conversation text not null, open integer not null default 1
);
create unique index if not exists one_open_case on cases (conversation) where open;
create table if not exists passed_on (at integer primary key, number integer not null, author text, said integer);
"""

bot = Bot("support")


class Cases:
    """What the bot has to remember. Each call is over when it is on the disk, and doing it twice changes nothing."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)

    def open(self, conversation: str) -> int:
        """The number of the case that is open with somebody, or of a new one."""
        self._db.execute("insert or ignore into cases (conversation) values (?)", [conversation])
        found = self._db.execute("select number from cases where open and conversation = ?", [conversation])
        return int(found.fetchone()[0])

    def close(self, number: int) -> None:
        self._db.execute("update cases set open = 0 where number = ?", [number])

    def note(self, passed_on: MessageId, number: int, said: MessageId) -> None:
        """That the bot's message ``passed_on`` stands for what somebody has ``said``."""
        row = (passed_on.timestamp, number, str(said.author), said.timestamp)
        self._db.execute("insert or ignore into passed_on values (?, ?, ?, ?)", row)

    def find(self, passed_on: MessageId) -> tuple[int, str, MessageId] | None:
        """The case, the conversation and the message that a message at the desk stands for."""
        join = "select number, conversation, author, said from passed_on join cases using (number) where at = ?"
        found = self._db.execute(join, [passed_on.timestamp]).fetchone()
        return found and (found[0], found[1], MessageId(ServiceId.parse(found[2]), found[3]))


class Desk:
    """The conversation of the staff, and the cases that it works on."""

    cases: Cases
    conversation: BotConversation


desk = Desk()


def find(conversation_id: str) -> BotConversation | None:
    """A conversation by the id that is kept of it, from which nobody learns its key."""
    return next((each for each in bot.conversations if each.state.id.hex() == conversation_id), None)


@bot.started()
async def open_desk() -> None:
    settings = bot.settings(os.environ, offline=True)
    settings.prepare_home()
    staff = [ServiceId.parse(each.strip()) for each in os.environ[STAFF].split(",")]
    desk.cases = Cases(settings.home / "cases.db")
    begun = await bot.account.create(TITLE, staff, once=TITLE)  # at the first start; later it is the same one
    desk.conversation = bot.find(begun.key)
    await desk.conversation.set_members(staff)


@bot.command("start", help="says hello")
async def start(message: MessageContext) -> None:
    await message.reply("Hello! What can we do for you? Words that I know: " + ", ".join(ANSWERS))


@bot.command("close", help="at the desk, quoting: ends a case")
async def close(message: MessageContext) -> None:
    case = quoted_case(message)
    if case is None:
        await message.reply("Quote a message of the case that you want to close.")
        return
    number, conversation, _ = case
    desk.cases.close(number)
    await message.reply(f"Case {number} is closed.")
    if (person := find(conversation)) is not None:
        await person.send("Your case is closed. Write again whenever you want to.")


@bot.message()
async def talk(message: MessageContext) -> None:
    if message.conversation.key == desk.conversation.key:
        await answer(message)
    elif message.conversation.private:
        await hand_over(message)
    else:
        await message.reply("Write to me alone: others would read our answers here.")


async def hand_over(message: MessageContext) -> None:
    """Answer what the bot knows; pass on everything else."""
    if known := ANSWERS.get(message.text.strip().lower()):
        await message.reply(known)
        return
    number = desk.cases.open(message.conversation.state.id.hex())
    name = message.sender.name or "Somebody"
    passed_on = await desk.conversation.send(
        f"Case {number}, {name}: {message.text}", attachments=[file.pointer for file in message.attachments]
    )
    desk.cases.note(passed_on.id, number, message.message_id)


async def answer(message: MessageContext) -> None:
    """Take what the staff says to whom it is for; what quotes nobody stays among them."""
    case = quoted_case(message)
    if case is None:
        return
    number, conversation, said = case
    person = find(conversation)
    if person is None:
        await message.reply(f"Case {number}: they have left.")
        return
    await person.write(message.text, said, [file.pointer for file in message.attachments], (), once=True)
    await message.react("\N{WHITE HEAVY CHECK MARK}")


def quoted_case(message: MessageContext) -> tuple[int, str, MessageId] | None:
    """The case of the message that somebody at the desk quotes."""
    quote = message.event.quote
    if message.conversation.key != desk.conversation.key or quote is None or quote.message.author != bot.id:
        return None
    return desk.cases.find(quote.message)


if __name__ == "__main__":
    if STAFF not in os.environ:
        raise SystemExit(f"support: set {STAFF} to the account ids of those who answer, with commas between them")
    bot.run()
