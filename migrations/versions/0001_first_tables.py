"""The first tables: accounts, devices, prekeys, mailboxes, envelopes, verification sessions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "accounts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("aci", sa.Uuid(), nullable=False),
        sa.Column("pni", sa.Uuid(), nullable=True),
        sa.Column("number_hash", sa.LargeBinary(), nullable=True),
        sa.Column("assistant_name", sa.String(64), nullable=True),
        sa.Column("aci_identity_key", sa.LargeBinary(), nullable=False),
        sa.Column("pni_identity_key", sa.LargeBinary(), nullable=True),
        sa.Column("access_key", sa.LargeBinary(), nullable=True),
        sa.Column("unrestricted_access", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("aci", name=op.f("uq_accounts_aci")),
        sa.UniqueConstraint("pni", name=op.f("uq_accounts_pni")),
        sa.UniqueConstraint("number_hash", name=op.f("uq_accounts_number_hash")),
        sa.UniqueConstraint("assistant_name", name=op.f("uq_accounts_assistant_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mailboxes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailboxes")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "envelopes",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "sequence", name=op.f("pk_envelopes")),
    )
    op.create_table(
        "devices",
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("device_id", sa.SmallInteger(), nullable=False),
        sa.Column("mailbox_id", ROW_ID, nullable=False),
        sa.Column("registration_id", sa.SmallInteger(), nullable=False),
        sa.Column("pni_registration_id", sa.SmallInteger(), nullable=True),
        sa.Column("password_salt", sa.LargeBinary(), nullable=False),
        sa.Column("password_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=True),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "device_id", name=op.f("pk_devices")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_devices_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["mailbox_id"], ["mailboxes.id"], name=op.f("fk_devices_mailbox_id_mailboxes")),
        sa.UniqueConstraint("mailbox_id", name=op.f("uq_devices_mailbox_id")),
    )
    for table in ("signed_prekeys", "last_resort_kyber_prekeys"):
        op.create_table(
            table,
            *_owner(),
            *_key(),
            sa.Column("signature", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint("account_id", "device_id", "identity", name=op.f(f"pk_{table}")),
            _of_device(table),
        )
    for table, more in (
        ("one_time_prekeys", []),
        ("one_time_kyber_prekeys", [sa.Column("signature", sa.LargeBinary(), nullable=False)]),
    ):
        op.create_table(
            table,
            sa.Column("id", ROW_ID, nullable=False),
            *_owner(),
            *_key(),
            *more,
            sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
            _of_device(table),
            sqlite_autoincrement=True,
        )
        columns = ["account_id", "device_id", "identity", "id"]
        op.create_index(op.f(f"ix_{table}_account_id_device_id_identity_id"), table, columns)
    op.create_table(
        "verification_sessions",
        sa.Column("id_hash", sa.LargeBinary(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_number", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("codes_sent", sa.SmallInteger(), nullable=False),
        sa.Column("next_code_at", sa.BigInteger(), nullable=False),
        sa.Column("code_mac", sa.LargeBinary(), nullable=True),
        sa.Column("code_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_hash", name=op.f("pk_verification_sessions")),
    )
    op.create_index(op.f("ix_verification_sessions_expires_at"), "verification_sessions", ["expires_at"])


def downgrade() -> None:
    """Go back."""
    for table in (
        "verification_sessions",
        "one_time_kyber_prekeys",
        "one_time_prekeys",
        "last_resort_kyber_prekeys",
        "signed_prekeys",
        "devices",
        "envelopes",
        "mailboxes",
        "accounts",
    ):
        op.drop_table(table)


def _owner() -> list[sa.Column[Any]]:
    return [
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("device_id", sa.SmallInteger(), nullable=False),
        sa.Column("identity", sa.String(3), nullable=False),
    ]


def _key() -> list[sa.Column[Any]]:
    return [
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
    ]


def _of_device(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id", "device_id"],
        ["devices.account_id", "devices.device_id"],
        name=op.f(f"fk_{table}_account_id_device_id_devices"),
        ondelete="CASCADE",
    )
