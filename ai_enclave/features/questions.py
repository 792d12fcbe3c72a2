"""Questions that wait for the viewer: those that are asked of them, and that they have not answered."""

from ai_enclave.features.conversation import Thread
from ai_enclave.features.guard import Mark
from ai_enclave.features.limits import ANSWER_LOOKED_FOR, ANSWERED_WITHIN, MOST_QUESTIONS
from ai_enclave.features.lines import Line, LineKind, in_order, line_of
from ai_enclave.features.reading import Reading
from ai_enclave.features.score import in_turns, salience
from ai_enclave.features.sentences import Unit
from ai_enclave.features.text import visible


def questions(reading: Reading) -> tuple[Line, ...]:
    """What others asked the viewer and the viewer did not answer: the newest of every sender, the newest last.

    A question is the viewer's if it calls them by name, between two people, or if it follows what they said and calls
    nobody else. What goes to everybody is an ask, or nobody's in particular; what speaks to a machine is nobody's.
    """
    people = reading.people
    thread = people.thread
    open_ = [
        unit
        for number, unit in enumerate(reading.units)
        if reading.chance(number, "question", ruled=unit.asks)
        and people.is_to_viewer(unit)
        and Mark.INSTRUCTION not in unit.marks
        and not _is_answered(unit, thread, people.viewer or "")
    ]
    kept = in_order(in_turns(reversed(open_), MOST_QUESTIONS))
    messages = len(thread.messages)
    return tuple(line_of(unit, people, LineKind.QUESTION_TO_YOU, salience(unit, messages)) for unit in kept)


def _is_answered(unit: Unit, thread: Thread, viewer: str) -> bool:
    """Whether the viewer soon said something that does not itself ask. What others say answers nothing."""
    others = 0
    for message in thread.messages[unit.place + 1 : unit.place + 1 + ANSWER_LOOKED_FOR]:
        if message.author != viewer:
            others += message.author != unit.message.author
            if others > ANSWERED_WITHIN:
                return False
        elif "?" not in message.text and visible(message.text).strip():
            return True
    return False
