"""Billing in full: methods, planned payments, what comes back, vouchers, bank files, dunning"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NEW_KINDS = ("refund", "chargeback", "return", "transfer")
_KINDS = ("opening", "invoice", "payment", "adjustment", "reversal", "credit_note")


def upgrade() -> None:
    op.create_table(
        "customer_groups",
        sa.Column("code", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("dunning", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_customer_groups")),
    )
    op.create_table(
        "bank_imports",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("file_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("file_name", sa.String(length=120), nullable=False),
        sa.Column(
            "imported_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("imported_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["imported_by_id"], ["customers.id"], name=op.f("fk_bank_imports_imported_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_imports")),
        sa.UniqueConstraint("file_hash", name=op.f("uq_bank_imports_file_hash")),
        sa.UniqueConstraint("public_id", name=op.f("uq_bank_imports_public_id")),
    )
    op.create_table(
        "voucher_batches",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("voucher_count", sa.Integer(), nullable=False),
        sa.Column(
            "made_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("made_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=True),
        sa.Column("cancelled_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["made_by_id"], ["customers.id"], name=op.f("fk_voucher_batches_made_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_voucher_batches")),
        sa.UniqueConstraint("public_id", name=op.f("uq_voucher_batches_public_id")),
    )
    op.create_table(
        "arrangements",
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
        sa.Column(
            "agreed_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column(
            "total_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('standing', 'kept', 'broken', 'cancelled')",
            name=op.f("ck_arrangements_state"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_arrangements_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["agreed_by_id"], ["customers.id"], name=op.f("fk_arrangements_agreed_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_arrangements_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrangements")),
        sa.UniqueConstraint("public_id", name=op.f("uq_arrangements_public_id")),
    )
    with op.batch_alter_table("arrangements", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_arrangements_account_id_created_at"),
            ["account_id", "created_at"],
            unique=False,
        )
        batch_op.create_index(
            "uq_arrangements_standing",
            ["account_id"],
            unique=True,
            sqlite_where=sa.text("state = 'standing'"),
            postgresql_where=sa.text("state = 'standing'"),
        )

    op.create_table(
        "dunning_rests",
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
        sa.Column("until_on", sa.Date(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column(
            "made_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("made_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_dunning_rests_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["made_by_id"], ["customers.id"], name=op.f("fk_dunning_rests_made_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dunning_rests")),
        sa.UniqueConstraint("public_id", name=op.f("uq_dunning_rests_public_id")),
    )
    with op.batch_alter_table("dunning_rests", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dunning_rests_account_id_until_on"),
            ["account_id", "until_on"],
            unique=False,
        )

    op.create_table(
        "gateway_customers",
        sa.Column("gateway", sa.String(length=20), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("reference", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_gateway_customers_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_gateway_customers_customer_id")
        ),
        sa.PrimaryKeyConstraint(
            "gateway", "customer_id", "account_id", name=op.f("pk_gateway_customers")
        ),
    )
    op.create_table(
        "payment_methods",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("gateway", sa.String(length=20), nullable=False),
        sa.Column("gateway_reference", sa.String(length=120), nullable=True),
        sa.Column("hosted_url", sa.String(length=2000), nullable=True),
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=True),
        sa.Column("told_on", sa.Date(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("failure", sa.String(length=300), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ask_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ask_count", sa.Integer(), nullable=False),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('card', 'bank')", name=op.f("ck_payment_methods_kind")),
        sa.CheckConstraint(
            "state IN ('adding', 'usable', 'failed', 'removed')",
            name=op.f("ck_payment_methods_state"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payment_methods_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_payment_methods_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_methods")),
        sa.UniqueConstraint("key", name=op.f("uq_payment_methods_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_payment_methods_public_id")),
    )
    with op.batch_alter_table("payment_methods", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_payment_methods_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_payment_methods_customer_id"), ["customer_id"], unique=False
        )
        batch_op.create_index(
            "ix_payment_methods_due",
            ["ask_at"],
            unique=False,
            sqlite_where=sa.text("ask_at IS NOT NULL"),
            postgresql_where=sa.text("ask_at IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_payment_methods_default",
            ["account_id", "customer_id"],
            unique=True,
            sqlite_where=sa.text("is_default"),
            postgresql_where=sa.text("is_default"),
        )

    op.create_table(
        "adjustments",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("is_credit", sa.Boolean(), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("state", sa.String(length=7), nullable=False),
        sa.Column(
            "asked_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "approved_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("amounts", sa.JSON(), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint(
            "(state = 'booked') = (entry_id IS NOT NULL)", name=op.f("ck_adjustments_entry")
        ),
        sa.CheckConstraint(
            "state IN ('asked', 'booked', 'refused')", name=op.f("ck_adjustments_state")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_adjustments_amount")),
        sa.CheckConstraint("approved_by_id <> asked_by_id", name=op.f("ck_adjustments_two_people")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_adjustments_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["approved_by_id"], ["customers.id"], name=op.f("fk_adjustments_approved_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["asked_by_id"], ["customers.id"], name=op.f("fk_adjustments_asked_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["journal_entries.id"], name=op.f("fk_adjustments_entry_id")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_adjustments_invoice_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
        sa.UniqueConstraint("entry_id", name=op.f("uq_adjustments_entry_id")),
        sa.UniqueConstraint("key", name=op.f("uq_adjustments_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_adjustments_public_id")),
    )
    with op.batch_alter_table("adjustments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_adjustments_account_id_created_at"),
            ["account_id", "created_at"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_adjustments_state"), ["state"], unique=False)

    op.create_table(
        "autopay_mandates",
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
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "method_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("days_before", sa.Integer(), nullable=False),
        sa.Column(
            "ceiling_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "range_from_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "range_to_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("consent", sa.Text(), nullable=False),
        sa.Column("consent_language", sa.String(length=10), nullable=False),
        sa.Column("consent_address", sa.String(length=45), nullable=False),
        sa.Column("consented_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended_because", sa.String(length=20), nullable=False),
        sa.CheckConstraint(
            "days_before BETWEEN 0 AND 10", name=op.f("ck_autopay_mandates_days_before")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_autopay_mandates_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_autopay_mandates_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["method_id"], ["payment_methods.id"], name=op.f("fk_autopay_mandates_method_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_autopay_mandates")),
        sa.UniqueConstraint("public_id", name=op.f("uq_autopay_mandates_public_id")),
    )
    with op.batch_alter_table("autopay_mandates", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_autopay_mandates_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            "uq_autopay_mandates_standing",
            ["account_id"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    op.create_table(
        "line_openings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("line_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("until_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_line_openings_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line_openings")),
    )
    with op.batch_alter_table("line_openings", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_line_openings_line_id_from_at"), ["line_id", "from_at"], unique=False
        )

    op.create_table(
        "disputes",
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
        sa.Column(
            "invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column(
            "decided_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "credit_note_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "adjustment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'granted', 'refused', 'withdrawn')", name=op.f("ck_disputes_state")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_disputes_amount")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_disputes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["adjustment_id"], ["adjustments.id"], name=op.f("fk_disputes_adjustment_id")
        ),
        sa.ForeignKeyConstraint(
            ["credit_note_id"], ["invoices.id"], name=op.f("fk_disputes_credit_note_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_disputes_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["customers.id"], name=op.f("fk_disputes_decided_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_disputes_invoice_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disputes")),
        sa.UniqueConstraint("adjustment_id", name=op.f("uq_disputes_adjustment_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_disputes_public_id")),
    )
    with op.batch_alter_table("disputes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_disputes_account_id_created_at"),
            ["account_id", "created_at"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_disputes_state"), ["state"], unique=False)
        batch_op.create_index(
            "uq_disputes_open",
            ["invoice_id", "position"],
            unique=True,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "planned_payments",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("method_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "mandate_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "arrangement_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("failure", sa.String(length=300), nullable=False),
        sa.Column("told_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("try_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('autopay', 'scheduled', 'instalment')", name=op.f("ck_planned_payments_kind")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'asking', 'taking', 'done', 'failed', 'cancelled')",
            name=op.f("ck_planned_payments_state"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_planned_payments_amount")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_planned_payments_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["arrangement_id"], ["arrangements.id"], name=op.f("fk_planned_payments_arrangement_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_planned_payments_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_planned_payments_invoice_id")
        ),
        sa.ForeignKeyConstraint(
            ["mandate_id"], ["autopay_mandates.id"], name=op.f("fk_planned_payments_mandate_id")
        ),
        sa.ForeignKeyConstraint(
            ["method_id"], ["payment_methods.id"], name=op.f("fk_planned_payments_method_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planned_payments")),
        sa.UniqueConstraint("public_id", name=op.f("uq_planned_payments_public_id")),
    )
    with op.batch_alter_table("planned_payments", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_planned_payments_account_id_due_on"),
            ["account_id", "due_on"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_planned_payments_arrangement_id"), ["arrangement_id"], unique=False
        )
        batch_op.create_index(
            "ix_planned_payments_due",
            ["try_at"],
            unique=False,
            sqlite_where=sa.text("try_at IS NOT NULL"),
            postgresql_where=sa.text("try_at IS NOT NULL"),
        )
        batch_op.create_index(
            batch_op.f("ix_planned_payments_method_id"), ["method_id"], unique=False
        )
        batch_op.create_index(
            "uq_planned_payments_autopay",
            ["invoice_id"],
            unique=True,
            sqlite_where=sa.text("kind = 'autopay' AND state <> 'cancelled'"),
            postgresql_where=sa.text("kind = 'autopay' AND state <> 'cancelled'"),
        )

    op.create_table(
        "dispute_posts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "dispute_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("author_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("is_staff", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("posted_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"], ["customers.id"], name=op.f("fk_dispute_posts_author_id")
        ),
        sa.ForeignKeyConstraint(
            ["dispute_id"], ["disputes.id"], name=op.f("fk_dispute_posts_dispute_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispute_posts")),
    )
    with op.batch_alter_table("dispute_posts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dispute_posts_dispute_id"), ["dispute_id"], unique=False
        )

    op.create_table(
        "dunning_steps",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("step", sa.String(length=40), nullable=False),
        sa.Column("taken_on", sa.Date(), nullable=False),
        sa.Column("charge_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_dunning_steps_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charges.id"], name=op.f("fk_dunning_steps_charge_id")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_dunning_steps_invoice_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dunning_steps")),
        sa.UniqueConstraint("invoice_id", "step", name=op.f("uq_dunning_steps_invoice_id_step")),
    )
    with op.batch_alter_table("dunning_steps", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_dunning_steps_account_id_taken_on"),
            ["account_id", "taken_on"],
            unique=False,
        )

    op.create_table(
        "bank_lines",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "import_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("booked_on", sa.Date(), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("payer", sa.String(length=200), nullable=False),
        sa.Column("reference", sa.String(length=400), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "payment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "decided_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.CheckConstraint(
            "(state = 'matched') = (payment_id IS NOT NULL)", name=op.f("ck_bank_lines_matched")
        ),
        sa.CheckConstraint(
            "state IN ('matched', 'proposed', 'unmatched', 'ignored')",
            name=op.f("ck_bank_lines_state"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_bank_lines_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["customers.id"], name=op.f("fk_bank_lines_decided_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["import_id"], ["bank_imports.id"], name=op.f("fk_bank_lines_import_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_bank_lines_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bank_lines")),
        sa.UniqueConstraint("key", name=op.f("uq_bank_lines_key")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_bank_lines_payment_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_bank_lines_public_id")),
    )
    with op.batch_alter_table("bank_lines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bank_lines_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_bank_lines_import_id"), ["import_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_bank_lines_state"), ["state"], unique=False)

    op.create_table(
        "payment_reversals",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=14), nullable=False),
        sa.Column(
            "payment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("gateway_reference", sa.String(length=120), nullable=True),
        sa.Column("decline_reason", sa.String(length=300), nullable=False),
        sa.Column(
            "asked_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "approved_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("ask_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ask_count", sa.Integer(), nullable=False),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'succeeded') = (entry_id IS NOT NULL)",
            name=op.f("ck_payment_reversals_entry"),
        ),
        sa.CheckConstraint(
            "kind IN ('refund', 'chargeback', 'chargeback_won', 'return', 'refund_failed')",
            name=op.f("ck_payment_reversals_kind"),
        ),
        sa.CheckConstraint(
            "state IN ('asked', 'created', 'unknown', 'processing', 'succeeded', 'declined', 'refused')",
            name=op.f("ck_payment_reversals_state"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payment_reversals_amount")),
        sa.CheckConstraint(
            "approved_by_id <> asked_by_id", name=op.f("ck_payment_reversals_two_people")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_payment_reversals_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["approved_by_id"], ["customers.id"], name=op.f("fk_payment_reversals_approved_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["asked_by_id"], ["customers.id"], name=op.f("fk_payment_reversals_asked_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["journal_entries.id"], name=op.f("fk_payment_reversals_entry_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_reversals_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_reversals")),
        sa.UniqueConstraint("entry_id", name=op.f("uq_payment_reversals_entry_id")),
        sa.UniqueConstraint("key", name=op.f("uq_payment_reversals_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_payment_reversals_public_id")),
    )
    with op.batch_alter_table("payment_reversals", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_payment_reversals_account_id_created_at"),
            ["account_id", "created_at"],
            unique=False,
        )
        batch_op.create_index(
            "ix_payment_reversals_due",
            ["ask_at"],
            unique=False,
            sqlite_where=sa.text("ask_at IS NOT NULL"),
            postgresql_where=sa.text("ask_at IS NOT NULL"),
        )
        batch_op.create_index(
            batch_op.f("ix_payment_reversals_payment_id"), ["payment_id"], unique=False
        )

    op.create_table(
        "vouchers",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("redeemed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column(
            "payment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["voucher_batches.id"], name=op.f("fk_vouchers_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_vouchers_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vouchers")),
        sa.UniqueConstraint("batch_id", "serial", name=op.f("uq_vouchers_batch_id_serial")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_vouchers_code_hash")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_vouchers_payment_id")),
    )
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("group_code", sa.String(length=20), nullable=True))
        batch_op.create_foreign_key(
            batch_op.f("fk_accounts_group_code"), "customer_groups", ["group_code"], ["code"]
        )

    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.add_column(sa.Column("billing_rules", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("bank_account", sa.JSON(), nullable=True))

    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "wanted_state",
                sa.String(length=8),
                server_default=sa.text("'open'"),
                nullable=False,
            )
        )
        batch_op.add_column(sa.Column("reached_state", sa.String(length=8), nullable=True))
        batch_op.add_column(
            sa.Column("opened_until_at", models.UtcDateTime(timezone=True), nullable=True)
        )
        batch_op.add_column(sa.Column("sync_at", models.UtcDateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column("sync_count", sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
        batch_op.add_column(
            sa.Column(
                "sync_failure", sa.String(length=300), server_default=sa.text("''"), nullable=False
            )
        )
        batch_op.add_column(
            sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True)
        )
        batch_op.create_index(
            "ix_lines_due",
            ["sync_at"],
            unique=False,
            sqlite_where=sa.text("sync_at IS NOT NULL"),
            postgresql_where=sa.text("sync_at IS NOT NULL"),
        )
        batch_op.create_check_constraint(
            batch_op.f("ck_lines_wanted_state"), "wanted_state IN ('open', 'held', 'closed')"
        )

    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "method_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.add_column(
            sa.Column(
                "planned_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.add_column(
            sa.Column(
                "taken_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.add_column(
            sa.Column("note", sa.String(length=200), server_default=sa.text("''"), nullable=False)
        )
        batch_op.create_index(batch_op.f("ix_payments_planned_id"), ["planned_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_payments_taken_by_id"), "customers", ["taken_by_id"], ["id"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_payments_planned_id"), "planned_payments", ["planned_id"], ["id"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_payments_method_id"), "payment_methods", ["method_id"], ["id"]
        )
    _change_kinds(*_KINDS, *_NEW_KINDS)
    _say_what_lines_want()
    _let_bill_runs_be_asked_for()
    _find_by_day()
    _find_what_is_open()


_DECLINED = sa.text("state = 'declined'")


def _find_by_day() -> None:
    op.create_index(op.f("ix_journal_entries_booked_on"), "journal_entries", ["booked_on"])
    op.create_index(op.f("ix_invoices_issued_on"), "invoices", ["issued_on"])
    op.create_index(op.f("ix_line_holds_line_id"), "line_holds", ["line_id"])
    op.create_index(
        "ix_payments_declined",
        "payments",
        ["ended_at"],
        sqlite_where=_DECLINED,
        postgresql_where=_DECLINED,
    )


_HAS_REFERENCE = sa.text("gateway_reference IS NOT NULL")
_WITH_REFERENCE = ("payments", "payment_methods")
_WITH_STATE = ("arrangements", "planned_payments")


def _find_what_is_open() -> None:
    for table in _WITH_REFERENCE:
        op.create_index(
            f"ix_{table}_gateway_reference",
            table,
            ["gateway_reference"],
            sqlite_where=_HAS_REFERENCE,
            postgresql_where=_HAS_REFERENCE,
        )
    for table in _WITH_STATE:
        op.create_index(op.f(f"ix_{table}_state"), table, ["state"])


_RUNNING = sa.text("state = 'running'")
_ASKED_OR_RUNNING = sa.text("state IN ('asked', 'running')")


def _let_bill_runs_be_asked_for() -> None:
    with op.batch_alter_table("bill_runs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_bill_runs_running", sqlite_where=_RUNNING, postgresql_where=_RUNNING
        )
        batch_op.add_column(
            sa.Column("is_preview", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("found", sa.JSON(), nullable=True))
        for name, value in (("account_count", "0"), ("done_count", "0"), ("revision", "1")):
            batch_op.add_column(
                sa.Column(name, sa.Integer(), server_default=sa.text(value), nullable=False)
            )
        batch_op.add_column(
            sa.Column("stop_asked_at", models.UtcDateTime(timezone=True), nullable=True)
        )
        batch_op.add_column(
            sa.Column(
                "stopped_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.drop_constraint(batch_op.f("ck_bill_runs_state"), type_="check")
        batch_op.create_check_constraint(
            batch_op.f("ck_bill_runs_state"), "state IN ('asked', 'running', 'stopped', 'done')"
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_bill_runs_stopped_by_id"), "customers", ["stopped_by_id"], ["id"]
        )
    # A batch of its own: on SQLite an index on a column that the same batch adds is made too early.
    with op.batch_alter_table("bill_runs", schema=None) as batch_op:
        batch_op.create_index(
            "uq_bill_runs_running",
            ["state", "is_preview"],
            unique=True,
            sqlite_where=_ASKED_OR_RUNNING,
            postgresql_where=_ASKED_OR_RUNNING,
        )


def _let_bill_runs_only_run() -> None:
    op.execute("UPDATE bill_runs SET state = 'stopped' WHERE state = 'asked' OR is_preview")
    with op.batch_alter_table("bill_runs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_bill_runs_running",
            sqlite_where=_ASKED_OR_RUNNING,
            postgresql_where=_ASKED_OR_RUNNING,
        )
        batch_op.drop_constraint(batch_op.f("fk_bill_runs_stopped_by_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("ck_bill_runs_state"), type_="check")
        batch_op.create_check_constraint(
            batch_op.f("ck_bill_runs_state"), "state IN ('running', 'stopped', 'done')"
        )
        for name in (
            *("revision", "stopped_by_id", "stop_asked_at", "done_count", "account_count"),
            *("found", "is_preview"),
        ):
            batch_op.drop_column(name)
        batch_op.create_index(
            "uq_bill_runs_running",
            ["state"],
            unique=True,
            sqlite_where=_RUNNING,
            postgresql_where=_RUNNING,
        )


def _change_kinds(*kinds: str) -> None:
    name = op.f("ck_journal_entries_kind")
    values = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table("journal_entries", schema=None) as batch_op:
        batch_op.drop_constraint(name, type_="check")
        batch_op.create_check_constraint(name, f"kind IN ({values})")


def _say_what_lines_want() -> None:
    """Until now the holds alone said whether a line is held."""
    op.execute(
        "UPDATE lines SET wanted_state = 'held' WHERE id IN"
        " (SELECT line_id FROM line_holds WHERE released_at IS NULL)"
    )
    op.execute("UPDATE lines SET wanted_state = 'closed' WHERE is_closed")


def downgrade() -> None:
    for table in _WITH_STATE:
        op.drop_index(op.f(f"ix_{table}_state"), table)
    for table in _WITH_REFERENCE:
        op.drop_index(f"ix_{table}_gateway_reference", table)
    op.drop_index("ix_payments_declined", "payments")
    op.drop_index(op.f("ix_line_holds_line_id"), "line_holds")
    op.drop_index(op.f("ix_invoices_issued_on"), "invoices")
    op.drop_index(op.f("ix_journal_entries_booked_on"), "journal_entries")
    _let_bill_runs_only_run()
    _change_kinds(*_KINDS)
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_payments_method_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_payments_planned_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_payments_taken_by_id"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_payments_planned_id"))
        batch_op.drop_column("note")
        batch_op.drop_column("taken_by_id")
        batch_op.drop_column("planned_id")
        batch_op.drop_column("method_id")

    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("ck_lines_wanted_state"), type_="check")
        batch_op.drop_index(
            "ix_lines_due",
            sqlite_where=sa.text("sync_at IS NOT NULL"),
            postgresql_where=sa.text("sync_at IS NOT NULL"),
        )
        batch_op.drop_column("claimed_until_at")
        batch_op.drop_column("sync_failure")
        batch_op.drop_column("sync_count")
        batch_op.drop_column("sync_at")
        batch_op.drop_column("opened_until_at")
        batch_op.drop_column("reached_state")
        batch_op.drop_column("wanted_state")

    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.drop_column("bank_account")
        batch_op.drop_column("billing_rules")

    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_accounts_group_code"), type_="foreignkey")
        batch_op.drop_column("group_code")

    op.drop_table("vouchers")
    with op.batch_alter_table("payment_reversals", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_payment_reversals_payment_id"))
        batch_op.drop_index(
            "ix_payment_reversals_due",
            sqlite_where=sa.text("ask_at IS NOT NULL"),
            postgresql_where=sa.text("ask_at IS NOT NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_payment_reversals_account_id_created_at"))

    op.drop_table("payment_reversals")
    with op.batch_alter_table("bank_lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_bank_lines_state"))
        batch_op.drop_index(batch_op.f("ix_bank_lines_import_id"))
        batch_op.drop_index(batch_op.f("ix_bank_lines_account_id"))

    op.drop_table("bank_lines")
    with op.batch_alter_table("dunning_steps", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dunning_steps_account_id_taken_on"))

    op.drop_table("dunning_steps")
    with op.batch_alter_table("dispute_posts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dispute_posts_dispute_id"))

    op.drop_table("dispute_posts")
    with op.batch_alter_table("planned_payments", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_planned_payments_autopay",
            sqlite_where=sa.text("kind = 'autopay' AND state <> 'cancelled'"),
            postgresql_where=sa.text("kind = 'autopay' AND state <> 'cancelled'"),
        )
        batch_op.drop_index(batch_op.f("ix_planned_payments_method_id"))
        batch_op.drop_index(
            "ix_planned_payments_due",
            sqlite_where=sa.text("try_at IS NOT NULL"),
            postgresql_where=sa.text("try_at IS NOT NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_planned_payments_arrangement_id"))
        batch_op.drop_index(batch_op.f("ix_planned_payments_account_id_due_on"))

    op.drop_table("planned_payments")
    with op.batch_alter_table("disputes", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_disputes_open",
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )
        batch_op.drop_index(batch_op.f("ix_disputes_state"))
        batch_op.drop_index(batch_op.f("ix_disputes_account_id_created_at"))

    op.drop_table("disputes")
    with op.batch_alter_table("line_openings", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_line_openings_line_id_from_at"))

    op.drop_table("line_openings")
    with op.batch_alter_table("autopay_mandates", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_autopay_mandates_standing",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_autopay_mandates_account_id"))

    op.drop_table("autopay_mandates")
    with op.batch_alter_table("adjustments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_adjustments_state"))
        batch_op.drop_index(batch_op.f("ix_adjustments_account_id_created_at"))

    op.drop_table("adjustments")
    with op.batch_alter_table("payment_methods", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_payment_methods_default",
            sqlite_where=sa.text("is_default"),
            postgresql_where=sa.text("is_default"),
        )
        batch_op.drop_index(
            "ix_payment_methods_due",
            sqlite_where=sa.text("ask_at IS NOT NULL"),
            postgresql_where=sa.text("ask_at IS NOT NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_payment_methods_customer_id"))
        batch_op.drop_index(batch_op.f("ix_payment_methods_account_id"))

    op.drop_table("payment_methods")
    op.drop_table("gateway_customers")
    with op.batch_alter_table("dunning_rests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dunning_rests_account_id_until_on"))

    op.drop_table("dunning_rests")
    with op.batch_alter_table("arrangements", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_arrangements_standing",
            sqlite_where=sa.text("state = 'standing'"),
            postgresql_where=sa.text("state = 'standing'"),
        )
        batch_op.drop_index(batch_op.f("ix_arrangements_account_id_created_at"))

    op.drop_table("arrangements")
    op.drop_table("voucher_batches")
    op.drop_table("bank_imports")
    op.drop_table("customer_groups")
