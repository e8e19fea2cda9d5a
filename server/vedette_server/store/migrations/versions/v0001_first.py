"""The first schema: records in a chain, events as they stand, the chain's two ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "vedette_records",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_vedette_records"),
    )
    op.create_index("ix_vedette_records_event", "vedette_records", ["event_id", "number"])
    held = sa.text("content IS NOT NULL AND event_id <> ''")
    op.create_index("ix_vedette_records_held", "vedette_records", ["number"], sqlite_where=held, postgresql_where=held)
    op.create_table(
        "vedette_events",
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("record", sa.BigInteger, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("acknowledged", sa.Boolean, nullable=False),
        sa.Column("start_s", sa.Double, nullable=False),
        sa.Column("until_s", sa.Double, nullable=False),
        sa.Column("lasting", sa.Boolean, nullable=False),
        sa.Column("evidence_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_vedette_events"),
        sa.UniqueConstraint("record", name="uq_vedette_events_record"),
        sa.ForeignKeyConstraint(
            ["record"], ["vedette_records.number"], name="fk_vedette_events_record_vedette_records"
        ),
    )
    _index_events()
    chain = op.create_table(
        "vedette_chain",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("base_length", sa.BigInteger, nullable=False),
        sa.Column("base_hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vedette_chain"),
        sa.CheckConstraint("id = 1", name=op.f("ck_vedette_chain_one")),
    )
    genesis = bytes(32)
    op.bulk_insert(chain, [{"id": 1, "length": 0, "hash": genesis, "base_length": 0, "base_hash": genesis}])


def _index_events() -> None:
    page = ["start_s", "event_id"]
    op.create_index("ix_vedette_events_start", "vedette_events", page)
    for name in ("channel", "rule", "kind", "label"):
        op.create_index(f"ix_vedette_events_{name}", "vedette_events", [name, *page])
    parts = (
        ("open", page, "acknowledged = false"),
        ("active", page, "state = 'active'"),
        ("lasting", page, "lasting = true"),
        ("files", ["channel", "start_s"], "evidence_bytes > 0"),
    )
    for name, columns, condition in parts:
        where = sa.text(condition)
        op.create_index(
            f"ix_vedette_events_{name}", "vedette_events", columns, sqlite_where=where, postgresql_where=where
        )


def downgrade() -> None:
    """Drop all tables."""
    for name in ("vedette_chain", "vedette_events", "vedette_records"):
        op.drop_table(name)
