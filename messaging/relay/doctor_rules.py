"""What ``subrosa doctor`` makes of what it sees: from facts to findings, with no input or output of its own."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from messaging.relay.clock import MAX_STEP_SECONDS
from messaging.relay.doctor_report import Check, Finding, ok, problem, warning
from messaging.relay.facts import DatabaseFacts, DiskFacts, RedisFacts
from messaging.relay.nodes import Node

CERTIFICATE_WARNING: Final = timedelta(days=21)  # before its end; who renews by a program does so a month before
CERTIFICATE_PROBLEM: Final = timedelta(days=3)
CLOCK_WARNING_SECONDS: Final = 2
HTTP_CLOCK_WARNING_SECONDS: Final = 30  # a Date has whole seconds, and has been under way
FEW_OPEN_FILES: Final = 4096
MANY_OPEN_FILES: Final = 65_536
DISK_WARNING: Final = 0.1  # free, of all
DISK_PROBLEM: Final = 0.03
BACKUP_WARNING: Final = timedelta(hours=36)  # one a day, and half a day of patience
BACKUP_PROBLEM: Final = timedelta(days=7)
# 20 of its pool (``database``), and two lanes that commit without waiting for the disk.
CONNECTIONS_OF_A_RELAY: Final = 22
RESERVED_CONNECTIONS: Final = 10  # for the console, for backups and for whoever looks
OLDEST_POSTGRESQL: Final = 13
OLDEST_REDIS: Final = (7, 0)  # what is published to one slot only came with it


_AGAIN: Final = " Then run the doctor again: what is in the tables was not looked at."


def judge_revision(current: str | None, known: Sequence[str], *, migrates: bool) -> Finding:
    """The schema's revision, beside those that this version knows, the present one first."""
    check = Check.MIGRATIONS
    if current == known[0]:
        return ok(check, f"the schema is this version's ({current})")
    if current is not None and current not in known:
        said = "the schema is of a newer version than this one"
        return problem(check, said, f"Install the version that the relays have.{_AGAIN}")
    said = "there is no schema yet" if current is None else f"the schema is an older one ({current}, not {known[0]})"
    if migrates:
        return warning(check, said, f"Make a backup, and start a relay: it brings the schema up to date.{_AGAIN}")
    return problem(check, said, f"Make a backup, and run: subrosa migrate.{_AGAIN}")


def judge_versions(installed: str, nodes: Sequence[Node], now: int) -> Finding:
    """Whether all relays that serve have this version."""
    others = sorted({node.version for node in nodes if node.serves(now)} - {installed})
    if others:
        said = f"this is version {installed}; relays run version {', '.join(others)}"
        return warning(Check.VERSIONS, said, "Start them anew one after the other: nodes.drain in the console.")
    return ok(Check.VERSIONS, f"version {installed}, here and on all relays that run")


def judge_database_version(facts: DatabaseFacts) -> Finding:
    """Whether PostgreSQL is new enough. SQLite comes with Python."""
    said = f"{facts.kind} {facts.version}"
    major = facts.version.partition(".")[0]
    if facts.kind == "PostgreSQL" and major.isdigit() and int(major) < OLDEST_POSTGRESQL:
        return problem(Check.VERSIONS, said, f"Upgrade to PostgreSQL {OLDEST_POSTGRESQL} or later.")
    return ok(Check.VERSIONS, said)


def judge_certificate(certificate: x509.Certificate, host: str | None, now: datetime) -> Finding:
    """The dates and the names of the relay's certificate. ``host`` is that of the public URL, if there is one."""
    check, renew = Check.CERTIFICATE, "Renew it, and let the relays start anew: they read it at their start."
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now < begins or now >= ends:
        return problem(
            check, f"the certificate is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and so not now", renew
        )
    names = names_of(certificate)
    if host is not None and not any(_covers(name, host) for name in names):
        said = "the certificate does not name the host of the public URL"
        return problem(check, said, "Get one for that name, or correct --public-url.")
    left = ends - now
    said = f"the certificate is valid until {ends:%Y-%m-%d}"
    if left < CERTIFICATE_PROBLEM:
        return problem(check, said, renew)
    return warning(check, said, renew) if left < CERTIFICATE_WARNING else ok(check, said)


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _covers(name: str, host: str) -> bool:
    """Whether a name of a certificate is for a host; ``*`` stands for one label (RFC 9525, section 6.3)."""
    name, host = name.lower(), host.lower()
    first, _, rest = host.partition(".")
    return name == host or (name.startswith("*.") and bool(first) and bool(rest) and name[2:] == rest)


