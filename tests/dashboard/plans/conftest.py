import pytest

from tests.conftest import Portal
from tests.dashboard.plans.shop import Shop


@pytest.fixture
def shop(portal: Portal) -> Shop:
    return Shop(portal)
