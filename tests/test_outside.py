import pytest

from tests import outside

pytest_plugins = ["pytester"]

ABSENT = """
import pytest
from tests import outside

@pytest.fixture(autouse=True)
def no_lynx(monkeypatch):
    monkeypatch.setitem(outside.PROGRAMS, "lynx", outside.Program("lynx", "lynx", lambda: None))

def test_one():
    outside.need("lynx")

def test_two():
    outside.need("lynx")

@pytest.mark.xfail
def test_expected():
    assert False
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Runs a small suite that needs an absent program, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    monkeypatch.delenv("LASTMILE_REQUIRE_ALL", raising=False)
    pytester.makepyfile(ABSENT)
    return lambda: pytester.runpytest_subprocess("-p", "tests.outside", "-p", "no:cacheprovider")


def test_what_lacks_is_skipped_and_listed_with_how_to_install_it(run) -> None:
    result = run()
    result.assert_outcomes(skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["2 tests need lynx. To run them: apt-get install lynx"])


def test_a_skip_is_a_failure_where_everything_is_required(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTMILE_REQUIRE_ALL", "1")
    result = run()
    result.assert_outcomes(failed=2, xfailed=1)
    result.stdout.fnmatch_lines(["*LASTMILE_REQUIRE_ALL=1 forbids that: *needs lynx*"])


def test_what_is_there_is_returned(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    program = outside.Program("lynx", "lynx", lambda: tmp_path)
    monkeypatch.setitem(outside.PROGRAMS, "lynx", program)
    assert outside.need("lynx") == tmp_path
