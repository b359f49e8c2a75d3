"""Call records, and the files they came in"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "call_imports",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("file_name", sa.String(length=120), nullable=False),
        sa.Column(
            "imported_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("imported_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("kept_count", sa.Integer(), nullable=False),
        sa.Column("known_count", sa.Integer(), nullable=False),
        sa.Column("refused_count", sa.Integer(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["imported_by_id"], ["customers.id"], name=op.f("fk_call_imports_imported_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_imports")),
        sa.UniqueConstraint("public_id", name=op.f("uq_call_imports_public_id")),
    )
    op.create_index(
        op.f("ix_call_imports_imported_at"), "call_imports", ["imported_at"], unique=False
    )
    op.create_table(
        "call_records",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("content_key", sa.String(length=64), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "number_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "import_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("is_out", sa.Boolean(), nullable=False),
        sa.Column("other", sa.String(length=40), nullable=False),
        sa.Column("started_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("month_on", sa.Date(), nullable=False),
        sa.Column("charge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint(
            "(amount_minor > 0) = (charge_id IS NOT NULL)", name=op.f("ck_call_records_charge")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_call_records_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charges.id"], name=op.f("fk_call_records_charge_id")
        ),
        sa.ForeignKeyConstraint(
            ["import_id"], ["call_imports.id"], name=op.f("fk_call_records_import_id")
        ),
        sa.ForeignKeyConstraint(
            ["number_id"], ["phone_numbers.id"], name=op.f("fk_call_records_number_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_records")),
        sa.UniqueConstraint("key", name=op.f("uq_call_records_key")),
    )
    op.create_index(
        op.f("ix_call_records_account_id_month_on_started_at"),
        "call_records",
        ["account_id", "month_on", "started_at"],
        unique=False,
    )
    op.create_index(op.f("ix_call_records_charge_id"), "call_records", ["charge_id"], unique=False)
    op.create_index(
        op.f("ix_call_records_content_key"), "call_records", ["content_key"], unique=False
    )
    op.create_index(op.f("ix_call_records_import_id"), "call_records", ["import_id"], unique=False)
    op.create_index(op.f("ix_call_records_number_id"), "call_records", ["number_id"], unique=False)
    op.create_index(
        op.f("ix_call_records_started_at"), "call_records", ["started_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("call_records")
    op.drop_table("call_imports")
