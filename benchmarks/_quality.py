"""How good the assistant is: against summaries and marks by people, and beside other ways to choose.

ROUGE F1 (Lin 2004), by rouge-score. Where a chat has several references, both the best and the mean of them are counted. Shares are
between 0 and 1, ROUGE between 0 and 100. Nothing here is random but the random choice, which is the same in every run.
"""

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

from ai_enclave.engine import Reader
from ai_enclave.engine.train.corpus import AnnotatedChat
from ai_enclave.engine.train.examples import examples_of
from ai_enclave.engine.train.measure import measure
from ai_enclave.features import Digester, Line, LineKind, Suggester, Suggestion, Thread, Ungrounded, check_line
from ai_enclave.features.phrases import phrases_for
from benchmarks._corpora import Sample
from benchmarks._methods import (
    DRAWS,
    METHODS,
    ORACLE,
    OURS,
    RANDOM,
    Cut,
    Form,
    Prepared,
    best_possible,
    by_lot,
    summary,
    words_for,
)
from benchmarks._progress import followed

OWN_BUDGET = "as many as ours"  # lines: as many as the assistant's digest of that chat has
FORMS = ((Cut.MESSAGES, Form.NAMED), (Cut.MESSAGES, Form.TOLD), (Cut.SENTENCES, Form.TOLD))
MEASURES = ("rouge1", "rouge2", "rougeL")
SHOWN = 3  # suggestions
TWO = 2  # people, who need no names to be addressed
_CERTAIN = 1.96  # standard errors of an interval that holds the truth 95 times in 100

Figures = dict[str, Any]  # what goes into the JSON: names, numbers, and more of these


# --- ROUGE ---


@dataclass(frozen=True, slots=True)
class Scores:
    """ROUGE-1, ROUGE-2 and ROUGE-L, 0 to 100: against the nearest reference, and the mean over all."""

    best: tuple[float, float, float]
    mean: tuple[float, float, float]


def rouge(text: str, references: Sequence[str], lang: str = "en") -> Scores:
    """The scores of ``text``."""
    scorer = RougeScorer(MEASURES, tokenizer=words_for(lang))
    found = [scorer.score(reference, text) for reference in references]
    rows = [[100 * float(each[name].fmeasure) for each in found] for name in MEASURES]
    best, mean = [max(row) for row in rows], [statistics.fmean(row) for row in rows]
    return Scores((best[0], best[1], best[2]), (mean[0], mean[1], mean[2]))


def summaries(reader: Reader, samples: Sequence[Sample], budgets: Sequence[int | str], what: str) -> Figures:
    """ROUGE of every method in every form, for each number of lines; methods by name."""
    scored: dict[str, dict[str, list[Scores]]] = {}
    words: dict[str, dict[str, list[int]]] = {}
    for sample in followed(samples, f"summaries of {what}"):
        prepared = Prepared(sample, reader)
        for budget in budgets:
            for name, form, texts in _texts(prepared, budget):
                scores = [rouge(text, sample.references, sample.lang) for text in texts]
                place = f"{name}/{form}"
                scored.setdefault(str(budget), {}).setdefault(place, []).append(_average(scores))
                length = statistics.fmean(len(text.split()) for text in texts)
                words.setdefault(str(budget), {}).setdefault(place, []).append(round(length))
    return {
        "chats": len(samples),
        "references": max(len(sample.references) for sample in samples),
        "budgets": {budget: _rows(found, words[budget]) for budget, found in scored.items()},
    }


def _texts(prepared: Prepared, budget: int | str) -> Iterator[tuple[str, str, list[str]]]:
    """Name, form and texts of every method; several texts where there are several draws."""
    count = budget if isinstance(budget, int) else len(prepared.own.lines)
    for cut, form in FORMS:
        pieces = prepared.pieces[cut]
        for name, choose in METHODS.items():
            if name == RANDOM:
                chosen = [by_lot(prepared, cut, count, draw) for draw in range(DRAWS)]
            elif name == ORACLE:
                chosen = [best_possible(prepared, cut, count, form)]
            else:
                chosen = [choose(prepared, cut, count)]
            yield name, f"{cut}, {form}", [summary(pieces, each, form) for each in chosen]
    if not isinstance(budget, int):
        yield (
            "ours, as delivered",
            f"{Cut.SENTENCES}, {Form.TOLD}",
            ["\n".join(line.text for line in prepared.own.lines)],
        )


