"""Pauses and moves, the days on which a subscription is paused, and the taxes of charges"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moves",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("address", sa.JSON(), nullable=False),
        sa.Column("wished_on", sa.Date(), nullable=False),
        sa.Column("note", sa.String(length=300), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("move_on", sa.Date(), nullable=True),
        sa.Column("area_code", sa.String(length=20), nullable=True),
        sa.Column("change_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("answer", sa.String(length=300), nullable=False),
        sa.Column(
            "decided_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('asked', 'planned', 'done', 'undone', 'refused')",
            name=op.f("ck_moves_state"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_moves_account_id")),
        sa.ForeignKeyConstraint(["area_code"], ["areas.code"], name=op.f("fk_moves_area_code")),
        sa.ForeignKeyConstraint(
            ["change_id"], ["plan_changes.id"], name=op.f("fk_moves_change_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_moves_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["customers.id"], name=op.f("fk_moves_decided_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
        sa.UniqueConstraint("public_id", name=op.f("uq_moves_public_id")),
    )
    for name in ("account_id", "change_id", "customer_id"):
        op.create_index(op.f(f"ix_moves_{name}"), "moves", [name], unique=False)
    for name, columns, is_unique, where in (
        ("ix_moves_asked", ["created_at"], False, "state = 'asked'"),
        ("ix_moves_due", ["due_at"], False, "due_at IS NOT NULL"),
        ("uq_moves_waiting", ["account_id"], True, "state IN ('asked', 'planned')"),
    ):
        op.create_index(
            name,
            "moves",
            columns,
            unique=is_unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "pauses",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date(), nullable=False),
        sa.Column("counts_until_on", sa.Date(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column(
            "subscription_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("is_prolonging", sa.Boolean(), nullable=False),
        sa.Column("prolonged", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("quote", sa.JSON(), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('planned', 'running', 'done', 'undone')", name=op.f("ck_pauses_state")
        ),
        sa.CheckConstraint("until_on >= from_on", name=op.f("ck_pauses_span")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_pauses_account_id")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_pauses_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_pauses_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
        sa.UniqueConstraint("public_id", name=op.f("uq_pauses_public_id")),
    )
    op.create_index(op.f("ix_pauses_account_id"), "pauses", ["account_id"], unique=False)
    op.create_index(op.f("ix_pauses_customer_id"), "pauses", ["customer_id"], unique=False)
    op.create_index(
        "ix_pauses_due",
        "pauses",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_pauses_subscription_id"), "pauses", ["subscription_id"], unique=False)
    op.create_index(
        "uq_pauses_standing",
        "pauses",
        ["account_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('planned', 'running')"),
        postgresql_where=sa.text("state IN ('planned', 'running')"),
    )
    op.add_column("charges", sa.Column("taxes", sa.JSON(), nullable=True))
    for name in ("paused", "billed_paused"):
        op.add_column(
            "subscriptions",
            sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False),
        )
    op.add_column("subscriptions", sa.Column("elsewhere_until_on", sa.Date(), nullable=True))


def downgrade() -> None:
    op.drop_column("charges", "taxes")
    op.drop_column("subscriptions", "elsewhere_until_on")
    op.drop_column("subscriptions", "billed_paused")
    op.drop_column("subscriptions", "paused")
    op.drop_table("pauses")
    op.drop_table("moves")