def judge_clock(ahead_seconds: float) -> Finding:
    """The clock of this machine against the database's."""
    said = f"this machine's clock is {abs(ahead_seconds):.1f} s {'ahead of' if ahead_seconds > 0 else 'behind'} the database's"
    mend = "Have a time service keep both right: chrony or systemd-timesyncd."
    if abs(ahead_seconds) > MAX_STEP_SECONDS:
        return problem(Check.CLOCK, f"{said}: a relay would not start", mend)
    return warning(Check.CLOCK, said, mend) if abs(ahead_seconds) > CLOCK_WARNING_SECONDS else ok(Check.CLOCK, said)


def judge_http_clock(ahead_seconds: float) -> Finding:
    """The clock of this machine against the ``Date`` that the public URL answers with."""
    if abs(ahead_seconds) > HTTP_CLOCK_WARNING_SECONDS:
        said = f"this machine's clock and that behind the public URL differ by {abs(ahead_seconds):.0f} s"
        return warning(Check.CLOCK, said, "Have a time service keep the clocks of all machines right.")
    return ok(Check.CLOCK, "this machine's clock agrees with that behind the public URL")


def judge_open_files(soft: int) -> Finding:
    """How many files a process started like this one may have open; each connection is one. -1 is no limit."""
    said = f"a process started from here may have {soft} files open, and so about as many connections"
    mend = f"Raise it for the relay: LimitNOFILE={MANY_OPEN_FILES} in its systemd unit, or ulimit -n."
    if soft == -1 or soft >= MANY_OPEN_FILES:
        return ok(Check.OPEN_FILES, "a process started from here may have enough files open")
    return problem(Check.OPEN_FILES, said, mend) if soft < FEW_OPEN_FILES else warning(Check.OPEN_FILES, said, mend)


def judge_disk(what: str, facts: DiskFacts | None) -> Finding:
    """The free space where something is kept."""
    if facts is None:
        said = f"the folder of {what} is not on this machine"
        return warning(Check.DISK, said, "Run the doctor where it is, with the rights of the relay.")
    share = facts.free / facts.size
    said, mend = f"the disk of {what} has {share:.0%} free", "Make room: a full disk stops every send."
    if share < DISK_PROBLEM:
        return problem(Check.DISK, said, mend)
    return warning(Check.DISK, said, mend) if share < DISK_WARNING else ok(Check.DISK, said)


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Settings of a PostgreSQL, as its role's sessions begin with."""

    fsync: str
    synchronous_commit: str
    full_page_writes: str
    autovacuum: str
    max_connections: int


def judge_postgresql(settings: PostgresSettings) -> Iterator[Finding]:
    """Whether what is committed stays, and whether tables stay small."""
    check, quiet = Check.DATABASE, True
    for name, lost in (("fsync", "a power loss"), ("full_page_writes", "a crash in the middle of a write")):
        if getattr(settings, name) == "off":
            quiet = False
            yield problem(check, f"{name} is off: what was accepted would not survive {lost}", f"Set {name} = on.")
    if settings.synchronous_commit == "off":
        quiet = False
        said = (
            "synchronous_commit is off by default: relays set it for themselves, other programs lose what they commit"
        )
        yield warning(check, said, "Set synchronous_commit = on.")
    if settings.autovacuum == "off":
        quiet = False
        said = "autovacuum is off: tables grow with every message that was ever sent"
        yield problem(check, said, "Set autovacuum = on.")
    if quiet:
        yield ok(check, "what is committed stays, and autovacuum is on")


def judge_connections(max_connections: int, relays: int) -> Finding:
    """Whether PostgreSQL takes as many connections as so many relay processes may want."""
    wanted = max(1, relays) * CONNECTIONS_OF_A_RELAY + RESERVED_CONNECTIONS
    said = f"{max(1, relays)} relay processes may want {wanted} connections, and the database takes {max_connections}"
    if wanted > max_connections:
        return warning(Check.CONNECTIONS, said, f"Set max_connections to {wanted} or more.")
    return ok(Check.CONNECTIONS, said)


