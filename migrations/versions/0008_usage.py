"""Usage: sessions of lines, and what each carried by day and hour"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("lines") as batch:
        for name in ("reached_down_kbps", "reached_up_kbps"):
            batch.add_column(
                sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
            )
    op.create_table(
        "nases",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("heard_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("rebooted_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("lacks_gigawords", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nases")),
        sa.UniqueConstraint("name", name=op.f("uq_nases_name")),
    )
    op.create_table(
        "usage_sources",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("read_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("failed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_usage_sources_name")),
    )
    op.create_table(
        "usage_days",
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("day_on", sa.Date(), nullable=False),
        sa.Column("up_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "down_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("hours", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_usage_days_line_id")),
        sa.PrimaryKeyConstraint("line_id", "day_on", name=op.f("pk_usage_days")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_sessions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("nas_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("session", sa.String(length=253), nullable=False),
        sa.Column("started_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("counted_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column(
            "counted_seconds", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("seen_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("up_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "down_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("interval_seconds", sa.Integer(), nullable=False),
        sa.Column("is_stale", sa.Boolean(), nullable=False),
        sa.Column("is_stopped", sa.Boolean(), nullable=False),
        sa.Column("is_start_guessed", sa.Boolean(), nullable=False),
        sa.Column("lacks_gigawords", sa.Boolean(), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_usage_sessions_line_id")),
        sa.ForeignKeyConstraint(["nas_id"], ["nases.id"], name=op.f("fk_usage_sessions_nas_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_sessions")),
    )
    op.create_index(
        op.f("ix_usage_sessions_line_id_started_at"),
        "usage_sessions",
        ["line_id", "started_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_usage_sessions_nas_id_session_started_at"),
        "usage_sessions",
        ["nas_id", "session", "started_at"],
        unique=True,
    )
    op.create_index(
        "ix_usage_sessions_running",
        "usage_sessions",
        ["seen_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("usage_sessions")
    op.drop_table("usage_days")
    op.drop_table("usage_sources")
    op.drop_table("nases")
    with op.batch_alter_table("lines") as batch:
        batch.drop_column("reached_up_kbps")
        batch.drop_column("reached_down_kbps")
