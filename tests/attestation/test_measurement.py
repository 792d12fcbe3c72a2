"""A measurement covers every name and every byte, and cannot be moved from one to the other."""

from hypothesis import given
from hypothesis import strategies as st

from attestation import measure
from attestation.measurement import MEASUREMENT

FILES = st.dictionaries(st.text(min_size=1, max_size=4), st.binary(max_size=4), min_size=1, max_size=4)


@given(FILES, st.data())
def test_names_and_contents_count_and_their_order_does_not(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    measured = measure(files)
    assert len(measured) == MEASUREMENT
    assert measured == measure(dict(reversed(files.items())))
    assert measured != measure({**files, name: files[name] + b"!"})
    others = {key: value for key, value in files.items() if key != name}
    assert measured != measure(others)
    assert measured != measure(others | {name + "!x": files[name]})


@given(st.text(max_size=4), st.text(max_size=4), st.binary(max_size=4))
def test_bytes_do_not_move_from_a_name_to_a_content(one: str, two: str, content: bytes) -> None:
    if two:
        assert measure({one + two: content}) != measure({one: two.encode() + content})
