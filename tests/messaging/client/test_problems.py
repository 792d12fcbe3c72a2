"""Problems are kept in bounds until somebody looks, and nobody's noise hides whose keys have changed."""

from uuid import uuid4

from messaging.client.errors import IdentityChanged
from messaging.client.problems import MAX_PROBLEMS, Failed, Problems, Undecryptable
from messaging.wire.identifiers import ServiceId

BOB = ServiceId(uuid4())
NOISE = Undecryptable(None, "MalformedField")


def a_change(key: bytes = bytes(33)) -> IdentityChanged:
    return IdentityChanged(BOB, key)


def test_what_was_looked_at_is_kept_no_more() -> None:
    problems = Problems()
    problems.note(NOISE)
    assert problems.take() == [NOISE]
    assert problems.take() == []


def test_of_too_many_the_oldest_goes() -> None:
    problems = Problems()
    for number in range(MAX_PROBLEMS + 1):
        problems.note(Failed(str(number)))
    kept = problems.take()
    assert (len(kept), kept[0], kept[-1]) == (MAX_PROBLEMS, Failed("1"), Failed(str(MAX_PROBLEMS)))


def test_noise_does_not_push_out_whose_keys_have_changed() -> None:
    problems, changed = Problems(), a_change()
    problems.note_identity(changed)
    for _ in range(3 * MAX_PROBLEMS):
        problems.note(NOISE)
    kept = problems.take()
    assert len(kept) == MAX_PROBLEMS
    assert kept[0] is changed


def test_even_of_changed_identities_there_is_an_end() -> None:
    problems = Problems()
    for number in range(MAX_PROBLEMS + 1):
        problems.note_identity(a_change(number.to_bytes(33, "big")))
    kept = problems.take()
    assert len(kept) == MAX_PROBLEMS
    assert next(each.identity_key for each in kept if isinstance(each, IdentityChanged)) == (1).to_bytes(33, "big")


def test_each_key_of_an_account_is_told_once() -> None:
    problems = Problems()
    for key in (bytes(33), bytes(33), b"\x01" * 33, bytes(33)):
        problems.note_identity(a_change(key))
    assert len(problems.take()) == 2
    problems.note_identity(a_change())  # it was looked at, and nobody has acted
    assert len(problems.take()) == 1
