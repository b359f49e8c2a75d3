"""The pages of staff, one module for each screen."""

from blueprints.staff.views import (  # noqa: F401 - they register their routes
    account,
    call,
    join,
    letters,
    members,
    person,
    resets,
    search,
    view,
)