def _average(scores: Sequence[Scores]) -> Scores:
    best, mean = (
        [statistics.fmean(row) for row in zip(*(getattr(each, name) for each in scores), strict=True)]
        for name in ("best", "mean")
    )
    return Scores((best[0], best[1], best[2]), (mean[0], mean[1], mean[2]))


def _rows(found: Mapping[str, Sequence[Scores]], words: Mapping[str, Sequence[int]]) -> Figures:
    rows: Figures = {}
    for place, scores in found.items():
        name, form = place.split("/")
        rivals = found.get(f"{OURS}/{form}", ())
        row: Figures = {
            which: [
                round(statistics.fmean(column), 2)
                for column in zip(*(getattr(each, which) for each in scores), strict=True)
            ]
            for which in ("best", "mean")
        }
        row["error"] = round(standard_error([each.best[0] for each in scores]), 2)
        row["words"] = round(statistics.fmean(words[place]), 1)
        if rivals and not name.startswith(OURS):
            apart = [mine.best[0] - theirs.best[0] for mine, theirs in zip(rivals, scores, strict=True)]
            row["ours_ahead"] = round(statistics.fmean(apart), 2)
            row["ours_ahead_give_or_take"] = round(_CERTAIN * standard_error(apart), 2)
        rows.setdefault(name, {})[form] = row
    return rows


def standard_error(values: Sequence[float]) -> float:
    """Of their mean; 0 of fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


# --- cites, and words that come from nowhere ---


def cites(reader: Reader, samples: Sequence[Sample]) -> Figures:
    """How often a line rests on a message that matters (``key``), for every method; and that our lines say no more than that."""
    found: dict[str, dict[str, list[Found]]] = {}
    checked, refused = 0, 0
    for sample in followed(samples, "cites"):
        prepared = Prepared(sample, reader)
        key = {str(place) for place in chat_of(sample).key}
        for budget in (3, OWN_BUDGET):
            count = budget if isinstance(budget, int) else len(prepared.own.lines)
            for name, choose in METHODS.items():
                if name == ORACLE:
                    continue
                pieces = prepared.pieces[Cut.SENTENCES]
                cited = {pieces[number].message for number in choose(prepared, Cut.SENTENCES, count)}
                found.setdefault(str(budget), {}).setdefault(name, []).append(compare(key, cited))
        for line in everything_said(reader, sample.thread):
            checked += 1
            refused += not is_grounded(line, sample.thread)
    by_budget = {budget: {name: total(each).figures() for name, each in rows.items()} for budget, rows in found.items()}
    return {"budgets": by_budget, "lines_checked": checked, "lines_refused": refused}


def everything_said(reader: Reader, thread: Thread) -> Iterator[Line]:
    """The lines of every digest, question and action, for every member."""
    digester = Digester(reader)
    for viewer in thread.names:
        yield from digester.digest(thread, viewer).lines
        yield from digester.questions(thread, viewer)
        yield from digester.actions(thread, viewer)


def is_grounded(line: Line, thread: Thread) -> bool:
    """Whether every word of a line is in what it cites, and its speaker is who wrote that."""
    try:
        check_line(line.text, line.cites, thread)
    except Ungrounded:
        return False
    return line.speaker in {message.author for message in thread.messages if message.id in line.cites}


# --- what is found, and what should be ---


@dataclass(frozen=True, slots=True)
class Found:
    """How many are right, how many were given, and how many there are."""

    both: int = 0
    given: int = 0
    true: int = 0

    @property
    def precision(self) -> float:
        """The share of what was given that is right; 1 if nothing was."""
        return self.both / self.given if self.given else 1.0

    @property
    def recall(self) -> float:
        """The share of what there is that was given; 1 if there is nothing."""
        return self.both / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        return 2 * self.both / (self.given + self.true) if self.given + self.true else 1.0

    def figures(self) -> Figures:
        """For the JSON."""
        return {
            "precision": round(self.precision, 3),
            "recall": round(self.recall, 3),
            "f1": round(self.f1, 3),
            "true": self.true,
            "given": self.given,
        }


def compare(true: Collection[str], given: Collection[str]) -> Found:
    """Two sets."""
    return Found(len(set(true) & set(given)), len(set(given)), len(set(true)))


def total(found: Iterable[Found]) -> Found:
    """Of many, each thing counting the same."""
    rows = list(found)
    return Found(sum(row.both for row in rows), sum(row.given for row in rows), sum(row.true for row in rows))


def chat_of(sample: Sample) -> AnnotatedChat:
    """Its marks, which only the project's own chats have."""
    assert sample.chat is not None
    return sample.chat


