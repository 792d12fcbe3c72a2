"""Replies speak the language of the chat, and say nothing that is the user's to say."""

import pytest

from ai_enclave.engine.interface import INTENTS
from ai_enclave.features.phrases import _LANGUAGES, phrases_for


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (["Can you come to the party on Friday?", "we are at the lake"], "Yes, Friday works for me."),
        (["Tu peux venir à la fête vendredi ?", "on est dans le jardin"], "Oui, Friday me va."),
        (["Kannst du zu der Feier kommen?", "wir sind auch da und es ist schön"], "Ja, Friday passt mir."),
        (["¿Puedes venir a la fiesta?", "el viernes es para los amigos"], "Sí, me viene bien."),
        (["ok", "👍", "12"], "Yes, Friday works for me."),
    ],
)
def test_the_language_is_that_of_the_chat(said: list[str], reply: str) -> None:
    assert phrases_for(said).reply("accept", "Friday") == reply


@pytest.mark.parametrize("place", range(len(_LANGUAGES)))
def test_each_language_has_words_for_each_intent_and_its_own_signs(place: int) -> None:
    phrases = _LANGUAGES[place]
    assert set(phrases.plain) == set(INTENTS) - {"joke"}  # a joke is the user's own to make
    assert set(phrases.timed) <= set(INTENTS)
    assert all("{time}" in text for text in phrases.timed.values())
    assert all(len(phrases.words - other.words) >= 15 for other in _LANGUAGES if other is not phrases)


def test_no_reply_says_the_same_as_another() -> None:
    for phrases in _LANGUAGES:
        assert len(set(phrases.plain.values())) == len(phrases.plain)
