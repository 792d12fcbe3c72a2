"""The table of relay processes: each keeps a row of its own up to date, and reads in it what operators want of it."""

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base


class NodeRow(Base):
    """One relay process, from its start to its end. Times are milliseconds since 1970."""

    __tablename__ = "nodes"
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)  # drawn at the start of the process
    name: Mapped[str] = mapped_column(String(64))  # what the operator calls it
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[int] = mapped_column(BigInteger, index=True)
    state: Mapped[str] = mapped_column(String(16))  # nodes.State: ready, draining, ended
    drain_asked_at: Mapped[int | None] = mapped_column(BigInteger)
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)  # metrics.Figures: counts, no identifiers
