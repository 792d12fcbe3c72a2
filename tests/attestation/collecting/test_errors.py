from attestation.collecting import errors
from attestation.collecting.errors import CollectionError

CAUSES = [
    cause
    for cause in vars(errors).values()
    if isinstance(cause, type) and issubclass(cause, CollectionError) and cause is not CollectionError
]


def test_every_cause_says_what_happened_and_what_to_do() -> None:
    assert len(CAUSES) > 10
    for cause in CAUSES:
        assert cause.__doc__
        assert cause.remedy.endswith(".")
        assert str(cause("it happened")) == f"it happened. {cause.remedy}"
