"""The pages of staff, one module for each screen."""

from blueprints.staff.views import (
    account,
    call,
    join,
    letters,
    members,
    moves,
    person,
    plan_changes,
    resets,
    search,
    unpaid,
    view,
)
