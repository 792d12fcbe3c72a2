"""English verbs as far as the lines need them: which words are verbs, and their forms after a name."""

import re

from ai_enclave.features.text import word_set

MODALS = word_set(
    "can could will would should must may might can't won't couldn't wouldn't cannot had was did didn't wasn't hadn't shouldn't mustn't"
)
IRREGULAR = {
    "am": "is", "are": "is", "were": "was", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't", "aren't": "isn't",
    "weren't": "wasn't", "go": "goes",
}  # fmt: skip
CONTRACTED = {"i'm": "is", "i'll": "will", "i've": "has", "i'd": "would"}
BARE = word_set("let make help see watch want to")  # after these, and whom they are about, a verb has no ending
ADVERBS = word_set(
    "also just really still already never always only probably usually often finally then actually totally almost"
)
PRESENT = word_set(
    "need want think hope like love know bring take make come see work feel believe guess suggest prefer agree remember wait live eat"
    " drive bake cook start leave send write call plan try look get give ask mean help stay keep use wish vote propose promise"
    " sell pay run meet hear seem watch wear win lose learn teach talk say tell speak sleep walk drink finish forget understand hate miss"
    " owe pick play reckon rent save study swear visit wonder worry join move open close show turn change check clean cancel book order"
    " arrive return share fix cover expect doubt mind handle sing dance travel spend carry hold swap switch fancy dread appreciate care"
    " enjoy recommend sound pass catch text email message post upload reply answer print pack buy find stop live suspect"
)
PAST = word_set(
    "went got took said told made came saw sent paid found bought thought left wrote gave heard felt kept met forgot brought put set lost"
    " spoke knew did had was read cut ate drove won ran sold chose wore slept woke taught drank sang flew caught fell grew hid held hung"
    " led lent meant rode rang sat shut spent stood stole stuck swore threw understood built began became broke bit lit"
)
# What may be done to somebody without anything being said against them: "I will help you", and not "I saw you".
KIND_TO = word_set(
    "call text send bring help meet tell show ask email message write join remind let visit thank for wait"
)
SAYING = word_set("said says say told tells wrote goes like liked asked asks texted replied shouted yelled")
AFTER_WOULD = PRESENT | word_set("be have rather go do")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|\s+|.", re.DOTALL)


def tokens_of(text: str) -> list[str]:
    """Words, runs of spaces, and signs: together the text."""
    return _TOKEN.findall(text)


def as_token(token: str) -> str:
    """A token as these lists have it."""
    return token.lower().replace("’", "'")


def agree(verb: str) -> str | None:
    """The form after a name: needs, has, called; ``None`` for a verb that is not known."""
    if verb in IRREGULAR:
        return IRREGULAR[verb]
    if verb in MODALS or verb in PAST or (verb.endswith("ed") and len(verb) > 4):
        return verb
    if verb not in PRESENT:
        return None
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "o")) else "s")


def with_ending(verb: str) -> str:
    """The form that ``agree`` gives a word if it is a verb, else the word."""
    return agree(verb) or verb
