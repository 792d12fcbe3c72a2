"""``subrosa``: one command, a verb for each service. A verb's options are its own: ``subrosa VERB --help``."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

# verb: the module whose ``main`` it calls, and what it does. Imported when called: the relay needs no torch.
VERBS = {
    "demo": ("messaging.demo.__main__", "play the first story: relay, two enclaves and a small cast on this machine"),
    "relay": ("messaging.relay.__main__", "run the relay, which stores and forwards what it cannot read"),
    "migrate": ("messaging.relay.migrate_command", "bring a relay's database up to date"),
    "doctor": ("messaging.relay.doctor", "look whether a deployment is sound, and say how to mend what is not"),
    "backup": ("messaging.relay.backup", "copy a relay's database and attachments while it runs"),
    "restore": ("messaging.relay.restore", "put such a copy back, so that nothing harms that has happened since"),
    "grant": ("messaging.relay.grant", "give single accounts other limits"),
    "invite": ("messaging.relay.invite", "make, list and revoke the codes with which people register"),
    "bot": ("messaging.bots.command", "make bots, and run the gateway through which programs in any language speak"),
    "console": ("messaging.console.__main__", "run the operators' console, and make the links with which they enrol"),
    "admin": ("messaging.console.terminal", "see and do from a terminal what the console shows, over its API"),
    "audit": ("messaging.relay.admin.audit_command", "verify or export the record of what operators did"),
    "enclave": ("ai_enclave.__main__", "run the assistant's enclave"),
    "evidence": (
        "messaging.verify.evidence_command",
        "ask this machine where it runs, and save the answer as a bundle",
    ),
    "verify": ("messaging.verify.__main__", "check such a bundle, or the receipt of an answer, offline"),
    "policy": ("messaging.verify.policy_command", "write and sign the policy that says which machines are accepted"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 2 for a verb that there is not."""
    verb, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0
    if verb == "--version":
        sys.stdout.write(f"subrosa {version('subrosa')}, AGPL-3.0-only\n")
        return 0
    if verb not in VERBS:
        sys.stderr.write(f"subrosa: there is no such verb.\n\n{_usage()}")
        return 2
    module, _ = VERBS[verb]
    try:
        run = import_module(module).main
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        sys.stderr.write(
            f"subrosa {verb}: the package {package} is missing. Install subrosa with its extras client, console and enclave, "
            "or use python3 dev.py run.\n"
        )
        return 1
    code: int = run(rest)
    return code


def _usage() -> str:
    lines = [f"  {verb:<9} {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "usage: subrosa VERB [options]",
            "",
            "A self-hosted, end-to-end encrypted messaging backend with private AI.",
            "",
            *lines,
            "",
            "subrosa VERB --help explains a verb; subrosa --version names the version.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
