"""The postal address of the ISP"""

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


def downgrade() -> None:
    with op.batch_alter_table("isp", schema=None) as batch_op:
        batch_op.drop_column("postal_address")
