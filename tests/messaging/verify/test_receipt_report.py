"""``subrosa verify RECEIPT`` says whose receipt it is, who had consented, what that proves, and what it cannot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation import NO_COLLATERAL
from attestation.bundle import Bundle
from messaging.client.receipts import ReceiptFile
from messaging.verify.__main__ import main, parser
from messaging.wire.consent import ConsentScope
from tests.attestation import machines
from tests.messaging.client.receipt_files import (
    ALICE,
    BOB,
    BUNDLE,
    MADE,
    MALLORY,
    RELEASE,
    accepted_file,
    milliseconds,
    receipt_file,
)

POLICY = f"""\
policy = 1
name = "Clinic"
unsafe = ["UnsafeAcceptSimulated"]
[[releases]]
name = "{RELEASE}"
type = "simulated"
measurement = "{machines.SIMULATED_MEASUREMENT.hex()}"
"""
VECTORS = Path(__file__).parents[2] / "vectors" / "receipts"


class Desk:
    """Where files are put and the command is run."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)

    def put(self, file: ReceiptFile | bytes) -> Path:
        """A file to be judged."""
        path = self.folder / "receipt.json"
        path.write_bytes(file if isinstance(file, bytes) else file.encode())
        return path

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, standard output as one line, standard error."""
        code = main([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return code, " ".join(out.split()), err

    def verify(self, file: ReceiptFile | bytes, *options: object) -> tuple[int, str, str]:
        """The same under the policy."""
        return self.run(self.put(file), "--policy", self.policy, "--unsafe-unsigned-policy", *options)

    def told(self, file: ReceiptFile, *options: object) -> tuple[int, dict[str, Any]]:
        """Exit code and facts."""
        code, out, _ = self.verify(file, "--json", *options)
        facts: dict[str, Any] = json.loads(out)
        return code, facts


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_shows_the_evidence_then_the_receipt_then_each_consent(desk: Desk) -> None:
    code, out, err = desk.verify(accepted_file())
    assert (code, err) == (0, "")
    for statement in (
        "✓ The code is an accepted release.",
        "✓ The receipt key of the evidence signed it.",
        "✓ It names this evidence.",
        f"✓ It names the release of the evidence. {RELEASE}",
        "✓ It is not older than the evidence. 2026-06-01 00:10:00+00:00",
        "✓ The request is the one that it names.",
        "✓ The answer is the one that it names.",
        "✓ The consents are exactly those that it names. 2",
        "✓ The identity key beside it signed it.",
        "✓ It covers this kind of request. summaries",
    ):
        assert statement in out
    assert out.index("code ✓") < out.index("receipt ✓") < out.index(f"consent of {ALICE.service_id} ✓")


def test_says_what_it_proves_in_plain_words_and_what_it_cannot(desk: Desk) -> None:
    _, out, _ = desk.verify(accepted_file())
    proves, cannot = out[out.index("What this proves") :].split("What this cannot prove")
    for words in (
        "answer to summarize made at 2026-06-01 00:10:00+00:00, by the enclave's clock",
        "engine extractive",
        f"model {bytes(range(32)).hex()}",
        "instructions none",
        "(in this file), padded to 16399 bytes",
        f"{BOB.service_id}, to replies and summaries, since 2026-05-31T23:00:00.000+00:00, until withdrawn; identity key",
        f"release {RELEASE}",
    ):
        assert words in proves
    for gap in (
        "whose consents they are: The consents are signed by the identity keys shown here.",
        "compare safety numbers",
        "that nobody had withdrawn: ",
        "that the answer is true: ",
        "that nothing else was computed: ",
        "when it was: The time is that of the enclave's clock, which its host sets.",
        "everything about hardware: ",
    ):
        assert gap in cannot
    assert "ACCEPTED AS A SIMULATION" in cannot


def test_says_the_same_to_machines(desk: Desk) -> None:
    code, told = desk.told(accepted_file())
    assert (code, told["verdict"]) == (0, "accepted")
    receipt = told["receipt"]
    assert (receipt["kind"], receipt["engine"], receipt["time"]) == (
        "summarize",
        "extractive",
        "2026-06-01T00:10:00+00:00",
    )
    assert (receipt["model"], receipt["instructions"]) == (bytes(range(32)).hex(), None)
    assert (receipt["request_shown"], receipt["answer_shown"], receipt["request_bucket"]) == (True, True, 16399)
    assert [consent["author"] for consent in receipt["consents"]] == [str(ALICE.service_id), str(BOB.service_id)]
    assert receipt["consents"][0] | {"statement": ""} == {
        "author": str(ALICE.service_id),
        "identity_key": ALICE.keys.public.hex(),
        "statement": "",
        "scopes": ["replies", "summaries"],
        "since": "2026-05-31T23:00:00.000+00:00",
        "until": None,
    }
    assert "that the answer is true" in told["not_proved"]
    assert all(step["passed"] for step in told["steps"])
    assert "me" not in told


def test_the_vectors_are_accepted(desk: Desk) -> None:
    code, told = desk.told(ReceiptFile.parse((VECTORS / "receipt-file.json").read_bytes()))
    assert (code, told["receipt"]["consents"][1]["until"]) == (0, "2026-06-01T08:00:00.000+00:00")


def test_without_content_it_says_that_nobody_here_can_tell_what_was_answered(desk: Desk) -> None:
    code, out, _ = desk.verify(accepted_file().without_content())
    assert code == 0
    assert "The request is the one" not in out
    assert "(not in this file), padded to" in out
    assert "what was asked and answered: Request and answer are not both in this file." in out


def test_a_refused_consent_is_explained_and_nothing_counts_as_proved(desk: Desk) -> None:
    file = receipt_file(ALICE.consent(opted_in=False), BOB.consent())
    code, out, _ = desk.verify(file, "--me", ALICE.service_id)
    assert code == 1
    assert "✗ It says yes. [consent in force] Why: the statement says no" in out
    assert "Means: When the answer was made, this author's messages were not to be used." in out
    assert "What this proves" not in out
    assert "The receipt is refused, so that it says nothing of this member." in out
    assert out.endswith("REFUSED: 1 of 30 checks failed (consent in force).")
    code, told = desk.told(file, "--me", ALICE.service_id)
    assert (code, told["verdict"], told["claims"], told["receipt"]) == (1, "refused", None, None)
    assert told["me"] == {"service_id": str(ALICE.service_id), "named": None, "consents": []}
    (step,) = [step for step in told["steps"] if not step["passed"]]
    assert (step["check"], step["kind"]) == ("consent in force", "policy")


def test_a_receipt_of_another_enclave_is_refused_whatever_its_evidence_proves(desk: Desk) -> None:
    other = receipt_file(ALICE.consent(), evidence=bytes(32), measurement=bytes(48))
    code, told = desk.told(other)
    assert code == 1
    assert [step["check"] for step in told["steps"] if not step["passed"]] == ["receipt's evidence", "receipt's code"]


def test_faults_of_the_evidence_and_of_the_receipt_are_told_together(desk: Desk) -> None:
    path = desk.put(receipt_file(ALICE.consent(), answer=bytes(32)))
    code, out, _ = desk.run(path, "--json")  # no policy: no code is accepted
    failed = [step["check"] for step in json.loads(out)["steps"] if not step["passed"]]
    assert (code, failed) == (1, ["genuine hardware", "measurement", "receipt's content"])


def test_a_genuine_receipt_without_accepted_evidence_is_refused_and_proves_nothing(desk: Desk) -> None:
    code, out, _ = desk.run(desk.put(accepted_file()), "--json")
    told = json.loads(out)
    assert (code, told["verdict"], told["receipt"]) == (1, "refused", None)


def test_a_member_hears_whether_they_are_named_and_under_which_consent(desk: Desk) -> None:
    until = milliseconds(MADE) + 1
    summaries = frozenset({ConsentScope.SUMMARIES})
    file = receipt_file(ALICE.consent(), BOB.consent(expires_at=until, scopes=summaries)).without_content()
    code, out, _ = desk.verify(file, "--me", BOB.service_id)
    assert code == 0
    assert f"About {BOB.service_id} Named: this member's messages could be used for the answer" in out
    assert "to summaries, since 2026-05-31T23:00:00.000+00:00, until 2026-06-01T00:10:00.001+00:00" in out
    assert f"About {MALLORY.service_id} Not named: " in desk.verify(file, "--me", MALLORY.service_id)[1]
    me = desk.told(file, "--me", BOB.service_id)[1]["me"]
    assert (me["named"], me["consents"][0]["identity_key"]) == (True, BOB.keys.public.hex())
    me = desk.told(file, "--me", str(MALLORY.service_id).upper())[1]["me"]
    assert me == {"service_id": str(MALLORY.service_id), "named": False, "consents": []}


def test_an_answer_that_rests_on_nobody_says_so(desk: Desk) -> None:
    code, out, _ = desk.verify(receipt_file(kind="forget", conversation=None))
    assert code == 0
    assert "conversation none" in out
    assert "consented nobody: no member's messages were to be used" in out
    assert "whose consents they are" not in out


def test_instructions_are_named_by_their_digest(desk: Desk) -> None:
    file = receipt_file(instructions=bytes(range(1, 33)))
    assert desk.told(file)[1]["receipt"]["instructions"] == bytes(range(1, 33)).hex()
    assert f"instructions {bytes(range(1, 33)).hex()}" in desk.verify(file)[1]


def test_a_consent_without_an_end_that_calendars_know_is_shown(desk: Desk) -> None:
    file = receipt_file(ALICE.consent(expires_at=8_640_000_000_000_000))
    assert desk.told(file)[1]["receipt"]["consents"][0]["until"] == "8640000000000000 ms after 1970"


def test_the_evidence_is_judged_at_the_time_in_the_file_unless_told_otherwise(desk: Desk) -> None:
    assert desk.told(accepted_file())[1]["time"] == "2026-06-01T00:00:00+00:00"
    code, told = desk.told(accepted_file(), "--at", "2030-01-01")
    assert (code, told["time_from"]) == (0, "option")
    assert desk.verify(accepted_file(), "--nonce", bytes(32).hex())[0] == 1


def test_what_cannot_be_read_is_neither_accepted_nor_refused(desk: Desk) -> None:
    data = accepted_file().encode()
    unread = replace(accepted_file(), signed=b"\xd2")
    bundle = Bundle(BUNDLE.nonce, BUNDLE.time, BUNDLE.evidence, NO_COLLATERAL).encode()
    for file, options, why in (
        (data[:-1], (), "is a damaged receipt file"),
        (b'{"answer":1}\n', (), "is a damaged receipt file"),
        (b'{"bundle":{}}\n', (), "is a damaged receipt file"),
        (accepted_file().signed, (), "is a receipt alone"),
        (b"{}", (), "is no receipt file and no bundle"),
        (data, ("--me", "alice"), "named by a service id"),
        (bundle, ("--me", str(BOB.service_id)), "only a receipt names members"),
    ):
        code, _, err = desk.verify(file, *options)
        assert (code, why in " ".join(err.split())) == (2, True), err
    code, out, _ = desk.verify(unread)
    assert code == 2
    assert "✗ It is a receipt, canonically encoded. [receipt syntax]" in out


@given(at=st.integers(min_value=0), data=st.binary(max_size=3), cut=st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_file_ends_in_a_fault_of_ours(desk: Desk, at: int, data: bytes, cut: int) -> None:
    whole = (VECTORS / "receipt-file.json").read_bytes()
    at %= len(whole)
    code, out, err = desk.verify(whole[:at] + data + whole[at + cut :], "--json")
    assert (code in (0, 1, 2), err) == (True, "")
    assert "fault of subrosa" not in out


def test_the_help_teaches_receipts() -> None:
    text = parser().format_help()
    assert "A receipt file is what a member keeps of one answer" in text
    assert "--me SERVICE_ID" in text
