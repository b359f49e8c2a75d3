"""A request under a name that is not ours."""

from __future__ import annotations

import logging


def test_unknown_host_gets_400_and_leaves_no_trace_in_the_log(portal, caplog):
    with caplog.at_level(logging.WARNING):
        answer = portal.app.test_client().get("/sign-in", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert b"evil.example" not in answer.data
    assert not caplog.records
