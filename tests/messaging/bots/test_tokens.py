"""Tokens: their form, what is kept of them, and which one a text is."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.bots.errors import Unauthorized
from messaging.bots.tokens import ALL, READ, SCOPES, SEND, Token, bot_of, digest_of, find_token

BOT, NOW = 1_234_567_890, 1_700_000_000_000


def test_a_token_has_the_form_that_libraries_for_telegram_check() -> None:
    text, token = Token.make(BOT, [ALL], now=NOW)
    assert re.fullmatch(r"[0-9]{8,10}:[A-Za-z0-9_-]{35,}", text)
    assert bot_of(text) == token.bot == BOT
    assert token.scopes == SCOPES


def test_no_two_tokens_are_alike() -> None:
    assert len({Token.make(BOT, [READ], now=NOW)[0] for _ in range(100)}) == 100


def test_what_is_kept_holds_nothing_of_the_secret_and_shows_nothing() -> None:
    text, token = Token.make(BOT, [READ], now=NOW)
    secret = text.partition(":")[2]
    assert secret.encode() not in token.encode()
    assert token.digest.hex() not in repr(token)
    assert len(token.digest) == 32


@pytest.mark.parametrize("scopes", [[], ["write"], [READ, "write"], [""]])
def test_a_token_has_scopes_that_there_are(scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="scopes"):
        Token.make(BOT, scopes, now=NOW)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1:", f"{BOT}", f"{BOT}:{'x' * 34}", f"{BOT}:{'x' * 65}", f"-1:{'x' * 43}", f"{BOT}:{'x' * 42} ", f"{BOT}:{'é' * 43}", f"٣:{'x' * 43}", f"{'9' * 20}:{'x' * 43}"],
)  # fmt: skip
def test_what_has_another_form_is_none(text: str) -> None:
    with pytest.raises(Unauthorized):
        bot_of(text)


def test_the_edge_of_the_form_is_inside() -> None:
    assert bot_of(f"1:{'x' * 35}") == 1
    assert bot_of(f"{'9' * 19}:{'x' * 64}") == int("9" * 19)


def test_finds_the_one_that_a_text_is_among_several() -> None:
    made = [Token.make(BOT, [scope], now=NOW) for scope in (READ, SEND, ALL)]
    tokens = [token for _, token in made]
    for text, token in made:
        assert find_token(tokens, text, now=NOW) == token


@given(st.integers(0, 42), st.sampled_from("abcXYZ019_-"))
def test_a_changed_character_makes_it_another(place: int, character: str) -> None:
    text, token = Token.make(BOT, [ALL], now=NOW)
    head, _, secret = text.partition(":")
    changed = f"{head}:{secret[:place]}{character}{secret[place + 1 :]}"
    if changed != text:
        with pytest.raises(Unauthorized):
            find_token([token], changed, now=NOW)


def test_a_token_ends_at_its_time() -> None:
    text, token = Token.make(BOT, [ALL], now=NOW, expires_at=NOW + 1000)
    assert find_token([token], text, now=NOW + 999) == token
    with pytest.raises(Unauthorized):
        find_token([token], text, now=NOW + 1000)


def test_an_end_is_never_put_off() -> None:
    _, token = Token.make(BOT, [ALL], now=NOW, expires_at=NOW + 1000)
    assert token.until(NOW + 5000).expires_at == NOW + 1000
    assert token.until(NOW + 5).expires_at == NOW + 5
    assert Token.make(BOT, [ALL], now=NOW)[1].until(NOW).expires_at == NOW


@given(st.sets(st.sampled_from(sorted(SCOPES)), min_size=1), st.one_of(st.none(), st.integers(0, 2**53)))
def test_decoding_undoes_encoding(scopes: set[str], expires_at: int | None) -> None:
    _, token = Token.make(BOT, scopes, now=NOW, expires_at=expires_at)
    assert Token.decode(token.encode()) == token


def test_a_token_that_was_written_before_there_was_more_to_it_is_read() -> None:
    _, token = Token.make(BOT, [READ], now=NOW)
    assert Token.decode(json.dumps(json.loads(token.encode())[:6]).encode()) == token


def test_a_token_that_gives_way_says_so_when_it_is_read_again() -> None:
    ending = Token.make(BOT, [READ], now=NOW)[1].until(NOW + 5)
    assert ending.replaced
    assert Token.decode(ending.encode()) == ending


def test_a_digest_is_not_that_of_anything_else() -> None:
    assert digest_of("a") != digest_of("b")
    assert digest_of("a").hex() != "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # plain SHA-256
