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
        sa.Column("doubted_at", models.UtcDateTime(timezone=True), nullable=True),
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
    with op.batch_alter_table("plans", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "over_rule", sa.String(length=6), server_default=sa.text("''"), nullable=False
            )
        )
        for name in ("slow_down_kbps", "slow_up_kbps", "top_up_bytes", "top_up_minor"):
            batch_op.add_column(
                sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
            )
        batch_op.add_column(sa.Column("top_up_days", sa.Integer(), nullable=True))
        batch_op.create_check_constraint(
            op.f("ck_plans_over_rule"), "over_rule IN ('', 'charge', 'slow', 'stop')"
        )
    _change_reasons("unpaid", "usage", "staff", "pause", "abuse", "imported")
    with op.batch_alter_table("lines", schema=None) as batch_op:
        for name in ("slow_down_kbps", "slow_up_kbps"):
            batch_op.add_column(
                sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
            )
        batch_op.add_column(sa.Column("limited_until_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("alert_percents", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("look_at", models.UtcDateTime(timezone=True), nullable=True))
        batch_op.create_index(
            "ix_lines_look",
            ["look_at"],
            unique=False,
            sqlite_where=sa.text("look_at IS NOT NULL"),
            postgresql_where=sa.text("look_at IS NOT NULL"),
        )
    op.create_table(
        "usage_blocks",
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("period_on", sa.Date(), nullable=False),
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "data_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("charge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charges.id"], name=op.f("fk_usage_blocks_charge_id")
        ),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_usage_blocks_line_id")),
        sa.PrimaryKeyConstraint("line_id", "period_on", "number", name=op.f("pk_usage_blocks")),
    )
    op.create_index(op.f("ix_usage_blocks_charge_id"), "usage_blocks", ["charge_id"], unique=False)
    op.create_table(
        "usage_marks",
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("period_on", sa.Date(), nullable=False),
        sa.Column(
            "subscription_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("began_on", sa.Date(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)
            for name in ("earned", "carried_bytes", "free_bytes", "over_bytes", "spared_bytes")
        ),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_usage_marks_line_id")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_usage_marks_subscription_id")
        ),
        sa.PrimaryKeyConstraint("line_id", "period_on", name=op.f("pk_usage_marks")),
    )
    op.create_table(
        "top_ups",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "amount_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("bought_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("charge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint("amount_bytes > 0", name=op.f("ck_top_ups_amount")),
        sa.ForeignKeyConstraint(["charge_id"], ["charges.id"], name=op.f("fk_top_ups_charge_id")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_top_ups_customer_id")
        ),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_top_ups_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_top_ups")),
        sa.UniqueConstraint("charge_id", name=op.f("uq_top_ups_charge_id")),
        sa.UniqueConstraint("key", name=op.f("uq_top_ups_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_top_ups_public_id")),
    )
    op.create_index(op.f("ix_top_ups_customer_id"), "top_ups", ["customer_id"], unique=False)
    op.create_index(
        op.f("ix_top_ups_line_id_expires_on"), "top_ups", ["line_id", "expires_on"], unique=False
    )
    op.create_table(
        "top_up_uses",
        sa.Column(
            "top_up_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("period_on", sa.Date(), nullable=False),
        sa.Column(
            "used_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["top_up_id"], ["top_ups.id"], name=op.f("fk_top_up_uses_top_up_id")
        ),
        sa.PrimaryKeyConstraint("top_up_id", "period_on", name=op.f("pk_top_up_uses")),
    )
    op.create_table(
        "usage_alerts",
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("period_on", sa.Date(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("told_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_usage_alerts_line_id")),
        sa.PrimaryKeyConstraint("line_id", "period_on", "percent", name=op.f("pk_usage_alerts")),
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
        sa.Column("is_doubted", sa.Boolean(), nullable=False),
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


def _change_reasons(*reasons: str) -> None:
    name = op.f("ck_line_holds_reason")
    values = ", ".join(f"'{reason}'" for reason in reasons)
    with op.batch_alter_table("line_holds", schema=None) as batch_op:
        batch_op.drop_constraint(name, type_="check")
        batch_op.create_check_constraint(name, f"reason IN ({values})")


def downgrade() -> None:
    op.drop_table("top_up_uses")
    op.drop_table("top_ups")
    op.drop_table("usage_blocks")
    op.drop_table("usage_marks")
    op.drop_table("usage_sessions")
    op.drop_table("usage_days")
    op.drop_table("usage_alerts")
    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_lines_look",
            sqlite_where=sa.text("look_at IS NOT NULL"),
            postgresql_where=sa.text("look_at IS NOT NULL"),
        )
        batch_op.drop_column("look_at")
        batch_op.drop_column("alert_percents")
        for name in ("limited_until_on", "slow_up_kbps", "slow_down_kbps"):
            batch_op.drop_column(name)
    op.execute("DELETE FROM line_holds WHERE reason = 'usage'")
    _change_reasons("unpaid", "staff", "pause", "abuse", "imported")
    with op.batch_alter_table("plans", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_plans_over_rule"), type_="check")
        for name in (
            *("over_rule", "slow_down_kbps", "slow_up_kbps"),
            *("top_up_bytes", "top_up_minor", "top_up_days"),
        ):
            batch_op.drop_column(name)
    op.drop_table("usage_sources")
    op.drop_table("nases")
    with op.batch_alter_table("lines") as batch:
        batch.drop_column("reached_up_kbps")
        batch.drop_column("reached_down_kbps")
