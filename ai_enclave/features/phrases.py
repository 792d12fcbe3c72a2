"""What the suggested replies say, in the languages that we have words for: by intent, some with a time of the message's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ai_enclave.features.text import word_set, words_of

_FEWEST = 1  # words of a language that have to occur before it is taken for the chat's


@dataclass(frozen=True, slots=True)
class Phrases:
    """The replies of one language; ``{time}`` is filled from the message, and where there is no time the other form stands."""

    words: frozenset[str]  # that stand in many messages of this language, and of no other here
    plain: Mapping[str, str]
    timed: Mapping[str, str]

    def reply(self, intent: str, time: str | None) -> str | None:
        """The words for an intent; ``None`` where there are none: a fact, or a joke, is the user's to say."""
        if time is not None and (timed := self.timed.get(intent)):
            text = timed.format(time=time)
            return text[:1].upper() + text[1:]
        return self.plain.get(intent)


_ENGLISH = Phrases(
    word_set("the you is it to and of that i'm can have we what for with this not but are at"),
    {
        "accept": "Yes, that works for me.",
        "decline": "Sorry, that doesn't work for me.",
        "defer": "Let me check and get back to you.",
        "ask": "Can you tell me more?",
        "time": "Any time works for me.",
        "inform": "I don't know yet, I'll find out.",
        "thank": "Thank you, that helps a lot!",
        "welcome": "You're welcome!",
        "acknowledge": "Got it, thanks.",
        "glad": "That's great news!",
        "sympathy": "Oh no, I'm sorry to hear that.",
        "offer": "Can I help with anything?",
        "propose": "Could we do something else instead?",
        "greet": "Hi, good to hear from you!",
    },
    {
        "accept": "Yes, {time} works for me.",
        "decline": "Sorry, {time} doesn't work for me.",
        "acknowledge": "Got it, {time}.",
        "propose": "Could we find another time than {time}?",
    },
)
_FRENCH = Phrases(
    word_set("le la les je tu est et pas pour c'est j'ai on que qui une des dans avec mais ça vous nous du"),
    {
        "accept": "Oui, ça me va.",
        "decline": "Désolé, ça ne va pas pour moi.",
        "defer": "Je vérifie et je te redis.",
        "ask": "Tu peux m'en dire plus ?",
        "time": "N'importe quand me va.",
        "inform": "Je ne sais pas encore, je me renseigne.",
        "thank": "Merci, ça m'aide beaucoup !",
        "welcome": "Avec plaisir !",
        "acknowledge": "Bien reçu, merci.",
        "glad": "Super nouvelle !",
        "sympathy": "Oh non, désolé pour toi.",
        "offer": "Je peux aider ?",
        "propose": "On pourrait faire autre chose ?",
        "greet": "Coucou !",
    },
    {"accept": "Oui, {time} me va.", "acknowledge": "Bien reçu, {time}."},
)
_GERMAN = Phrases(
    word_set("der die das ich du ist und nicht für mit ein eine auch auf wir ihr es zu den dem kann noch mal bin"),
    {
        "accept": "Ja, das passt mir.",
        "decline": "Tut mir leid, das passt mir nicht.",
        "defer": "Ich schaue nach und melde mich.",
        "ask": "Kannst du mehr dazu sagen?",
        "time": "Mir passt jede Zeit.",
        "inform": "Weiß ich noch nicht, ich frage nach.",
        "thank": "Danke, das hilft mir sehr!",
        "welcome": "Gern geschehen!",
        "acknowledge": "Alles klar, danke.",
        "glad": "Das sind tolle Neuigkeiten!",
        "sympathy": "Oh nein, das tut mir leid.",
        "offer": "Kann ich etwas helfen?",
        "propose": "Könnten wir etwas anderes machen?",
        "greet": "Hallo!",
    },
    {"accept": "Ja, {time} passt mir.", "acknowledge": "Alles klar, {time}."},
)
_SPANISH = Phrases(
    word_set("el los las que es no por para con una yo tú pero está como muy más lo te se si ya un al"),
    {
        "accept": "Sí, me viene bien.",
        "decline": "Lo siento, no me viene bien.",
        "defer": "Lo miro y te digo.",
        "ask": "¿Me cuentas más?",
        "time": "A cualquier hora me viene bien.",
        "inform": "Todavía no lo sé, lo averiguo.",
        "thank": "¡Gracias, me ayuda mucho!",
        "welcome": "¡De nada!",
        "acknowledge": "Entendido, gracias.",
        "glad": "¡Qué buena noticia!",
        "sympathy": "Vaya, lo siento mucho.",
        "offer": "¿Puedo ayudar en algo?",
        "propose": "¿Podríamos hacer otra cosa?",
        "greet": "¡Hola!",
    },
    {"acknowledge": "Entendido, {time}."},
)
_LANGUAGES = (_ENGLISH, _FRENCH, _GERMAN, _SPANISH)


def phrases_for(texts: Iterable[str]) -> Phrases:
    """Those of the language that ``texts`` are most likely in; English where that is not plain."""
    words = [word for text in texts for word in words_of(text)]
    counts = [sum(word in each.words for word in words) for each in _LANGUAGES]
    best = max(range(len(_LANGUAGES)), key=lambda place: (counts[place], -place))
    return _LANGUAGES[best] if counts[best] >= _FEWEST else _ENGLISH
