"""Invoicing: bill runs, one-off charges, credit notes, exemptions, how far a subscription is billed"""

from alembic import op
import sqlalchemy as sa
import models
from core.clock import month_step


revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bill_runs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column("as_of_on", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column(
            "planned_count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "planned_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "issued_count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "issued_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "accepted_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("stopped_because", sa.String(length=500), nullable=False),
        sa.Column(
            "started_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("started_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("beat_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'stopped', 'done')", name=op.f("ck_bill_runs_state")
        ),
        sa.ForeignKeyConstraint(
            ["started_by_id"], ["customers.id"], name=op.f("fk_bill_runs_started_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bill_runs")),
        sa.UniqueConstraint("public_id", name=op.f("uq_bill_runs_public_id")),
    )
    with op.batch_alter_table("bill_runs", schema=None) as batch_op:
        batch_op.create_index(
            "uq_bill_runs_running",
            ["state"],
            unique=True,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )

    op.create_table(
        "tax_exemptions",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("tax_code", sa.String(length=20), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("to_on", sa.Date(), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_tax_exemptions_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["tax_code"], ["taxes.code"], name=op.f("fk_tax_exemptions_tax_code")
        ),
        sa.PrimaryKeyConstraint("account_id", "tax_code", name=op.f("pk_tax_exemptions")),
    )
    op.create_table(
        "charges",
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
        sa.Column("is_credit", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "added_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column(
            "invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("cancelled_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_charges_amount")),
        sa.CheckConstraint(
            "invoice_id IS NULL OR cancelled_at IS NULL", name=op.f("ck_charges_one_end")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_charges_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["added_by_id"], ["customers.id"], name=op.f("fk_charges_added_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["invoice_id"], ["invoices.id"], name=op.f("fk_charges_invoice_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charges")),
        sa.UniqueConstraint("public_id", name=op.f("uq_charges_public_id")),
    )
    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_charges_invoice_id"), ["invoice_id"], unique=False)
        batch_op.create_index(
            "ix_charges_waiting",
            ["account_id"],
            unique=False,
            sqlite_where=sa.text("invoice_id IS NULL AND cancelled_at IS NULL"),
            postgresql_where=sa.text("invoice_id IS NULL AND cancelled_at IS NULL"),
        )

    with op.batch_alter_table("invoice_lines", schema=None) as batch_op:
        batch_op.add_column(sa.Column("corrects_position", sa.Integer(), nullable=True))

    with op.batch_alter_table("invoices", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "corrects_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.add_column(
            sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
        )
        batch_op.create_index(batch_op.f("ix_invoices_corrects_id"), ["corrects_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_invoices_run_id"), ["run_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_invoices_run_id"), "bill_runs", ["run_id"], ["id"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_invoices_corrects_id"), "invoices", ["corrects_id"], ["id"]
        )
    _change_kinds("invoices", "invoice", "opening", "credit")
    _change_kinds(
        "journal_entries", "opening", "invoice", "payment", "adjustment", "reversal", "credit_note"
    )

    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("billed_until_on", sa.Date(), nullable=True))
        batch_op.add_column(
            sa.Column(
                "billed_price_minor",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                nullable=True,
            )
        )
        batch_op.add_column(
            sa.Column(
                "intro_price_minor",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                nullable=True,
            )
        )
        batch_op.add_column(sa.Column("intro_until_on", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("billed_taxes", sa.JSON(), nullable=True))

    with op.batch_alter_table("taxes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("areas", sa.JSON(), nullable=True))
    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.add_column(sa.Column("billing_hour", sa.Integer(), nullable=True))
    _say_what_is_billed()
    _say_what_was_promised()


def _change_kinds(table: str, *kinds: str) -> None:
    name = op.f(f"ck_{table}_kind")
    values = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table(table, schema=None) as batch_op:
        batch_op.drop_constraint(name, type_="check")
        batch_op.create_check_constraint(name, f"kind IN ({values})")


def _say_what_is_billed() -> None:
    """Until now the account alone knew: what stood was billed with it, what ended to its end."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    following = "date(billed_through_on, '+1 day')" if is_sqlite else "billed_through_on + 1"
    op.execute("UPDATE subscriptions SET billed_until_on = ended_on WHERE ended_on IS NOT NULL")
    op.execute(
        f"UPDATE subscriptions SET billed_until_on = (SELECT {following} FROM accounts"  # noqa: S608
        " WHERE accounts.id = subscriptions.account_id"
        " AND accounts.billed_through_on >= subscriptions.started_on)"
        " WHERE ended_on IS NULL"
    )
    op.execute(
        "UPDATE subscriptions SET billed_price_minor ="
        " (SELECT price_minor FROM plans WHERE plans.id = subscriptions.plan_id)"
        " WHERE id IN (SELECT subscription_id FROM invoice_lines WHERE subscription_id IS NOT NULL)"
    )


def _say_what_was_promised() -> None:
    """Until now an introductory price was looked up in the plan, which may change."""
    connection = op.get_bind()
    dates = sa.table(
        "subscriptions",
        sa.column("id", sa.Integer),
        sa.column("plan_id", sa.Integer),
        sa.column("started_on", sa.Date),
        sa.column("intro_price_minor", sa.BigInteger),
        sa.column("intro_until_on", sa.Date),
    )
    plans = sa.table(
        "plans",
        sa.column("id", sa.Integer),
        sa.column("intro_price_minor", sa.BigInteger),
        sa.column("intro_months", sa.Integer),
    )
    rows = connection.execute(
        sa.select(dates.c.id, dates.c.started_on, plans.c.intro_price_minor, plans.c.intro_months)
        .join(plans, plans.c.id == dates.c.plan_id)
        .where(plans.c.intro_price_minor.is_not(None), plans.c.intro_months > 0)
    ).all()
    if rows:
        connection.execute(
            sa.update(dates)
            .where(dates.c.id == sa.bindparam("row_id"))
            .values(
                intro_price_minor=sa.bindparam("price"), intro_until_on=sa.bindparam("until_on")
            ),
            [
                {
                    "row_id": row.id,
                    "price": row.intro_price_minor,
                    "until_on": month_step(row.started_on, row.intro_months, row.started_on.day),
                }
                for row in rows
            ],
        )


def downgrade() -> None:
    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.drop_column("billing_hour")
    with op.batch_alter_table("taxes", schema=None) as batch_op:
        batch_op.drop_column("areas")

    with op.batch_alter_table("subscriptions", schema=None) as batch_op:
        batch_op.drop_column("billed_taxes")
        batch_op.drop_column("intro_until_on")
        batch_op.drop_column("intro_price_minor")
        batch_op.drop_column("billed_price_minor")
        batch_op.drop_column("billed_until_on")

    _change_kinds("invoices", "invoice", "opening")
    _change_kinds("journal_entries", "opening", "invoice", "payment", "adjustment", "reversal")
    with op.batch_alter_table("invoices", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_invoices_corrects_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_invoices_run_id"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_invoices_run_id"))
        batch_op.drop_index(batch_op.f("ix_invoices_corrects_id"))
        batch_op.drop_column("run_id")
        batch_op.drop_column("corrects_id")

    with op.batch_alter_table("invoice_lines", schema=None) as batch_op:
        batch_op.drop_column("corrects_position")

    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_charges_waiting",
            sqlite_where=sa.text("invoice_id IS NULL AND cancelled_at IS NULL"),
            postgresql_where=sa.text("invoice_id IS NULL AND cancelled_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_charges_invoice_id"))

    op.drop_table("charges")
    op.drop_table("tax_exemptions")
    with op.batch_alter_table("bill_runs", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_bill_runs_running",
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )

    op.drop_table("bill_runs")