# --- asks, questions, promises, dates, decisions ---


def kinds(reader: Reader, samples: Sequence[Sample]) -> Figures:
    """The ranker alone; and what each member is told: actions of the whole chat, and questions just when they are asked."""
    delivered: dict[str, list[Found]] = {}
    open_, answered = Found(), Found()
    for sample in followed(samples, "asks and questions"):
        for kind, found in actions_found(reader, sample):
            delivered.setdefault(kind, []).append(found)
        asked = questions_found(reader, sample)
        where = "of_two" if len(chat_of(sample).people) == TWO else "in_groups"
        for kind in ("question_to_you", f"question_to_you_{where}"):
            delivered.setdefault(kind, []).append(asked)
        still, gone = listed_at_the_end(reader, sample)
        open_, answered = total([open_, still]), total([answered, gone])
    return {
        "ranker_alone": ranker_alone(reader, samples),
        "delivered": {kind: total(found).figures() for kind, found in delivered.items()},
        "open_questions": {"number": open_.true, "listed": round(open_.recall, 3)},
        "answered_questions": {"number": answered.true, "still_listed": round(answered.recall, 3)},
    }


def ranker_alone(reader: Reader, samples: Sequence[Sample]) -> dict[str, float]:
    """What the ranker's own measurement says (``ai_enclave.engine.train``), here with the reader's vectors."""
    examples = [example for sample in samples for example in examples_of(chat_of(sample))]
    said = [reader.judge(reader.encode(example.texts), example.hints) for example in examples]
    return measure(examples, said)


def actions_found(reader: Reader, sample: Sample) -> Iterator[tuple[str, Found]]:
    """For each kind, and for all of them together: the messages that a member is told of, and those that are marked."""
    chat, digester = chat_of(sample), Digester(reader)
    for viewer in chat.people:
        asked = {place for place, people in chat.asks.items() if viewer in people}
        true = {
            LineKind.ASK_OF_YOU: asked,
            LineKind.COMMITMENT: chat.commitments,
            LineKind.DECISION: chat.decisions,
            LineKind.DATE: chat.dates,
        }
        lines = digester.actions(sample.thread, viewer)
        for kind, places in true.items():
            yield str(kind), compare(_ids(places), {line.cites[0] for line in lines if line.kind == kind})
        yield "any_action", compare(_ids(set().union(*true.values())), {line.cites[0] for line in lines})


def questions_found(reader: Reader, sample: Sample) -> Found:
    """After each message: whether it is listed as a question to a member, and whether it is marked as one.

    Questions to everybody in a group are passed over: they are listed among actions, and wait for nobody in particular.
    """
    chat, digester = chat_of(sample), Digester(reader)
    found = []
    for place, said in enumerate(chat.messages):
        others = frozenset(chat.people) - {said.author}
        if len(others) > 1 and chat.questions.get(place) == others:
            continue
        thread = until(sample.thread, place + 1)
        for viewer in chat.people:
            if viewer != said.author:
                listed = {line.cites[0] for line in digester.questions(thread, viewer)} & {str(place)}
                meant = {str(place)} if viewer in chat.questions.get(place, ()) else set()
                found.append(compare(meant, listed))
    return total(found)


