"""The accounts of a benchmark: registered straight in the database, so that a run does not begin with thousands of requests.

``python -m benchmarks._accounts --database-url URL``. Names, identifiers, passwords and access keys follow from each other, so
that the load generator knows them too.
"""

import argparse
import asyncio
import hashlib
import secrets
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import insert

from messaging.relay.accounts.passwords import hash_password
from messaging.relay.accounts.tables import AccountRow, DeviceRow
from messaging.relay.database import normalise_url, open_database
from messaging.relay.messages.tables import MailboxRow
from messaging.relay.migrate import migrate

SENDERS = 200
DEVICES_OF_A_RECEIVER = 20  # of the harness's; here each is an account of its own
REGISTRATION_ID = 1
FAN_DEVICES = (1, 2, 3, 4, 5, 6)  # accounts fan1 to fan6 have as many devices as their names say
_AT_ONCE = 500


def aci_of(name: str) -> UUID:
    """The account's identity."""
    return uuid5(NAMESPACE_OID, name)


def password_of(name: str) -> str:
    """The password of its devices."""
    return hashlib.sha256(name.encode()).hexdigest()


def access_key_of(name: str) -> bytes:
    """Its access key: 16 bytes."""
    return hashlib.sha256(b"access" + name.encode()).digest()[:16]


def receiver_of(user: str, index: int) -> str:
    """The account behind the harness's device ``index`` of ``user``."""
    return user if index == 1 else f"{user}-{index}"


def everybody() -> Iterable[tuple[str, int]]:
    """All accounts: their names, and how many devices each has."""
    for number in range(SENDERS):
        yield f"s{number}", 1
        for index in range(1, DEVICES_OF_A_RECEIVER + 1):
            yield receiver_of(f"r{number}", index), 1
    yield "roffline", 1
    for count in FAN_DEVICES:
        yield f"fan{count}", count


async def register(url: str, people: Iterable[tuple[str, int]] | None = None) -> None:
    """Bring the database up to date, and put accounts in: their names, and how many devices each has."""
    await migrate(normalise_url(url))
    database, today = open_database(normalise_url(url)), time.time_ns() // 1_000_000
    accounts: list[dict[str, Any]] = []
    mailboxes: list[dict[str, Any]] = []
    devices: list[dict[str, Any]] = []
    for account_id, (name, count) in enumerate(people or everybody(), start=1):
        accounts.append(
            {
                "id": account_id,
                "aci": aci_of(name),
                "aci_identity_key": b"\x05" + bytes(32),
                "access_key": access_key_of(name),
                "unrestricted_access": False,
                "number_hash": name.encode(),
            }
        )
        hashed = hash_password(password_of(name))
        for device_id in range(1, count + 1):
            mailboxes.append({"id": len(mailboxes) + 1, "last_sequence": 0})
            devices.append(
                {
                    "account_id": account_id,
                    "device_id": device_id,
                    "mailbox_id": len(mailboxes),
                    "registration_id": REGISTRATION_ID,
                    "password_salt": hashed.salt,
                    "password_hash": hashed.digest,
                    "capabilities": {},
                    "seen_on": today,
                }
            )
    async with database.begin() as db:
        for table, rows in ((AccountRow, accounts), (MailboxRow, mailboxes), (DeviceRow, devices)):
            for start in range(0, len(rows), _AT_ONCE):
                await db.execute(insert(table), rows[start : start + _AT_ONCE])
    await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks._accounts")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.secret_file.write_bytes(secrets.token_bytes(32))
    asyncio.run(register(arguments.database_url))
    sys.exit(0)
