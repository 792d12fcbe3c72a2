"""Invites, and what an invite gives to a verification session and to an account."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
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
    with op.batch_alter_table("accounts", table_kwargs={"sqlite_autoincrement": True}) as accounts:
        accounts.add_column(sa.Column("role", sa.String(16), nullable=True, server_default="member"))
    with op.batch_alter_table("verification_sessions") as sessions:
        sessions.add_column(sa.Column("role", sa.String(16), nullable=True))
        sessions.add_column(sa.Column("new_account_only", sa.Boolean(), nullable=False, server_default=sa.false()))
        sessions.add_column(sa.Column("account_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("verification_sessions") as sessions:
        for column in ("account_id", "new_account_only", "role"):
            sessions.drop_column(column)
    with op.batch_alter_table("accounts", table_kwargs={"sqlite_autoincrement": True}) as accounts:
        accounts.drop_column("role")
    op.drop_table("invites")
