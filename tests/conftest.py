"""What every test shares: where the reference data lie, and how hypothesis runs."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

ABSENT = "reference data absent: "

settings.register_profile("rs-embed", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("rs-embed")


def data_folder() -> Path:
    """The folder of reference imagery: RS_EMBED_TEST_DATA, or shared/data beside the checkout."""
    named = os.environ.get("RS_EMBED_TEST_DATA")
    return (Path(named) if named else Path(__file__).parents[2] / "shared" / "data").resolve()


def present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{ABSENT}{folder}")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another one, or the user, has in the cache."""
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache" / uuid.uuid4().hex))


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def as_nobody() -> Callable[[], AbstractContextManager[None]]:
    """Makes a block of a test run as a user for whom permissions hold."""
    return _as_nobody


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds data/, golden/ and weights/."""
    return present(data_folder()).parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real reference imagery."""
    return present(data_folder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("online"):
            item.add_marker(pytest.mark.enable_socket)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    folders = [reason.partition(ABSENT)[2] for reason in reasons if ABSENT in reason]
    for folder in sorted(set(folders)):
        terminalreporter.section("REFERENCE DATA ABSENT", sep="!", red=True, bold=True)
        count = folders.count(folder)
        terminalreporter.line(f"{count} tests skipped because {folder} is absent (RS_EMBED_TEST_DATA names another)")
