"""Dated changes of prices, and at which prices days were billed"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "price_changes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        _number("plan_id"),
        sa.Column("from_on", sa.Date(), nullable=False),
        _number("was_minor"),
        _number("price_minor"),
        sa.Column("existing", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        _number("planned_by_id", nullable=True),
        _number("withdrawn_by_id", nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("tell_on", sa.Date(), nullable=False),
        _number("told_id"),
        sa.Column("told_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("told_count", sa.Integer(), nullable=False),
        sa.Column("unreached_count", sa.Integer(), nullable=False),
        _number("off_id"),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('planned', 'done', 'withdrawn')", name=op.f("ck_price_changes_state")
        ),
        sa.CheckConstraint(
            "existing IN ('keep', 'day', 'bill_day')", name=op.f("ck_price_changes_existing")
        ),
        sa.CheckConstraint(
            "price_minor >= 0 AND was_minor >= 0", name=op.f("ck_price_changes_price")
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_price_changes_plan_id")),
        sa.ForeignKeyConstraint(
            ["planned_by_id"], ["customers.id"], name=op.f("fk_price_changes_planned_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["withdrawn_by_id"], ["customers.id"], name=op.f("fk_price_changes_withdrawn_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_changes")),
        sa.UniqueConstraint("public_id", name=op.f("uq_price_changes_public_id")),
    )
    op.create_index(
        "ix_price_changes_due",
        "price_changes",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_price_changes_plan_id_from_on"),
        "price_changes",
        ["plan_id", "from_on"],
        unique=False,
    )
    op.create_index(
        "uq_price_changes_planned",
        "price_changes",
        ["plan_id"],
        unique=True,
        sqlite_where=sa.text("state = 'planned'"),
        postgresql_where=sa.text("state = 'planned'"),
    )
    op.add_column("plans", sa.Column("price_steps", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("subscriptions", _number("price_minor", nullable=True))
    op.add_column("subscriptions", sa.Column("priced_on", sa.Date(), nullable=True))
    op.add_column(
        "subscriptions", sa.Column("billed_prices", sa.JSON(none_as_null=True), nullable=True)
    )
    # The worker reads in this order whom a change of price concerns.
    op.create_index(
        op.f("ix_subscriptions_plan_id_id"), "subscriptions", ["plan_id", "id"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_subscriptions_plan_id_id"), table_name="subscriptions")
    op.drop_column("subscriptions", "billed_prices")
    op.drop_column("subscriptions", "priced_on")
    op.drop_column("subscriptions", "price_minor")
    op.drop_column("plans", "price_steps")
    op.drop_table("price_changes")
