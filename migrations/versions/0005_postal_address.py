"""The postal address of the ISP; the messages of a customer are found by an index"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "postal_address",
                sa.String(length=200),
                server_default=sa.text("''"),
                nullable=False,
            )
        )
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_messages_customer_id"), ["customer_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_messages_customer_id"))
    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.drop_column("postal_address")
