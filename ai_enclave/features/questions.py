"""Questions that wait for the viewer: by rules, in every language that has a question mark."""

from ai_enclave.features.conversation import Thread
from ai_enclave.features.limits import ANSWER_LOOKED_FOR, ANSWERED_WITHIN, MOST_QUESTIONS
from ai_enclave.features.lines import Line, LineKind, in_order, line_of, told
from ai_enclave.features.people import People
from ai_enclave.features.score import in_turns, salience
from ai_enclave.features.sentences import Unit, units_of
from ai_enclave.features.text import visible


def questions(thread: Thread, viewer: str) -> tuple[Line, ...]:
    """What others asked ``viewer`` and ``viewer`` did not answer: the newest of every sender, the newest last.

    A question is the viewer's if it calls them by name, between two people, or if it follows what they said and calls
    nobody else.
    """
    people = People(thread, viewer)
    open_ = [
        unit
        for unit in units_of(thread, people.compared_names)
        if unit.asks and people.is_to_viewer(unit) and not _is_answered(unit, thread, viewer) and told(unit, people)
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
