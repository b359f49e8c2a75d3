"""Which tests run in one process of a parallel run, one after the other, and what is begun first.

Those that share a portal that is served run in one process, else each process would start it. It is
told here by path: what pytest-xdist makes of its own mark depends on insides of pytest, and with
pytest 9.2 the mark does nothing (pytest-xdist's issue 1386).
"""

from __future__ import annotations

from typing import Any

import pytest

GROUPS = {
    "tests/browser/test_looks.py": "looks",
    "tests/browser/test_policy.py": "looks",
    "tests/browser/test_canary.py": "looks",
    "tests/browser/test_own_matters.py": "matters",
    "tests/browser/test_plan_journeys.py": "matters",
    "tests/browser/test_planning.py": "matters",
    "tests/browser/test_scripts.py": "matters",
    "tests/browser/test_second_step.py": "matters",
    "tests/browser/test_network.py": "matters",
    "tests/browser/": "browser",
    "tests/real/test_two_nodes.py": "two nodes",
    "tests/real/": "street",
    "tests/test_budgets.py": "budgets",
    "tests/demo/test_build.py::test_each_customer": "demo",
    "tests/demo/test_build.py::test_the_history": "demo",
    "tests/demo/test_build.py::test_sign_in_works": "demo",
    "tests/gateways/": "gateways",
}
"""By the beginning of a test's id; the first that fits counts. Every other test is on its own."""

FIRST = (
    "tests/faults/test_kill.py",
    "browser",
    "matters",
    "looks",
    "tests/billing/test_machine.py",
    "tests/faults/test_gateway.py",
    "two nodes",
    "street",
    "budgets",
    "tests/test_forms_at_random.py",
    "tests/operation/test_restore.py",
    "tests/faults/",
    "tests/test_serve.py",
    "tests/demo/",
    "tests/test_deploy.py",
    "tests/staff/test_import_killed.py",
    "tests/auth/test_limits.py",
)
"""What takes long, the longest first, so that the end of a run does not wait for one of them."""


def group_of(nodeid: str) -> str:
    return next((group for start, group in GROUPS.items() if nodeid.startswith(start)), nodeid)


def turn_of(group: str) -> int:
    """The lower, the earlier it is begun."""
    return next((turn for turn, start in enumerate(FIRST) if group.startswith(start)), len(FIRST))


def begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Put a worker's tests into the order in which they are dealt out."""
    items.sort(key=lambda item: turn_of(group_of(item.nodeid)))


def scheduler(config: pytest.Config, log: Any) -> Any:
    """What deals out the tests of a parallel run, whatever `--dist` says."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # the order is ours
    return ByGroup(config, log)
