"""The table of relay processes: each keeps a row of its own up to date, and reads in it what operators want of it."""

from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, String, Uuid, false
from sqlalchemy.orm import Mapped, mapped_column

from messaging.relay.database import Base


class NodeRow(Base):
    """One relay process, from its start to its end. Times are milliseconds since 1970."""

    __tablename__ = "nodes"
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)  # drawn at the start of the process
    name: Mapped[str] = mapped_column(String(64))  # what the operator calls it
    version: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))  # nodes.State
    drain_asked_at: Mapped[int | None] = mapped_column(BigInteger)
    drain_alone: Mapped[bool] = mapped_column(server_default=false())  # even while no other one serves
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)  # metrics.Snapshot.as_document: counts, no identifiers
