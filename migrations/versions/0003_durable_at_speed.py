"""A version for each mailbox, by which a send that was planned from memory is checked in the transaction that stores it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mailboxes", sa.Column("version", sa.BigInteger(), server_default="0", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        # A row is updated by each message: with room in its page the new version needs no index entry (HOT).
        op.execute("ALTER TABLE mailboxes SET (fillfactor = 50)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE mailboxes RESET (fillfactor)")
    with op.batch_alter_table("mailboxes") as table:
        table.drop_column("version")
