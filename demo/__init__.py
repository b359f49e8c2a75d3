"""The demo ISP, Pinecrest Broadband, and whom to sign in as.

Nothing here is secret: the demo listens on this machine alone and marks its database as its own.
"""

from __future__ import annotations

from typing import NamedTuple


class DemoCustomer(NamedTuple):
    """A customer of the demo: whom to sign in as, and what there is to see."""

    sign_in_id: str
    password: str
    note: str


DEMO_STAFF = (
    DemoCustomer("dana.desk", "lantern-orchard-pistol-77", "staff, administrator"),
    DemoCustomer("rae.till", "gravel-mitten-harvest-58", "staff, billing: a second person"),
)
"""Members of the ISP's staff. The mailbox shows the code of their authenticator app."""
DEMO_STAFF_APP = "PINECRESTDEMOSTAFFPINECRESTDEMOS"
"""The key of that app, in base 32; both hold it."""

DEMO_CUSTOMERS = (
    DemoCustomer("maria.lopez", "copper-lantern-river-42", "owes this month's bill"),
    DemoCustomer("tom.becker", "walnut-sparrow-tunnel-17", "line switched off, bills unpaid"),
    DemoCustomer("grace.kim", "velvet-anchor-meadow-63", "in credit"),
    DemoCustomer("omar.haddad", "saddle-orchid-comet-88", "owes nothing, autopay is on"),
    DemoCustomer("nina.petrov", "marble-canyon-fiddle-29", "has two accounts, sees a third"),
    DemoCustomer("luis.lopez", "cinder-harbor-violet-54", "pays on Maria's account"),
    DemoCustomer("ed.walker", "timber-saffron-kettle-71", "account closed; a code by e-mail"),
    DemoCustomer("sam.rivera", "pebble-gazette-willow-36", "began today, no bill yet"),
)

REGISTERS = "10200077"
"""The number of an account of the demo whose subscriber has no online account yet."""
