"""The pages of staff, one module for each screen."""

from blueprints.staff.views import (
    account,
    call,
    join,
    letters,
    members,
    person,
    plan_changes,
    resets,
    search,
    unpaid,
    view,
)
