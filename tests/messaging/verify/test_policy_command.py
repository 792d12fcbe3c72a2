"""``subrosa policy`` makes keys, signs policies and reads them back; it never leaves a half-made or a readable secret."""

import json
import stat
from pathlib import Path

import pytest

from messaging.verify.policy_command import main


def policy(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_from_template_to_signed_policy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, key, signed = tmp_path / "policy.toml", tmp_path / "policy.key", tmp_path / "signed.toml"
    text.write_text(policy(capsys, "template")[1])
    code, public, _ = policy(capsys, "new-key", "clinic", key)
    assert code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signed.write_text(policy(capsys, "sign", text, key)[1])
    assert signed.read_text().startswith(text.read_text())
    code, out, _ = policy(capsys, "check", signed, "--policy-key", public.strip())
    told = json.loads(out)
    assert (code, told["signed_by"], told["weakened_by"]) == (0, "clinic", [])
    assert told["releases"] == ["subrosa-enclave 0.1.0 on sev-snp"]


def test_a_changed_policy_is_not_the_signed_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, key, signed = tmp_path / "policy.toml", tmp_path / "policy.key", tmp_path / "signed.toml"
    text.write_text(policy(capsys, "template")[1])
    public = policy(capsys, "new-key", "clinic", key)[1].strip()
    signed.write_text(policy(capsys, "sign", text, key)[1].replace("gpus = 0 ", "gpus = 8 "))
    code, out, err = policy(capsys, "check", signed, "--policy-key", public)
    assert (code, out) == (2, "")
    assert "changed after it was signed" in err
    code, out, _ = policy(capsys, "check", signed, "--unsafe-unsigned-policy")
    assert json.loads(out)["weakened_by"] == ["UnsafeUnsignedPolicy"]


def test_what_cannot_be_done_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, key, binary = tmp_path / "policy.toml", tmp_path / "policy.key", tmp_path / "binary"
    text.write_text("policy = 1\nname = 'x'\ngpu = 1\n")
    binary.write_bytes(b"\xff\xfe")
    policy(capsys, "new-key", "clinic", key)
    before = key.read_bytes()
    for arguments, words in (
        (["new-key", "clinic", key], "File exists"),
        (["new-key", "a b", tmp_path / "other"], "no spaces"),
        (["new-key", "clinic", tmp_path / "no" / "where"], "No such file"),
        (["sign", text, key], "not known: 'gpu'"),
        (["sign", text, text], "no key of subrosa policy new-key"),
        (["sign", text, binary], "no key of subrosa policy new-key"),
        (["sign", binary, key], "not UTF-8"),
        (["sign", tmp_path / "absent", key], "cannot be read"),
        (["check", text], "--policy-key"),
    ):
        code, out, err = policy(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("subrosa policy: "), arguments
        assert words in err, arguments
    assert key.read_bytes() == before


def test_a_key_is_not_made_under_a_name_that_cannot_be_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = tmp_path / "policy.key"
    assert policy(capsys, "new-key", "a\x1bb", key)[0] == 2
    assert not key.exists()


def test_nothing_is_signed_that_nobody_sees(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, key = tmp_path / "policy.toml", tmp_path / "policy.key"
    policy(capsys, "new-key", "clinic", key)
    for hidden in ("\u202e", "\x9b", "\u2028"):
        text.write_text(policy(capsys, "template")[1] + f"# {hidden} end\n")
        code, out, err = policy(capsys, "sign", text, key)
        assert (code, out) == (2, "")
        assert "cannot be seen" in err
