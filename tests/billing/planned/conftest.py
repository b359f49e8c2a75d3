"""The diary of planned payments."""

from __future__ import annotations

import pytest

from tests.billing.conftest import ShakyGateway
from tests.billing.planned.diary import Diary
from tests.conftest import Portal


@pytest.fixture
def diary(portal: Portal) -> Diary:
    gateway = ShakyGateway(portal)
    portal.app.extensions["payment_gateway"] = gateway
    return Diary(portal, gateway)
