"""Operators, their audit log, and what a console reads and sets: settings, nodes, reports of assistants.

Relays of the version before work on this schema: what is new has defaults, and they look at none of it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NEW_TABLES = (
    "assistant_releases",
    "assistant_reports",
    "nodes",
    "operator_settings",
    "sign_in_tries",
    "admin_tokens",
    "challenges",
    "enrolments",
    "sign_ins",
    "recovery_codes",
    "passkeys",
    "proposals",
    "operators",
    "audit_turn",
    "audit_entries",
)

INDICES = (
    ("ix_accounts_bots", "accounts", ["id"], "role = 'bot'"),
    ("ix_accounts_suspended", "accounts", ["id"], "suspended_at IS NOT NULL"),
    ("ix_deleted_accounts_aci", "deleted_accounts", ["aci"], None),
    ("ix_envelopes_parked", "envelopes", ["mailbox_id", "sequence"], "deliveries >= 5"),
    ("ix_usernames_expires_at", "usernames", ["expires_at"], "expires_at IS NOT NULL"),
)


def upgrade() -> None:
    _indices(*(each for each in INDICES if each[1] != "accounts"))
    _audit()
    _operators()
    _relays()
    # Last: from here on until the end nobody reads accounts, and every request does.
    op.add_column("accounts", sa.Column("suspended_at", sa.BigInteger(), nullable=True))
    op.add_column("accounts", sa.Column("drained", sa.Boolean(), server_default=sa.false(), nullable=False))
    _indices(*(each for each in INDICES if each[1] == "accounts"))


def _indices(*indices: tuple[str, str, list[str], str | None]) -> None:
    """Of the few rows among many that operators ask for; none of them is in the way of the version before."""
    for name, table, columns, where in indices:
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def _audit() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.String(64), nullable=False),
        sa.Column("via", sa.String(16), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_entries"),
    )
    for column in ("at", "operator", "action", "subject"):
        op.create_index(f"ix_audit_entries_{column}", "audit_entries", [column])
    turn = op.create_table(
        "audit_turn",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_turn"),
    )
    op.bulk_insert(turn, [{"id": 1, "entries": 0}])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_entries_stay() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit entries are never changed'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_stay()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_entries_stay_{verb.lower()} BEFORE {verb} ON audit_entries "
            "BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END"
        )


def _operators() -> None:
    op.create_table(
        "operators",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("handle", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("folded_name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("totp_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("oidc_subject", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operators"),
        sa.UniqueConstraint("handle", name="uq_operators_handle"),
        sa.UniqueConstraint("name", name="uq_operators_name"),
        sa.UniqueConstraint("folded_name", name="uq_operators_folded_name"),
        sa.UniqueConstraint("oidc_subject", name="uq_operators_oidc_subject"),
    )
    op.create_table(
        "proposals",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=False),
        sa.Column("operator", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
        _of_operator("proposals"),
    )
    op.create_table(
        "passkeys",
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("credential_id", name="pk_passkeys"),
        _of_operator("passkeys"),
    )
    op.create_index("ix_passkeys_operator_id", "passkeys", ["operator_id"])
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name="pk_recovery_codes"),
        _of_operator("recovery_codes"),
    )
    op.create_index("ix_recovery_codes_operator_id", "recovery_codes", ["operator_id"])
    op.create_table(
        "sign_ins",
        sa.Column("id_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("browser", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id_hash", name="pk_sign_ins"),
        _of_operator("sign_ins"),
    )
    op.create_index("ix_sign_ins_operator_id", "sign_ins", ["operator_id"])
    op.create_table(
        "enrolments",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(16), nullable=True),
        sa.Column("operator_id", ROW_ID, nullable=True),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code_hash", name="pk_enrolments"),
        _of_operator("enrolments"),
    )
    op.create_table(
        "challenges",
        sa.Column("challenge_hash", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("challenge_hash", name="pk_challenges"),
        _of_operator("challenges"),
    )
    op.create_index("ix_challenges_expires_at", "challenges", ["expires_at"])
    op.create_table(
        "admin_tokens",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("permissions", sa.String(2048), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_admin_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_admin_tokens_token_hash"),
        _of_operator("admin_tokens"),
    )
    op.create_index("ix_admin_tokens_operator_id", "admin_tokens", ["operator_id"])
    op.create_table(
        "sign_in_tries",
        sa.Column("who_hash", sa.LargeBinary(), nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("who_hash", "minute", name="pk_sign_in_tries"),
    )


def _relays() -> None:
    op.create_table(
        "operator_settings",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="pk_operator_settings"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("drain_asked_at", sa.BigInteger(), nullable=True),
        sa.Column("drain_alone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    op.create_table(
        "assistant_reports",
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=True),
        sa.Column("nonce_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence_nonce", sa.LargeBinary(), nullable=True),
        sa.Column("evidence_at", sa.BigInteger(), nullable=True),
        sa.Column("bundle", sa.LargeBinary(), nullable=True),
        sa.Column("reported_at", sa.BigInteger(), nullable=True),
        sa.Column("load", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_assistant_reports"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_assistant_reports_account_id_accounts", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "assistant_releases",
        sa.Column("account_id", ROW_ID, nullable=False),
        sa.Column("release", sa.String(128), nullable=False),
        sa.Column("measurement", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "release", "measurement", name="pk_assistant_releases"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_assistant_releases_account_id_accounts", ondelete="CASCADE"
        ),
    )


def _of_operator(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_operator_id_operators"
    return sa.ForeignKeyConstraint(["operator_id"], ["operators.id"], name=name, ondelete="CASCADE")


def downgrade() -> None:
    for table in NEW_TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_entries_stay()")
    for name, table, _columns, _where in INDICES:
        op.drop_index(name, table)
    with op.batch_alter_table("accounts") as table:
        table.drop_column("drained")
        table.drop_column("suspended_at")
