"""Every table, in SQLAlchemy Core. Times are UTC; ids are text (`ids.py`); JSON columns hold small values only."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from sourcebook.database.columns import JSON as JSON
from sourcebook.database.columns import SIZE
from sourcebook.database.columns import UTCDateTime as UTCDateTime

SCHEMA = "0010"
"""The newest migration, named here so that a start on an up-to-date database need not load Alembic."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[str]:
    return Column("id", String(48), primary_key=True)


def _ref(name: str, target: str, *, nullable: bool = False, ondelete: str | None = None) -> Column[str]:
    return Column(name, String(48), ForeignKey(f"{target}.id", ondelete=ondelete), nullable=nullable, index=True)


def _time(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, UTCDateTime(), nullable=nullable)


# Who.

owners = Table("owners", metadata, _id(), Column("name", String(200), nullable=False, unique=True), _time("created_at"))

keys = Table(
    "keys",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    Column("name", String(200), nullable=False, server_default=""),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of 256 random bits needs no salt
    Column("permissions", JSON, nullable=False),
    Column("limits", JSON),  # requests a minute and at a time, where they are not the settings'
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
    _time("used_at", nullable=True),
)

# What.

index_specs = Table(
    "index_specs",
    metadata,
    _id(),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    _time("created_at"),
)

