"""The tables of the whole contract: linking, locks, parked envelopes, gaps, messages to many, reports, generations."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EXPIRING = (
    "deleted_accounts",
    "provisioning",
    "used_link_tokens",
    "payloads",
    "remembered_sends",
    "spam_reports",
    "attachments",
)


def added_columns() -> list[tuple[str, list[sa.Column[Any]]]]:
    """What tables of the first version get."""
    return [
        (
            "accounts",
            [
                sa.Column("discoverable", sa.Boolean(), server_default=sa.true(), nullable=False),
                sa.Column("created_on", sa.BigInteger(), server_default="0", nullable=False),
                sa.Column("lock_salt", sa.LargeBinary(), nullable=True),
                sa.Column("lock_hash", sa.LargeBinary(), nullable=True),
                sa.Column("recovery_salt", sa.LargeBinary(), nullable=True),
                sa.Column("recovery_hash", sa.LargeBinary(), nullable=True),
                sa.Column("role", sa.String(16), nullable=True, server_default="member"),
            ],
        ),
        (
            "devices",
            [
                sa.Column("created_on", sa.BigInteger(), server_default="0", nullable=False),
                sa.Column("seen_on", sa.BigInteger(), server_default="0", nullable=False),
            ],
        ),
        (
            "mailboxes",
            [sa.Column("connections", sa.BigInteger(), server_default="0", nullable=False)],
        ),
        (
            "verification_sessions",
            [
                sa.Column("role", sa.String(16), nullable=True),
                sa.Column("new_account_only", sa.Boolean(), nullable=False, server_default=sa.false()),
                sa.Column("account_id", sa.BigInteger(), nullable=True),
            ],
        ),
        (
            "envelopes",
            [
                sa.Column("deliveries", sa.SmallInteger(), server_default="0", nullable=False),
                sa.Column("prefix", sa.LargeBinary(), nullable=True),
                sa.Column("payload_id", sa.BigInteger(), nullable=True),
            ],
        ),
    ]


def upgrade() -> None:
    """Go forward: columns with defaults and new tables only, so that relays of the version before go on meanwhile."""
    for table, columns in added_columns():
        for column in columns:
            op.add_column(table, column)
    op.create_index(
        op.f("ix_envelopes_payload_id"),
        "envelopes",
        ["payload_id"],
        postgresql_where=sa.text("payload_id IS NOT NULL"),
        sqlite_where=sa.text("payload_id IS NOT NULL"),
    )
    op.create_table(
        "deleted_accounts",
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("aci", sa.Uuid(), nullable=False),
        sa.Column("pni", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number_hash", name=op.f("pk_deleted_accounts")),
    )
    op.create_table(
        "provisioning",
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address_hash", name=op.f("pk_provisioning")),
    )
    op.create_table(
        "used_link_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("device_id", sa.SmallInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_used_link_tokens")),
    )
    op.create_table(
        "payloads",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payloads")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "gaps",
        sa.Column("mailbox_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("mailbox_id", "first", name=op.f("pk_gaps")),
    )
    op.create_table(
        "remembered_sends",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name=op.f("pk_remembered_sends")),
    )
    op.create_table(
        "spam_reports",
        sa.Column("reported", sa.Uuid(), nullable=False),
        sa.Column("report_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reporter_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reported", "report_hash", name=op.f("pk_spam_reports")),
    )
    op.create_table(
        "generations",
        sa.Column("relay", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relay", name=op.f("pk_generations")),
    )
    op.create_table(
        "attachments",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("lasting", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name=op.f("pk_attachments")),
    )
    op.create_table(
        "attachment_pieces",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", "start", name=op.f("pk_attachment_pieces")),
        sa.UniqueConstraint("name", name=op.f("uq_attachment_pieces_name")),
    )
    op.create_table(
        "profiles",
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=True),
        sa.Column("about", sa.LargeBinary(), nullable=True),
        sa.Column("about_emoji", sa.LargeBinary(), nullable=True),
        sa.Column("payment_address", sa.LargeBinary(), nullable=True),
        sa.Column("phone_number_sharing", sa.LargeBinary(), nullable=True),
        sa.Column("avatar", sa.String(64), nullable=True),
        sa.Column("avatar_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "version", name=op.f("pk_profiles")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_profiles_account_id_accounts"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_profiles_avatar_hash"), "profiles", ["avatar_hash"])
    op.create_table(
        "usernames",
        sa.Column("username_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("link_handle", sa.Uuid(), nullable=True),
        sa.Column("encrypted_username", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("username_hash", name=op.f("pk_usernames")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_usernames_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("link_handle", name=op.f("uq_usernames_link_handle")),
    )
    op.create_index(op.f("ix_usernames_account_id"), "usernames", ["account_id"])
    op.create_table(
        "invites",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invites")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_invites_code_hash")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "grants",
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("limit_name", sa.String(64), nullable=False),
        sa.Column("size", sa.Float(), nullable=False),
        sa.Column("refill", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "limit_name", name=op.f("pk_grants")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_grants_account_id_accounts"), ondelete="CASCADE"
        ),
    )
    for table in EXPIRING:
        op.create_index(op.f(f"ix_{table}_expires_at"), table, ["expires_at"])


def downgrade() -> None:
    """Go back. What only the new version knows is lost; parked envelopes are delivered again, messages to many are not."""
    op.execute("DELETE FROM envelopes WHERE payload_id IS NOT NULL")
    for table in (
        "grants",
        "invites",
        "usernames",
        "profiles",
        "generations",
        "attachment_pieces",
        *reversed(EXPIRING),
        "gaps",
    ):
        op.drop_table(table)
    op.drop_index(op.f("ix_envelopes_payload_id"), "envelopes")
    for table, columns in added_columns():
        for column in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column.name}")  # in place, also in SQLite
