"""Messages are data. What reads like an instruction to a machine, or asks for what must not be given, is marked.

The rules know common phrasings and no more; structure protects better (a share of the digest for each sender,
citations, quotation, no reply ever sent by itself). A marked line weighs less in a summary, is shown as a quotation,
and what asks a machine, or asks for secrets or consent, is never answered by a suggestion.

The patterns are compared with ``latin(text)``: lower case, no accents, lookalikes as Latin. Every repetition in them
is bounded.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from ai_enclave.features.text import latin, visible

__all__ = ["NOT_ANSWERED", "WEIGHTS", "Mark", "is_answered", "is_instruction", "marks_of", "visible"]


class Mark(StrEnum):
    """What is conspicuous about a line."""

    INSTRUCTION = "instruction"  # reads as if it spoke to a machine
    ASKS_FOR_SECRETS = "asks_for_secrets"  # money, codes, credentials
    ASKS_FOR_CONSENT = "asks_for_consent"
    LINK = "link"
    QUOTES_ANOTHER = "quotes_another"  # says what another person said, or looks as if they had said it


WEIGHTS = {
    Mark.INSTRUCTION: 0.1,
    Mark.ASKS_FOR_SECRETS: 0.6,
    Mark.ASKS_FOR_CONSENT: 1.0,
    Mark.LINK: 0.8,
    Mark.QUOTES_ANOTHER: 0.7,
}
NOT_ANSWERED = frozenset([Mark.INSTRUCTION, Mark.ASKS_FOR_SECRETS, Mark.ASKS_FOR_CONSENT])

_MACHINE = r"(?:ai|a\.i\.|assistant|chat ?bot|bot|language model|model|llm|gpt|summari[sz]er|assistent\w*|asistente)"
# "The AI must say", and not "the AI must be ready by Friday": people talk of machines, too.
_DIRECTIVE = (
    r"\b(?:please|must|should|shall|now|instead|do not|don't|has to|have to|needs to|is to|will|muss|debe)\b.{0,20}"
    r"\b(?:say|write|state|include|mention|summari[sz]e|report|list"
    r"|answer|reply|respond|tell|output|start|begin|end|claim|approve"
    r"|show|praise|ignore|leave|omit|skip|hide|forget|add|put|print|translate|repeat|follow|obey|reveal|send|give)\b"
)
_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:previous"
    r"|above|prior|earlier|instructions?|rules?|guidelines?)\b"
    rf"|\b{_MACHINE}\b(?! manager| coach| professor| director| editor| teacher)[^.!?]{{0,60}}{_DIRECTIVE}"
    rf"|\b(?:dear|hey|hello|to the|attention|note to(?: the)?|you are an?|as an?) {_MACHINE}\b"
    r"|\b(?:system prompt|(?:new|important|special|secret|following|these) instructions?"
    r"|developer mode|jailbreak|prompt injection)\b"
    r"|\byou are now\b|\b(?:pretend|act as if|roleplay|role-play)\b.{0,30}\b(?:you|that|to be)\b|\bact as an?\b"
    r"|\b(?:do not|don't|never) (?:mention|include|summari[sz]e|cite|list)\b(?! it\b)"
    r"|\b(?:when|while|before|in|for|into|to|of) (?:you(?:'re)? )?(?:summari[sz](?:e|ing)\b"
    r"|(?:the|your|this|every|any) (?:summary|digest)\b)"
    r"|\b(?:reply|respond|answer|output|print|write|say|repeat)\b.{0,12}\b(?:only"
    r"|exactly|nothing but|verbatim|the following|the word)\b"
    r"|^\W{0,8}(?:system|assistant|developer|admin|administrator|moderator|ai)\W{0,8}:"
    r"|<\|?\w{0,12}(?:im_start|im_end|system|assistant|endoftext)"
    r"|\[/?(?:inst|sys|system)\]|<<sys>>|#{2,} ?(?:instruction|system|response)"
    r"|\bignorier\w*\b.{0,40}\b(?:anweisung\w*|vorherig\w*|bisherig\w*)\b"
    r"|\b(?:ignore[zr]?|oublie[zr]?)\b.{0,40}\b(?:instructions?|consignes?|precedent\w*)\b"
    r"|\b(?:ignora|olvida)\w*\b.{0,40}\b(?:instruccion\w*|anterior\w*|istruzioni|precedenti)\b",
    re.DOTALL | re.MULTILINE,
)

_GIVE = (
    r"(?:send|give|tell|share|transfer|pay|wire|text|forward|read out|confirm|lend|loan|enter|provide|need your"
    r"|schick\w*|sende?|gib|sag|uberweis\w*|leih\w*|envoie\w*"
    r"|donne\w*|prete\w*|manda\w*|envia\w*|dame|presta\w*|pasa\w*)"
)
_SENSITIVE = (
    r"(?:(?:money|cash|pass ?words?|pass ?codes?|pass ?phrase|pins?|codes?|otp|2fa|tan|cvv|credentials?|log ?ins?|iban"
    r"|(?:account|card|security|social security|passport) number"
    r"|gift cards?|bitcoins?|crypto|wallet|(?:seed|recovery) phrase"
    r"|passwort|kennwort|geld|kontonummer|gutscheinkarten?"
    r"|mot de passe|argent|contrasena|clave|codigo|dinero|tarjeta)\b"
    r"|[€$£]\s?\d+|\d+\s?(?:€|euros?\b|dollars?\b|pounds?\b|usd\b|eur\b|bucks?\b))"
)
_ASKS_FOR_SECRETS = re.compile(
    rf"\b{_GIVE}\b.{{0,60}}\b{_SENSITIVE}|\b{_GIVE}\b.{{0,60}}[€$£]\s?\d"
    rf"|\b{_SENSITIVE}.{{0,40}}\?|\bwhat(?:'s| is)\b.{{0,20}}\b{_SENSITIVE}"
    r"|\b(?:(?:can|could|would|will) you|please) (?:pay|lend|loan|wire|transfer|venmo|paypal)\b|\bpay me\b|\blend me\b",
    re.DOTALL,
)

_PUBLISH = r"(?:share|post|record|publish|forward|upload|film|tape|store|show|repost|use)"
_ASKS_FOR_CONSENT = re.compile(
    rf"\b(?:can|may|could|shall|should) (?:i|we|they) (?:\w+ )?{_PUBLISH}\b"
    rf"|\b(?:ok|okay|fine|alright|all right|happy|cool|mind|good) (?:if|with|for)\b.{{0,30}}\b{_PUBLISH}"
    r"|\b(?:do|will|would|can|did|don't) you\b.{0,12}\b(?:agree|consent|accept|authori[sz]e|approve|allow|permit)\b"
    r"|\bagree (?:to|that|with)\b|\bi hereby\b|\bconsent\b|\bpermission\b|\bauthori[sz]\w+"
    r"|\bsign (?:the|this|it|here|up|off|on|a|your|below|document|contract|form)\b|\b(?:please|to|you|and) sign\b"
    r"|\baccept (?:the|our|these|all|my|this)\b|\bterms (?:and|of)\b|\bopt(?:ing)?[ -]in\b"
    r"|\bconfirm (?:your|the|that you|you)\b.{0,20}\b(?:order|purchase|payment|identity|account|agree\w*|consent)\b"
    r"|\b(?:stimmst du|stimmen sie|stimmt ihr|einverstanden|zustimm\w*"
    r"|einwillig\w*|unterschreib\w*|unterzeichn\w*|akzeptier\w*|agb)\b"
    r"|\b(?:darf|durfen|kann|konnen) (?:ich|wir)\b.{0,40}\b(?:teilen|posten"
    r"|veroffentlichen|aufnehmen|weitergeben|weiterleiten|hochladen)\b"
    r"|\b(?:d'accord (?:pour|avec|que)|(?:es|etes)[ -](?:tu |vous )?d'accord"
    r"|accepte[sz]?|acceptez|consen\w+|signe[rz]?|autorise\w*)\b"
    r"|\b(?:puis-je|peut-on|je peux|on peut)\b.{0,20}\b(?:partager|publier|enregistrer|poster|filmer|transmettre)\b"
    r"|\b(?:aceptas?|acepten|aceptar?|(?:estas|esta|estan) de acuerdo"
    r"|consientes?|firma[rs]?|firmes?|autoriza[sn]?|autorizar)\b"
    r"|\b(?:puedo|podemos)\b.{0,20}\b(?:compartir\w*|publicar\w*|grabar\w*|subir\w*|reenviar\w*)\b",
    re.DOTALL,
)

_LINK = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://|\bwww\."
    r"|\b[\w-]{1,63}\.(?:com|org|net|io|me|ly|gg|co|de|fr|es|eu|info|xyz|top|ru|app|dev|link)\b(?:/|(?!\w))"
    r"|\b[\w.+-]{1,64}@[\w-]{1,63}\.\w|\bjavascript:|\bdata:\w|\]\s?\("
)
_QUOTE = re.compile(
    r"^\W{0,4}>|^\W{0,4}\d{1,2}[:.h]\d{2}(?:[:.]\d{2})?(?: ?[ap]m)?\W{1,6}[^\W\d][\w .'-]{0,40}:"
    r"|^\W{0,4}<?[^\W\d][\w .'-]{0,40}>? (?:wrote|said|says|writes|schrieb|a ecrit|escribio)\s{0,2}:"
    r"|^on\b.{0,60}\bwrote\s{0,2}:"
    r"|^\W{0,4}<[^\W\d][\w .'-]{0,40}> "
)
_SPEAKER = re.compile(r"^\W{0,4}([^\W\d][\w .'-]{0,40}?) {0,2}:(?!\S)")


def marks_of(text: str, names: Iterable[str] = ()) -> frozenset[Mark]:
    """What is conspicuous about ``text``; ``names``, as ``latin`` gives them, are of people whom it may pretend to quote."""
    plain = latin(text)
    found = {mark for mark, pattern in _PATTERNS.items() if pattern.search(plain)}
    speaker = _SPEAKER.match(plain)
    # "Bob: can you come?" calls Bob; "Bob: yes" puts words into his mouth.
    if speaker and speaker[1] in names and not plain.rstrip().endswith("?"):
        found.add(Mark.QUOTES_ANOTHER)
    return frozenset(found)


def is_instruction(text: str) -> bool:
    """Whether it reads like an instruction to a machine."""
    return _INSTRUCTION.search(latin(text)) is not None


def is_answered(text: str) -> bool:
    """Whether replies to ``text`` may be suggested."""
    return not marks_of(text) & NOT_ANSWERED


_PATTERNS = {
    Mark.INSTRUCTION: _INSTRUCTION,
    Mark.ASKS_FOR_SECRETS: _ASKS_FOR_SECRETS,
    Mark.ASKS_FOR_CONSENT: _ASKS_FOR_CONSENT,
    Mark.LINK: _LINK,
    Mark.QUOTES_ANOTHER: _QUOTE,
}
