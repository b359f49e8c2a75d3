"""Telephone numbers of subscriptions, and what is wanted of them at the switch"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "phone_numbers",
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
            "subscription_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("number", sa.String(length=16), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("ended_on", sa.Date(), nullable=True),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("reached", sa.JSON(), nullable=False),
        sa.Column("pending_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("sync_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("sync_count", sa.Integer(), nullable=False),
        sa.Column("sync_failure", sa.String(length=300), nullable=False),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_phone_numbers_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_phone_numbers_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phone_numbers")),
        sa.UniqueConstraint("public_id", name=op.f("uq_phone_numbers_public_id")),
    )
    op.create_index(
        op.f("ix_phone_numbers_account_id"), "phone_numbers", ["account_id"], unique=False
    )
    op.create_index(
        "ix_phone_numbers_due",
        "phone_numbers",
        ["sync_at"],
        unique=False,
        sqlite_where=sa.text("sync_at IS NOT NULL"),
        postgresql_where=sa.text("sync_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_phone_numbers_number_from_on"),
        "phone_numbers",
        ["number", "from_on"],
        unique=False,
    )
    op.create_index(
        "ix_phone_numbers_pending",
        "phone_numbers",
        ["pending_at"],
        unique=False,
        sqlite_where=sa.text("pending_at IS NOT NULL"),
        postgresql_where=sa.text("pending_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_phone_numbers_subscription_id"), "phone_numbers", ["subscription_id"], unique=False
    )
    op.create_index(
        "uq_phone_numbers_standing",
        "phone_numbers",
        ["number"],
        unique=True,
        sqlite_where=sa.text("ended_on IS NULL"),
        postgresql_where=sa.text("ended_on IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("phone_numbers")
