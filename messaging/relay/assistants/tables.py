"""What assistants say of themselves, for operators to see."""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base, RowId


class AssistantReportRow(Base):
    """What an assistant last said of itself: evidence over a nonce of the relay's, and its load. A hint, as all that comes from it."""

    __tablename__ = "assistant_reports"
    account_id: Mapped[int] = mapped_column(RowId, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    nonce: Mapped[bytes | None] = mapped_column(LargeBinary)  # 32 bytes, asked for next
    nonce_at: Mapped[int | None] = mapped_column(BigInteger)
    evidence_nonce: Mapped[bytes | None] = mapped_column(LargeBinary)  # that the bundle answers
    bundle: Mapped[bytes | None] = mapped_column(LargeBinary)  # attestation.Bundle, encoded
    reported_at: Mapped[int | None] = mapped_column(BigInteger)
    load: Mapped[dict[str, Any]] = mapped_column(JSON)
