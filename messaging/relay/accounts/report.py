"""A report in the two forms that its owner gets: for machines and in words."""

from datetime import UTC, datetime

from messaging.relay.accounts.account import Report
from messaging.relay.http import Caller
from messaging.wire.accounts import DataReport, ReportedAccount, ReportedData, ReportedDevice


def describe(report: Report, caller: Caller) -> DataReport:
    """Everything the relay holds on the caller's account."""
    data = ReportedData(
        account=ReportedAccount(
            aci=caller.aci,
            pni=caller.pni,
            created=_day(report.account.created_on),
            role=report.account.role,
            phone_number_kept_as_hash=caller.pni is not None,
            find_account_by_phone_number=report.account.discoverable,
            allow_sealed_sender_from_anyone=report.account.unrestricted_access,
            registration_lock=report.account.lock is not None,
            recovery_password=report.account.recovery is not None,
        ),
        devices=tuple(
            ReportedDevice(
                id=device.device_id,
                registration_id=device.registration_id,
                created=_day(device.created_on),
                last_seen=_day(device.seen_on),
                encrypted_name=device.name,
                capabilities=tuple(sorted(name for name, has in device.capabilities.items() if has)),
                envelopes_waiting=report.waiting.get(device.device_id, 0),
            )
            for device in report.devices
        ),
    )
    at = datetime.fromtimestamp(report.at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return DataReport(report_id=report.report_id, report_timestamp=at, data=data, text=_in_words(report, data, at))


def _in_words(report: Report, data: ReportedData, at: str) -> str:
    account = data.account
    lines = [
        f"Report ID: {report.report_id}",
        f"Report timestamp: {at}",
        "",
        "# Account",
        f"Created: {account.created}",
        f"Role: {account.role or 'member'}",
        f"Phone number: {'a keyed hash of it is kept' if account.phone_number_kept_as_hash else 'none'}",
        f"Find account by phone number: {_yes(account.find_account_by_phone_number)}",
        f"Allow sealed sender from anyone: {_yes(account.allow_sealed_sender_from_anyone)}",
        f"Registration lock: {_yes(account.registration_lock)}",
        f"Recovery password: {_yes(account.recovery_password)}",
        "",
        "# Devices",
    ]
    for device in data.devices:
        lines += [
            f"- ID: {device.id}",
            f"  Created: {device.created}",
            f"  Last seen: {device.last_seen}",
            f"  Messages waiting, encrypted: {device.envelopes_waiting}",
        ]
    return "\n".join(lines) + "\n"


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()


def _yes(value: bool) -> str:
    return "yes" if value else "no"
