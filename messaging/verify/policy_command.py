"""``subrosa policy``: write, sign and read the document that says which machines are accepted."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attestation.appraisal.policy_file import TEMPLATE, PolicySigner
from attestation.errors import MalformedPolicy
from attestation.limits import MAX_POLICY
from messaging.verify.files import Unreadable, read_file, read_policy
from messaging.verify.printing import say

DESCRIPTION = """\
A policy says which machines are accepted: releases, firmware, chips, GPUs. It is a text that people can read, under a
signature that says who stands for it."""

EPILOG = """\
how to begin:
  subrosa policy template > policy.toml          then write your releases into it
  subrosa policy new-key clinic policy.key       keep policy.key secret; the printed line is for everybody else
  subrosa policy sign policy.toml policy.key > policy.signed.toml
  subrosa policy check policy.signed.toml --policy-key KEY"""

_NAME = re.compile(r"[^\s+]{1,64}")
_KEY_FILE = 16 * 1024  # bytes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="subrosa policy",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = options.add_subparsers(metavar="ACTION", required=True, dest="action")
    actions.add_parser("template", help="print a policy with every field explained")
    new_key = actions.add_parser("new-key", help="make a key that signs policies; prints its public side")
    new_key.add_argument("name", metavar="NAME", help="who signs, without spaces: clinic")
    new_key.add_argument("file", metavar="FILE", type=Path, help="where the private key is written; must not exist")
    sign = actions.add_parser("sign", help="print a policy with a signature under it")
    sign.add_argument("file", metavar="POLICY", type=Path)
    sign.add_argument("key", metavar="KEYFILE", type=Path, help="made by new-key")
    check = actions.add_parser("check", help="read a policy, and say what it accepts and what weakens it")
    check.add_argument("file", metavar="POLICY", type=Path)
    signature = check.add_mutually_exclusive_group()
    signature.add_argument("--policy-key", metavar="KEY", help="whose signature it has to carry")
    signature.add_argument("--unsafe-unsigned-policy", action="store_true", help="do not ask for a signature")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Do one action; returns the exit code: 0, or 2 if something cannot be read."""
    arguments = parser().parse_args(argv)
    try:
        text = _ACTIONS[arguments.action](arguments)
    except (Unreadable, MalformedPolicy) as error:
        sys.stderr.write(f"subrosa policy: {str(error).rstrip('.')}.\n")
        return 2
    return 0 if say(text, "subrosa policy") else 2


def _template(_: argparse.Namespace) -> str:
    return TEMPLATE


def _new_key(arguments: argparse.Namespace) -> str:
    if not _NAME.fullmatch(arguments.name) or not arguments.name.isprintable():
        raise Unreadable("A name has no spaces and no plus sign, and at most 64 characters")
    signer = PolicySigner(arguments.name, Ed25519PrivateKey.generate())
    private = signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Unreadable(f"{arguments.file} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(f"# private key of {arguments.name}\n".encode() + private)
    return f"{signer.key}\n"


def _sign(arguments: argparse.Namespace) -> str:
    text = read_file(arguments.file, MAX_POLICY)
    try:
        return _signer(arguments.key).sign(text.decode())
    except UnicodeDecodeError:
        raise Unreadable(f"{arguments.file} is not UTF-8 text") from None


def _signer(path: Path) -> PolicySigner:
    first, _, pem = read_file(path, _KEY_FILE).partition(b"\n")
    try:
        name = first.decode().removeprefix("# private key of ")
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreadable(f"{path} is no key of subrosa policy new-key") from None
    if not isinstance(key, Ed25519PrivateKey) or not _NAME.fullmatch(name):
        raise Unreadable(f"{path} is no key of subrosa policy new-key")
    return PolicySigner(name, key)


def _check(arguments: argparse.Namespace) -> str:
    chosen = read_policy(arguments.file, arguments.policy_key, unsigned=arguments.unsafe_unsigned_policy)
    policy = chosen.policy
    told = {
        "name": policy.name,
        "signed_by": chosen.signer or None,
        "valid_from": policy.valid_from.isoformat() if policy.valid_from else None,
        "valid_until": policy.valid_until.isoformat() if policy.valid_until else None,
        "releases": [f"{release.name} on {release.type}" for release in policy.releases],
        "gpus": policy.gpus,
        "switches": policy.switches,
        "any_chip": policy.chips is None,
        "weakened_by": sorted(policy.unsafe),
    }
    return json.dumps(told, ensure_ascii=False, indent=2) + "\n"


_ACTIONS = {"template": _template, "new-key": _new_key, "sign": _sign, "check": _check}


if __name__ == "__main__":
    sys.exit(main())
