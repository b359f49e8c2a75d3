"""Ways in: flows, codes, factors; several people; the ISP's own people"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passkey_challenges",
        sa.Column("challenge_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("bound_to", sa.String(length=60), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("challenge_hash", name=op.f("pk_passkey_challenges")),
    )
    with op.batch_alter_table("passkey_challenges", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_passkey_challenges_expires_at"), ["expires_at"], unique=False
        )

    op.create_table(
        "factor_resets",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("how", sa.String(length=300), nullable=False),
        sa.Column("asked_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("proofed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column(
            "proofed_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "approved_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('asked', 'proofed', 'approved', 'done', 'refused')",
            name=op.f("ck_factor_resets_state"),
        ),
        sa.CheckConstraint(
            "approved_by_id <> proofed_by_id", name=op.f("ck_factor_resets_two_people")
        ),
        sa.ForeignKeyConstraint(
            ["approved_by_id"], ["customers.id"], name=op.f("fk_factor_resets_approved_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_factor_resets_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["proofed_by_id"], ["customers.id"], name=op.f("fk_factor_resets_proofed_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_factor_resets")),
        sa.UniqueConstraint("public_id", name=op.f("uq_factor_resets_public_id")),
    )
    with op.batch_alter_table("factor_resets", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_factor_resets_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "message_choices",
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("topic", sa.String(length=20), nullable=False),
        sa.Column("channel", sa.String(length=5), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_message_choices_customer_id")
        ),
        sa.PrimaryKeyConstraint("customer_id", "topic", "channel", name=op.f("pk_message_choices")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("used_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_recovery_codes_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_codes")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_recovery_codes_code_hash")),
    )
    with op.batch_alter_table("recovery_codes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_recovery_codes_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "staff_members",
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("role", sa.String(length=14), nullable=False),
        sa.Column("added_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "role IN ('support', 'billing', 'technical', 'administrator')",
            name=op.f("ck_staff_members_role"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_staff_members_customer_id")
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_staff_members")),
    )
    op.create_table(
        "data_accesses",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("reader_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reader", sa.String(length=80), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("fields", sa.String(length=200), nullable=False),
        sa.Column("purpose", sa.String(length=200), nullable=False),
        sa.Column("read_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_data_accesses_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_data_accesses_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["customers.id"], name=op.f("fk_data_accesses_reader_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_accesses")),
    )
    with op.batch_alter_table("data_accesses", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_data_accesses_account_id_read_at"),
            ["account_id", "read_at"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_data_accesses_customer_id"), ["customer_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_data_accesses_read_at"), ["read_at"], unique=False)

    op.create_table(
        "flows",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("csrf_secret", sa.LargeBinary(length=32), nullable=False),
        sa.Column("subject", sa.LargeBinary(length=32), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('register', 'recover', 'find_id', 'sign_in', 'lost_factors')",
            name=op.f("ck_flows_kind"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_flows_account_id")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_flows_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flows")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_flows_token_hash")),
    )
    with op.batch_alter_table("flows", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_flows_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_flows_customer_id"), ["customer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_flows_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_flows_subject"), ["subject"], unique=False)

    op.create_table(
        "invitations",
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
            "invited_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("role", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("value", sa.String(length=400), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column(
            "accepted_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.CheckConstraint(
            "kind IN ('email', 'phone', 'postal')", name=op.f("ck_invitations_kind")
        ),
        sa.CheckConstraint(
            "role IN ('owner', 'payer', 'viewer', 'technical')", name=op.f("ck_invitations_role")
        ),
        sa.ForeignKeyConstraint(
            ["accepted_by_id"], ["customers.id"], name=op.f("fk_invitations_accepted_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_invitations_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["invited_by_id"], ["customers.id"], name=op.f("fk_invitations_invited_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("public_id", name=op.f("uq_invitations_public_id")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitations_token_hash")),
    )
    with op.batch_alter_table("invitations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_invitations_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_invitations_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "search_terms",
        sa.Column(
            "term",
            sa.String(length=80).with_variant(sa.String(length=80, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_search_terms_account_id")
        ),
        sa.PrimaryKeyConstraint("term", "account_id", name=op.f("pk_search_terms")),
    )
    with op.batch_alter_table("search_terms", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_search_terms_account_id_term"), ["account_id", "term"], unique=False
        )

    op.create_table(
        "contact_changes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("value", sa.String(length=400), nullable=False),
        sa.Column(
            "replaces_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("asked_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('email', 'phone', 'postal')", name=op.f("ck_contact_changes_kind")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_contact_changes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_contact_changes_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["replaces_id"], ["contacts.id"], name=op.f("fk_contact_changes_replaces_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_changes")),
        sa.UniqueConstraint("public_id", name=op.f("uq_contact_changes_public_id")),
    )
    with op.batch_alter_table("contact_changes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_contact_changes_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_contact_changes_customer_id"), ["customer_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_contact_changes_expires_at"), ["expires_at"], unique=False
        )

    op.create_table(
        "factors",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("last_step", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("credential_id", sa.LargeBinary(), nullable=True),
        sa.Column("public_key", sa.LargeBinary(), nullable=True),
        sa.Column(
            "sign_count", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column(
            "contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('totp', 'passkey', 'email', 'text')", name=op.f("ck_factors_kind")
        ),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contacts.id"], name=op.f("fk_factors_contact_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_factors_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_factors")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_factors_credential_id")),
        sa.UniqueConstraint("public_id", name=op.f("uq_factors_public_id")),
    )
    with op.batch_alter_table("factors", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_factors_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_factors_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "one_time_codes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("purpose", sa.String(length=14), nullable=False),
        sa.Column("bound_to", sa.String(length=60), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("channel", sa.String(length=5), nullable=False),
        sa.Column(
            "contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "channel IN ('email', 'text', 'post')", name=op.f("ck_one_time_codes_channel")
        ),
        sa.CheckConstraint(
            "purpose IN ('register', 'recover', 'second_factor', 'contact', 'caller', 'invitation')",
            name=op.f("ck_one_time_codes_purpose"),
        ),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contacts.id"], name=op.f("fk_one_time_codes_contact_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_codes")),
    )
    with op.batch_alter_table("one_time_codes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_one_time_codes_bound_to"), ["bound_to"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_one_time_codes_contact_id"), ["contact_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_one_time_codes_expires_at"), ["expires_at"], unique=False
        )

    op.create_table(
        "postal_letters",
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
        sa.Column("flow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "contact_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("asked_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("printed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column(
            "printed_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_postal_letters_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contacts.id"], name=op.f("fk_postal_letters_contact_id")
        ),
        sa.ForeignKeyConstraint(["flow_id"], ["flows.id"], name=op.f("fk_postal_letters_flow_id")),
        sa.ForeignKeyConstraint(
            ["printed_by_id"], ["customers.id"], name=op.f("fk_postal_letters_printed_by_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_postal_letters")),
        sa.UniqueConstraint("public_id", name=op.f("uq_postal_letters_public_id")),
    )
    with op.batch_alter_table("postal_letters", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_postal_letters_account_id"), ["account_id"], unique=False
        )
        batch_op.create_index(
            "uq_postal_letters_waiting",
            ["flow_id"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.alter_column(
            "account_id",
            existing_type=sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
        )
        batch_op.add_column(sa.Column("ended_on", sa.Date(), nullable=True))
        batch_op.create_check_constraint("of_one", "(account_id IS NULL) <> (customer_id IS NULL)")
        batch_op.create_unique_constraint(
            batch_op.f("uq_contacts_customer_id_kind_value"), ["customer_id", "kind", "value"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_contacts_customer_id"), "customers", ["customer_id"], ["id"]
        )

    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("timezone", sa.String(length=60), nullable=True))
        batch_op.add_column(
            sa.Column("failed_in_a_row", sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
        batch_op.add_column(
            sa.Column("password_disabled_at", models.UtcDateTime(timezone=True), nullable=True)
        )

    with op.batch_alter_table("devices", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("trusted_until_at", models.UtcDateTime(timezone=True), nullable=True)
        )

    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "requires_second_factor", sa.Boolean(), server_default=sa.false(), nullable=False
            )
        )
        batch_op.add_column(
            sa.Column(
                "requires_mixed_password", sa.Boolean(), server_default=sa.false(), nullable=False
            )
        )
        batch_op.add_column(
            sa.Column(
                "contact_rest_days", sa.Integer(), server_default=sa.text("30"), nullable=False
            )
        )

    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("is_staff", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(
            sa.Column("has_second_factor", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(
            sa.Column(
                "viewer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
            )
        )
        batch_op.add_column(
            sa.Column(
                "viewer_session_id",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                nullable=True,
            )
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_sessions_viewer_id"), "customers", ["viewer_id"], ["id"]
        )


def downgrade() -> None:
    for table in (
        *("postal_letters", "one_time_codes", "factors", "contact_changes", "search_terms"),
        *("invitations", "flows", "data_accesses", "staff_members", "recovery_codes"),
        *("message_choices", "factor_resets", "passkey_challenges"),
    ):
        op.drop_table(table)

    # What belongs to a customer has no place in the schema before.
    op.execute("DELETE FROM contacts WHERE account_id IS NULL")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_sessions_viewer_id"), type_="foreignkey")
        batch_op.drop_column("viewer_session_id")
        batch_op.drop_column("viewer_id")
        batch_op.drop_column("has_second_factor")
        batch_op.drop_column("is_staff")

    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.drop_column("contact_rest_days")
        batch_op.drop_column("requires_mixed_password")
        batch_op.drop_column("requires_second_factor")

    with op.batch_alter_table("devices", schema=None) as batch_op:
        batch_op.drop_column("trusted_until_at")

    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.drop_column("password_disabled_at")
        batch_op.drop_column("failed_in_a_row")
        batch_op.drop_column("timezone")

    with op.batch_alter_table("contacts", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_contacts_customer_id"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("uq_contacts_customer_id_kind_value"), type_="unique")
        batch_op.drop_constraint(batch_op.f("ck_contacts_of_one"), type_="check")
        batch_op.alter_column(
            "account_id",
            existing_type=sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        )
        batch_op.drop_column("ended_on")
        batch_op.drop_column("customer_id")
