"""Training is repeatable, and learns nothing from what is held out or planted."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from ai_enclave.engine.ranker import Ranker
from ai_enclave.engine.train import fit as fitting
from ai_enclave.engine.train.__main__ import main, train
from ai_enclave.engine.train.corpus import read_corpus
from ai_enclave.engine.train.examples import PLANTED, best_units, examples_of, planted, thread_of
from ai_enclave.engine.weights import RANKER, weights_digest
from ai_enclave.features.people import People
from ai_enclave.features.sentences import units_of
from ai_enclave.features.text import words_of

CHATS = read_corpus()


def test_the_same_chats_give_the_same_weights_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "EPOCHS", 1)
    some = CHATS[:8]
    before = torch.get_num_threads()
    try:
        (one, facts), (two, _) = train(some), train(some)
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(mode=False)
    assert one == two
    assert facts["chats_held_out"] == 1
    assert Ranker(one).weights["in"].shape[0] == 3


def test_the_shipped_weights_are_those_that_the_shipped_metrics_are_of() -> None:
    facts = json.loads(RANKER.with_suffix(".json").read_text())
    assert facts["weights_sha256"] == hashlib.sha256(RANKER.read_bytes()).hexdigest()
    assert facts["chats"] == len(CHATS)
    assert len(weights_digest()) == 32


def test_a_folder_without_chats_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out.safetensors"), "--quiet"]) == 1
    assert "a.jsonl, line 1" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_planted_line_is_worth_nothing() -> None:
    chat = CHATS[0]
    thread = planted(chat, random.Random(1))  # noqa: S311  # no secret
    assert sum(message.id == PLANTED for message in thread.messages) == 1
    _, example, *_ = examples_of(chat, random.Random(1))  # noqa: S311  # no secret
    units = units_of(thread, People(thread).compared_names)
    places = [number for number, unit in enumerate(units) if unit.message.id == PLANTED]
    assert places
    assert not example.salience[places].any()
    assert not example.kinds[example.message_of[places]].any()


def test_the_units_nearest_to_a_summary_are_those_that_say_the_same() -> None:
    chat = next(chat for chat in CHATS if chat.lang == "en" and len(chat.messages) > 10)
    thread = thread_of(chat)
    people = People(thread)
    units = units_of(thread, people.compared_names)
    said = units[4].text
    assert 4 in best_units(units, people, said, [True] * len(units))
    assert 4 not in best_units(units, people, said, [number != 4 for number in range(len(units))])


def test_a_reply_is_learned_from_what_was_said_before_it_alone() -> None:
    for chat in (chat for chat in CHATS if len(chat.messages) < 10):
        whole, *replies = examples_of(chat)
        said = {tuple(words_of(text)) for text in whole.texts}  # of what somebody says twice, the later one is there
        assert len(replies) <= len(chat.replies)
        for example in replies:
            assert not example.whole
            assert example.intent >= 0
            assert {tuple(words_of(text)) for text in example.texts} <= said
            assert len(example.texts) < len(whole.texts) + 1
            assert np.isfinite(example.hints).all()


@pytest.mark.long
def test_training_makes_the_shipped_weights_bit_for_bit(tmp_path: Path) -> None:
    shipped = json.loads(RANKER.with_suffix(".json").read_text())
    before = torch.get_num_threads()
    try:
        assert main(["--out", str(tmp_path / "again.safetensors"), "--quiet"]) == 0
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(mode=False)
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["held_out"] == pytest.approx(shipped["held_out"], abs=0.03)  # on any processor
    if (again["processor"], again["torch"]) == (shipped["processor"], shipped["torch"]):
        assert (tmp_path / "again.safetensors").read_bytes() == RANKER.read_bytes()
