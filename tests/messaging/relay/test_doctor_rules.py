"""What the doctor makes of what it sees, at the edge of each rule."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from messaging.relay.clock import MAX_STEP_SECONDS
from messaging.relay.doctor_report import Level
from messaging.relay.doctor_rules import (
    BACKUP_PROBLEM,
    BACKUP_WARNING,
    CERTIFICATE_PROBLEM,
    CERTIFICATE_WARNING,
    CLOCK_WARNING_SECONDS,
    CONNECTIONS_OF_A_RELAY,
    FEW_OPEN_FILES,
    HTTP_CLOCK_WARNING_SECONDS,
    MANY_OPEN_FILES,
    RESERVED_CONNECTIONS,
    PostgresSettings,
    judge_assistants,
    judge_backup,
    judge_certificate,
    judge_clock,
    judge_connections,
    judge_database_version,
    judge_disk,
    judge_generation_file,
    judge_http_clock,
    judge_nodes,
    judge_open_files,
    judge_postgresql,
    judge_redis,
    judge_revision,
    judge_secret_file,
    judge_versions,
)
from messaging.relay.facts import DatabaseFacts, DiskFacts, RedisFacts
from messaging.relay.nodes import LATELY_MILLISECONDS, Node, State

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
NOW = datetime(2025, 6, 1, tzinfo=UTC)
MILLISECONDS = 1_000_000_000
SOUND = PostgresSettings("on", "on", "on", "on", 100)


def a_certificate(
    *names: str, ends: timedelta = timedelta(days=90), begins: timedelta = timedelta(0)
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW + begins).not_valid_after(NOW + ends)
    if names:
        alternatives = [x509.IPAddress(ip_address(each)) if each[0].isdigit() else x509.DNSName(each) for each in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, SHA256())


@pytest.mark.parametrize(
    ("current", "migrates", "level"),
    [("3", True, OK), ("2", True, WARNING), (None, True, WARNING), ("2", False, PROBLEM), ("4", True, PROBLEM)],
)
def test_the_schema_is_this_versions_or_can_become_it(current: str | None, migrates: bool, level: Level) -> None:
    assert judge_revision(current, ["3", "2", "1"], migrates=migrates).level is level


@pytest.mark.parametrize(
    ("left", "level"),
    [
        (CERTIFICATE_WARNING, OK),
        (CERTIFICATE_WARNING - timedelta(seconds=1), WARNING),
        (CERTIFICATE_PROBLEM, WARNING),
        (CERTIFICATE_PROBLEM - timedelta(seconds=1), PROBLEM),
        (timedelta(0), PROBLEM),
    ],
    ids=str,
)
def test_a_certificate_is_renewed_before_it_ends(left: timedelta, level: Level) -> None:
    begins = timedelta(days=-90)
    assert judge_certificate(a_certificate("chat.example", ends=left, begins=begins), None, NOW).level is level


def test_a_certificate_that_is_not_valid_yet_is_a_problem() -> None:
    assert judge_certificate(a_certificate(begins=timedelta(seconds=1)), None, NOW).level is PROBLEM


@pytest.mark.parametrize(
    ("names", "host", "level"),
    [
        (("chat.example",), "chat.example", OK),
        (("CHAT.example",), "chat.EXAMPLE", OK),
        (("*.example",), "chat.example", OK),
        (("*.example",), "a.chat.example", PROBLEM),
        (("*.example",), "example", PROBLEM),
        (("127.0.0.1",), "127.0.0.1", OK),
        (("other.example",), "chat.example", PROBLEM),
        ((), "chat.example", PROBLEM),
        ((), None, OK),
    ],
)
def test_a_certificate_names_the_host_that_clients_ask_for(
    names: tuple[str, ...], host: str | None, level: Level
) -> None:
    assert judge_certificate(a_certificate(*names), host, NOW).level is level


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("seconds", "level"),
    [
        (CLOCK_WARNING_SECONDS, OK),
        (CLOCK_WARNING_SECONDS + 0.1, WARNING),
        (MAX_STEP_SECONDS, WARNING),
        (MAX_STEP_SECONDS + 1, PROBLEM),
    ],
)
def test_clocks_agree(sign: int, seconds: float, level: Level) -> None:
    found = judge_clock(sign * seconds)
    assert found.level is level
    assert ("ahead of" if sign > 0 else "behind") in found.said


def test_a_clock_far_away_may_differ_by_what_a_request_takes() -> None:
    assert judge_http_clock(-HTTP_CLOCK_WARNING_SECONDS).level is OK
    assert judge_http_clock(HTTP_CLOCK_WARNING_SECONDS + 1).level is WARNING


@pytest.mark.parametrize(
    ("soft", "level"),
    [
        (-1, OK),
        (MANY_OPEN_FILES, OK),
        (MANY_OPEN_FILES - 1, WARNING),
        (FEW_OPEN_FILES, WARNING),
        (FEW_OPEN_FILES - 1, PROBLEM),
    ],
)
def test_a_relay_needs_many_open_files(soft: int, level: Level) -> None:
    assert judge_open_files(soft).level is level


@pytest.mark.parametrize(("free", "level"), [(100, OK), (99, WARNING), (30, WARNING), (29, PROBLEM)])
def test_a_disk_has_room(free: int, level: Level) -> None:
    assert judge_disk("attachments", DiskFacts(free, 1000)).level is level


def test_a_disk_that_is_elsewhere_is_not_judged() -> None:
    assert judge_disk("attachments", None).level is WARNING


@pytest.mark.parametrize(
    ("changed", "levels"),
    [
        ({}, [OK]),
        ({"fsync": "off"}, [PROBLEM]),
        ({"full_page_writes": "off"}, [PROBLEM]),
        ({"synchronous_commit": "off"}, [WARNING]),
        ({"autovacuum": "off"}, [PROBLEM]),
        ({"fsync": "off", "autovacuum": "off"}, [PROBLEM, PROBLEM]),
    ],
    ids=str,
)
def test_a_database_keeps_what_it_commits(changed: dict[str, str], levels: list[Level]) -> None:
    settings = PostgresSettings(**{**{name: getattr(SOUND, name) for name in SOUND.__slots__}, **changed})
    assert [finding.level for finding in judge_postgresql(settings)] == levels


@pytest.mark.parametrize("relays", [0, 1, 3])
def test_connections_are_enough_for_all_relays(relays: int) -> None:
    wanted = max(1, relays) * CONNECTIONS_OF_A_RELAY + RESERVED_CONNECTIONS
    assert judge_connections(wanted, relays).level is OK
    assert judge_connections(wanted - 1, relays).level is WARNING


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (RedisFacts(reachable=False), PROBLEM),
        (RedisFacts(reachable=True), OK),
        (RedisFacts(True, "Redis 7.0.1", eviction="noeviction"), OK),
        (RedisFacts(True, "Valkey 9.1.2", eviction="volatile-ttl"), OK),
        (RedisFacts(True, "Redis 6.2.14", eviction="noeviction"), PROBLEM),
        (RedisFacts(True, "Redis 7.4.0", eviction="allkeys-lru"), WARNING),
    ],
    ids=str,
)
def test_redis_is_there_new_enough_and_forgets_nothing(facts: RedisFacts, level: Level) -> None:
    assert [finding.level for finding in judge_redis(facts)] == [level]


@pytest.mark.parametrize(("version", "level"), [("12.9", PROBLEM), ("13.0 (Debian)", OK), ("18.1", OK)])
def test_postgresql_is_new_enough(version: str, level: Level) -> None:
    assert judge_database_version(DatabaseFacts("PostgreSQL", version, 0, 0)).level is level
    assert judge_database_version(DatabaseFacts("SQLite", "3.40.1", 0, 0)).level is OK


def a_node(version: str = "1", silent: int = 0, state: State = State.READY) -> Node:
    return Node(uuid4(), "north", version, 0, MILLISECONDS - silent, state)


def test_all_relays_have_one_version() -> None:
    silent = a_node("0", LATELY_MILLISECONDS + 1)
    assert judge_versions("1", [a_node(), silent], MILLISECONDS).level is OK
    assert judge_versions("2", [a_node()], MILLISECONDS).level is WARNING


def test_somebody_serves_and_nobody_has_fallen_silent() -> None:
    gone = a_node(silent=LATELY_MILLISECONDS + 1)

    def judged(*nodes: Node, redis: bool = True) -> list[Level]:
        return [finding.level for finding in judge_nodes(nodes, MILLISECONDS, redis=redis)]

    assert judged(a_node(), a_node(state=State.ENDED)) == [OK]
    assert judged(a_node(), gone) == [WARNING]
    assert judged(gone) == judged() == [PROBLEM]
    assert judged(a_node(), gone, redis=False) == [WARNING]  # one alone needs no Redis
    assert judged(a_node(), a_node()) == [OK]
    assert judged(a_node(), a_node(), redis=False) == [PROBLEM, OK]


@pytest.mark.parametrize(("registered", "accepting", "level"), [(0, 0, OK), (2, 1, OK), (2, 0, WARNING)])
def test_an_assistant_that_is_registered_accepts(registered: int, accepting: int, level: Level) -> None:
    assert judge_assistants(registered, accepting).level is level


@pytest.mark.parametrize(
    ("age", "level"),
    [
        (BACKUP_WARNING, OK),
        (BACKUP_WARNING + timedelta(seconds=1), WARNING),
        (BACKUP_PROBLEM, WARNING),
        (BACKUP_PROBLEM + timedelta(seconds=1), PROBLEM),
    ],
    ids=str,
)
def test_a_backup_is_recent(age: timedelta, level: Level) -> None:
    made_at = MILLISECONDS - age // timedelta(milliseconds=1)
    assert [finding.level for finding in judge_backup(made_at, MILLISECONDS, same_disk=False)] == [level]


def test_a_backup_is_somewhere_else() -> None:
    assert [each.level for each in judge_backup(MILLISECONDS, MILLISECONDS, same_disk=True)] == [OK, WARNING]
    assert [each.level for each in judge_backup(None, MILLISECONDS, same_disk=True)] == [PROBLEM]


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        (0o100600, OK),
        (0o100400, OK),
        (0o100640, WARNING),
        (0o100644, PROBLEM),
        (0o100602, PROBLEM),
        (0o100660, PROBLEM),
        (None, PROBLEM),
    ],
)
def test_a_secret_file_is_its_owners(mode: int | None, level: Level) -> None:
    assert judge_secret_file("secret file", mode).level is level


def test_the_generation_file_is_in_no_folder_that_is_copied(tmp_path: Path) -> None:
    copied = {"backups": tmp_path / "backups", "attachments": tmp_path / "attachments"}
    assert judge_generation_file(tmp_path / "generation", exists=True, copied=copied).level is OK
    assert judge_generation_file(tmp_path / "generation", exists=False, copied=copied).level is WARNING
    for folder in copied.values():
        assert judge_generation_file(folder / "deep" / "generation", exists=True, copied=copied).level is PROBLEM
        assert judge_generation_file(folder / ".." / "generation", exists=True, copied=copied).level is OK