def listed_at_the_end(reader: Reader, sample: Sample) -> tuple[Found, Found]:
    """Questions to members that are surely open when the chat ends, and those that are surely answered: how many are listed.

    Open: the member has written nothing since. Answered: a message of theirs is marked as the answer to it, or, marked as a reply and
    no question itself, follows at once.
    """
    chat, digester = chat_of(sample), Digester(reader)
    open_, answered = [], []
    for viewer in chat.people:
        listed = {line.cites[0] for line in digester.questions(sample.thread, viewer)}
        own = [place for place, said in enumerate(chat.messages) if said.author == viewer]
        for place, people in chat.questions.items():
            if viewer not in people:
                continue
            later = [each for each in own if each > place]
            if not later:
                open_.append(compare({str(place)}, listed & {str(place)}))
            elif any(_answers(chat, each, place) for each in later):
                answered.append(compare({str(place)}, listed & {str(place)}))
    return total(open_), total(answered)


def _answers(chat: AnnotatedChat, reply: int, question: int) -> bool:
    if reply in chat.questions:
        return False
    answers = chat.messages[reply].answers
    return answers == question or (answers is None and reply in chat.replies and reply == question + 1)


def _ids(places: Iterable[int]) -> set[str]:
    return {str(place) for place in places}


def until(thread: Thread, end: int) -> Thread:
    """Its first messages."""
    return Thread(thread.messages[:end], thread.names, thread.members)


# --- replies ---


def replies(reader: Reader, samples: Sequence[Sample], trained_on: Sequence[AnnotatedChat]) -> Figures:
    """Whether what a person did with their next message is among what was suggested to them just before.

    Beside it what needs no engine: always the intents that are the most frequent in the chats that were trained on, and the most
    frequent of those that there are words for.
    """
    suggester = Suggester(reader)
    frequent = [
        each for each, _ in Counter(each for chat in trained_on for each in chat.replies.values()).most_common()
    ]
    sayable = [each for each in frequent if phrases_for([]).reply(each, None)]
    usual, usual_sayable = frequent[:SHOWN], sayable[:SHOWN]
    did: list[str] = []
    places: list[int | None] = []  # of the right one among the suggested
    numbers: Counter[int] = Counter()
    different = 0
    for sample in followed(samples, "replies"):
        chat = chat_of(sample)
        for place, intent in sorted(chat.replies.items()):
            suggested = suggester.suggest(until(sample.thread, place), chat.messages[place].author, SHOWN)
            intents = [intents_of(each, chat, place) for each in suggested]
            places.append(next((number for number, some in enumerate(intents) if intent in some), None))
            did.append(intent)
            numbers[len(suggested)] += 1
            different += len({each.intent for each in suggested}) == SHOWN
    asked = max(len(places), 1)
    return {
        "replies": len(places),
        "hit_at_1": hits(places, 1),
        "hit_at_3": hits(places, SHOWN),
        "hit_at_3_of_what_can_be_said": hits(
            [place for place, intent in zip(places, did, strict=True) if intent in sayable], SHOWN
        ),
        "hit_at_3_when_suggested": round(hits(places, SHOWN) * asked / max(asked - numbers[0], 1), 3),
        "usual_intents": usual,
        "usual_hit_at_3": round(sum(each in usual for each in did) / asked, 3),
        "usual_that_can_be_said": usual_sayable,
        "usual_that_can_be_said_hit_at_3": round(sum(each in usual_sayable for each in did) / asked, 3),
        "abstained": round(numbers[0] / asked, 3),
        "three_different_intents": round(different / max(asked - numbers[0], 1), 3),
    }


def intents_of(suggestion: Suggestion, chat: AnnotatedChat, place: int) -> set[str]:
    """What a suggestion does; of one that repeats the viewer's own words, what these did when they stood in the chat before."""
    author = chat.messages[place].author
    return {suggestion.intent} | {
        intent
        for before, intent in chat.replies.items()
        if before < place
        and chat.messages[before].author == author
        and " ".join(chat.messages[before].text.split()) == suggestion.text
    }


def hits(places: Sequence[int | None], most: int) -> float:
    """The share with a place below ``most``."""
    return round(sum(place is not None and place < most for place in places) / max(len(places), 1), 3)