notebooks = Table(
    "notebooks",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    Column("title", String(500), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("pipeline", String(100), nullable=False),
    _ref("index_spec_id", "index_specs"),
    Column("metadata", JSON, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    # How often what is found in it has changed: remembered searches of an older epoch are worth nothing.
    Column("epoch", Integer, nullable=False, server_default="0"),
    _time("created_at"),
    _time("updated_at"),
    _time("used_at", nullable=True),  # asked, searched or changed; questions count to the minute
    _time("deleted_at", nullable=True),
)

grants = Table(
    "grants",
    metadata,
    _id(),
    _ref("notebook_id", "notebooks", ondelete="CASCADE"),
    _ref("owner_id", "owners"),
    Column("permission", String(10), nullable=False),  # read, write
    _time("created_at"),
    UniqueConstraint("notebook_id", "owner_id"),
)

sources = Table(
    "sources",
    metadata,
    _id(),
    _ref("notebook_id", "notebooks"),
    _ref("parent_id", "sources", nullable=True),
    Column("name", String(500), nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("url", Text),
    Column("blob_key", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("size", SIZE, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    # What reading it and all that was found inside has taken; counted at the top of a tree of members.
    Column("tree_seconds", sa.Float, nullable=False, server_default="0"),
    _time("created_at"),
    _time("updated_at"),
    _time("deleted_at", nullable=True),
    Index("ix_sources_same_bytes", "notebook_id", "sha256"),
)

documents = Table(
    "documents",
    metadata,
    _id(),
    _ref("source_id", "sources"),
    Column("sha256", String(64), nullable=False),
    Column("parser", String(200), nullable=False),  # name, version and settings
    Column("length", Integer, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("complete", Boolean, nullable=False),
    _time("created_at"),
)

document_segments = Table(
    "document_segments",
    metadata,
    Column("document_id", String(48), ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("start", Integer, primary_key=True, autoincrement=False),
    Column("end", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("blocks", LargeBinary, nullable=False),  # JSON, read whole and never queried
    Column("locators", LargeBinary, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    _id(),
    _ref("source_id", "sources"),
    _ref("document_id", "documents", nullable=True),
    _ref("index_spec_id", "index_specs"),
    Column("state", String(20), nullable=False),  # queued ... ready, failed; superseded by a later one
    Column("problem", JSON),
    Column("passages", Integer, nullable=False, server_default="0"),
    # New bytes of the source, which become its own when this generation is ready; NULL: it reads what the source has.
    Column("blob_key", String(64)),
    Column("content", JSON),  # sha256, size, media_type, url, metadata
    _time("created_at"),
    _time("ready_at", nullable=True),
    Index("ix_generations_source_state", "source_id", "state"),
)

passages = Table(
    "passages",
    metadata,
    Column("id", String(36), primary_key=True),
    _ref("generation_id", "generations"),
    Column("ordinal", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("context", Text, nullable=False, server_default=""),
    Column("parent_start", Integer),
    Column("parent_end", Integer),
    UniqueConstraint("generation_id", "ordinal"),
)

embedding_cache = Table(
    "embedding_cache",
    metadata,
    Column("owner_id", String(48), ForeignKey("owners.id"), primary_key=True),
    Column("identity", String(300), primary_key=True),
    Column("kind", String(10), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("space", String(100), primary_key=True),
    Column("vector", LargeBinary, nullable=False),  # float32, little endian
    _time("created_at"),
)

# Work.

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    Column("kind", String(20), nullable=False),
    _ref("notebook_id", "notebooks", nullable=True),
    _ref("source_id", "sources", nullable=True),
    _ref("generation_id", "generations", nullable=True),
    Column("payload", JSON, nullable=False),
    Column("state", String(20), nullable=False),  # queued, leased, done, failed, cancelled
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),  # leases, ended by whatever
    Column("failures", Integer, nullable=False, server_default="0"),  # since it was queued or retried
    Column("worker", String(100)),
    _time("lease_until", nullable=True),
    _time("run_at"),
    Column("cancel", Boolean, nullable=False, server_default=sa.false()),
    Column("checkpoint", JSON, nullable=False),
    Column("problem", JSON),
    _time("created_at"),
    _time("updated_at"),
    Index("ix_jobs_next", "state", "priority", "run_at"),
    Index("ix_jobs_share", "state", "owner_id", "priority", "run_at"),
)

owner_turns = Table(
    "owner_turns",
    metadata,
    Column("owner_id", String(48), ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("turn", BigInteger, nullable=False),  # the latest that was served has the highest
)

reindexes = Table(
    "reindexes",
    metadata,
    _id(),
    _ref("notebook_id", "notebooks"),
    _ref("from_spec_id", "index_specs"),
    _ref("to_spec_id", "index_specs"),
    Column("pipeline", String(100), nullable=False),  # the notebook's from the switch on
    Column("state", String(20), nullable=False),  # building, switched, failed, cancelled, rolled_back, dropped
    Column("job_id", String(48), nullable=False),
    Column("estimate", JSON, nullable=False),
    Column("problem", JSON),
    _time("created_at"),
    _time("switched_at", nullable=True),
    _time("finished_at", nullable=True),
)

deletions = Table(
    "deletions",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    Column("kind", String(20), nullable=False),  # source, notebook, owner
    Column("subject_id", String(48), nullable=False, index=True),
    Column("report", JSON, nullable=False),
    _time("created_at"),
    _time("finished_at", nullable=True),
)

# Answers.

conversations = Table(
    "conversations",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    Column("title", String(500), nullable=False, server_default=""),
    Column("notebooks", JSON, nullable=False),
    Column("origin", String(20), nullable=False, server_default=""),  # "openai": came over /v1
    Column("version", Integer, nullable=False, server_default="1"),
    _time("created_at"),
    _time("updated_at"),
    _time("deleted_at", nullable=True),
)

messages = Table(
    "messages",
    metadata,
    _id(),
    _ref("conversation_id", "conversations", ondelete="CASCADE"),
    Column("role", String(10), nullable=False),
    Column("text", Text, nullable=False),
    Column("reasoning", Text, nullable=False, server_default=""),
    Column("state", String(20), nullable=False),  # complete, incomplete
    Column("details", JSON, nullable=False),  # of a question: how it was asked; of an answer: llm, usage, finish
    _time("replaced_at", nullable=True),  # by an edited question or another answer
    _time("created_at"),
)

citations = Table(
    "citations",
    metadata,
    _id(),
    _ref("message_id", "messages", ondelete="CASCADE"),
    Column("n", Integer, nullable=False),
    _ref("source_id", "sources", nullable=True),
    _ref("document_id", "documents", nullable=True),
    Column("passage_id", String(36)),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("quote", Text, nullable=False),
    Column("answer_start", Integer, nullable=False),
    Column("answer_end", Integer, nullable=False),
    Column("supported", Boolean, nullable=False),
    Column("removed_at", UTCDateTime()),
)

notes = Table(
    "notes",
    metadata,
    _id(),
    _ref("notebook_id", "notebooks"),
    Column("title", String(500), nullable=False, server_default=""),
    Column("text", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    _time("created_at"),
    _time("updated_at"),
)

note_citations = Table(
    "note_citations",
    metadata,
    Column("note_id", String(48), ForeignKey("notes.id", ondelete="CASCADE"), primary_key=True),
    Column("citation_id", String(48), ForeignKey("citations.id"), primary_key=True),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _ref("owner_id", "owners"),
    _ref("conversation_id", "conversations", ondelete="CASCADE"),
    _ref("message_id", "messages", nullable=True, ondelete="SET NULL"),
    Column("state", String(20), nullable=False),  # running, done, cancelled, failed
    Column("worker", String(100)),
    _time("lease_until", nullable=True),
    Column("cancel", Boolean, nullable=False, server_default=sa.false()),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    _time("followed_until", nullable=True),  # by a client of another process
    _time("created_at"),
    _time("finished_at", nullable=True),
    Index("ix_runs_state", "state", "lease_until"),
)

run_segments = Table(
    "run_segments",
    metadata,
    Column("run_id", String(48), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", Integer, nullable=False),
    Column("frames", LargeBinary, nullable=False),
)

run_traces = Table(
    "run_traces",
    metadata,
    Column("run_id", String(48), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("trace", LargeBinary, nullable=False),  # `trace.packed`
)

server_secrets = Table(
    "server_secrets",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("value", String(200), nullable=False),
)

# One row: the revision that the database has, and the oldest one whose code can go on with it.
schema_compatible = Table(
    "schema_compatible",
    metadata,
    Column("revision", String(32), primary_key=True),
    Column("since", String(32), nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner_id", String(48), ForeignKey("owners.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer),
    Column("response", LargeBinary),
    _time("created_at"),
)