def judge_redis(facts: RedisFacts) -> Iterator[Finding]:
    """Whether relays can speak to each other over it, and whether limits are kept."""
    check = Check.REDIS
    if not facts.reachable:
        said = "Redis cannot be reached: devices on other relays hear of their messages seconds later"
        yield problem(check, said, "Start it, or correct --redis-url.")
        return
    if facts.version is None:
        yield ok(check, "a cluster, which answers")
        return
    name, _, number = facts.version.partition(" ")
    if _numbers(number) < OLDEST_REDIS:
        yield problem(check, f"{facts.version} is too old", "Upgrade to Redis 7.0 or later, or to Valkey.")
        return
    if facts.eviction is not None and facts.eviction.startswith("allkeys"):
        said = f"{name} may forget the levels of rate limits when its memory is full ({facts.eviction})"
        yield warning(check, said, "Set maxmemory-policy to noeviction or volatile-ttl.")
        return
    yield ok(check, f"{facts.version} answers")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def judge_nodes(nodes: Sequence[Node], now: int, *, redis: bool) -> Iterator[Finding]:
    """Whether somebody serves, whether somebody has fallen silent, and, without ``redis``, whether one serves alone."""
    gone = sorted({node.name for node in nodes if node.is_gone(now)})
    serving = sum(node.serves(now) for node in nodes)
    if not serving:
        yield problem(Check.NODES, "no relay serves on this database", "Start one: subrosa relay")
        return
    if serving > 1 and not redis:
        said = f"{serving} relays serve without a Redis: each counts limits for itself, and devices hear late of their messages"
        yield problem(Check.NODES, said, "Give all of them one: --redis-url")
    if gone:
        said = f"{serving} relays serve; these have fallen silent: {', '.join(gone)}"
        yield warning(Check.NODES, said, "Look at their logs. They are forgotten after an hour or two.")
    else:
        yield ok(Check.NODES, f"{serving} relays serve")


def judge_setting(name: str, version: int, *, applies: bool) -> Finding:
    """Whether relays can apply what operators have set last."""
    if applies:
        return ok(Check.SETTINGS, f"version {version} of {name} stands")
    said = f"version {version} of {name} is beyond what relays take: they go on with the one before"
    return problem(Check.SETTINGS, said, f"In the console, undo to a version of {name} that stood, or set it anew.")


def judge_assistants(registered: int, accepting: int) -> Finding:
    """Whether a client that asks finds an assistant."""
    if registered and not accepting:
        said = f"of {registered} assistants none accepts conversations"
        return warning(Check.ASSISTANTS, said, "Start an enclave, or take back that an assistant was drained.")
    if not registered:
        return ok(Check.ASSISTANTS, "no assistant is registered: people talk without one")
    return ok(Check.ASSISTANTS, f"{accepting} of {registered} assistants accept conversations")


def judge_backup(made_at: int | None, now: int, *, same_disk: bool) -> Iterator[Finding]:
    """The age of the last backup. Times are milliseconds since 1970."""
    check, mend = Check.BACKUPS, "Run: subrosa backup. Once a day, by a timer."
    if made_at is None:
        yield problem(check, "no backup was ever made in the folder of backups, or it is gone", mend)
        return
    age = timedelta(milliseconds=now - made_at)
    said = f"the last backup is {age // timedelta(hours=1)} hours old"
    if age > BACKUP_PROBLEM:
        yield problem(check, said, mend)
    elif age > BACKUP_WARNING:
        yield warning(check, said, mend)
    else:
        yield ok(check, said)
    if same_disk:
        where = "backups are on the same disk as the database"
        yield warning(check, where, "Copy them to another machine: a disk that fails takes both.")


def judge_secret_file(what: str, mode: int | None) -> Finding:
    """Who may read a file with a secret. ``mode`` is that of the file, ``None`` if it cannot be found."""
    if mode is None:
        said = f"the {what} is not there, or cannot be seen from here"
        return problem(
            Check.SECRET_FILES, said, "Put it back, or correct its option. Run the doctor with the rights of the relay."
        )
    others = stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO)
    if others & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        said = f"others than its owner can read or change the {what} (mode {stat.S_IMODE(mode):04o})"
        return problem(
            Check.SECRET_FILES, said, "chmod 600. If somebody else has been on this machine, make a new one."
        )
    if others:
        said = f"a group can read the {what} (mode {stat.S_IMODE(mode):04o})"
        return warning(Check.SECRET_FILES, said, "chmod 600, unless that group is the relay's alone.")
    return ok(Check.SECRET_FILES, f"only its owner can read the {what}")


def judge_generation_file(file: Path, *, exists: bool, copied: Mapping[str, Path]) -> Finding:
    """Where the generation file is. ``copied`` are folders of which copies are made, by what they are."""
    check = Check.GENERATION_FILE
    for what, folder in copied.items():
        if file.resolve().is_relative_to(folder.resolve()):
            said = f"the generation file is in the folder of {what}: restored with it, it could not tell that something was restored"
            return problem(check, said, "Stop the relays, move it elsewhere and name it: --generation-file")
    if not exists:
        said = "there is no generation file yet: the next relay to start voids all one-time prekeys, once"
        return warning(check, said, "Start a relay, and keep the file it makes out of backups.")
    return ok(check, "the generation file is outside of what is backed up")
