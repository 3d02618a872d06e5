"""What every kind of test may ask for: certificates, the mail corpus, and an environment that is nobody's."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest

from syncer.config import SETTINGS
from syncer.demo.certificates import Certificates, make

CORPUS: Final = Path(__file__).resolve().parents[2] / "shared" / "corpus"
"""Real mail, not part of this repository, expected beside its checkout."""

# A developer's own settings, credentials, authorities and proxies: a test must neither use nor depend on them.
FOREIGN_PREFIXES: Final = ("AWS_", "LAMBDA_", "POWERTOOLS_")
FOREIGN: Final = frozenset(
    {
        *(setting.name for setting in SETTINGS),
        *(f"{setting.name}_FILE" for setting in SETTINGS),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    }
)


@pytest.fixture(scope="session", autouse=True)
def _environment_of_nobody() -> Iterator[None]:
    """Take the developer's own values out of the environment, and keep the AWS SDK off the real cloud."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in FOREIGN or name.startswith(FOREIGN_PREFIXES):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "none")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Have commands of the tests hear Ctrl-C: what a shell starts in the background ignores it, and so would they."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of our own, and a certificate for the loopback host."""
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def corpus() -> list[Path]:
    """The corpus: files of one raw message each, in the order of their names."""
    files = sorted(CORPUS.glob("*.eml"))
    if not files:
        missing(f"no mail corpus in {os.path.relpath(CORPUS)}")
    return files


def missing(what: str) -> NoReturn:
    """Skip the test that needs it; fail it where SYNCER_REQUIRE_SERVERS says that everything has to be there."""
    if os.environ.get("SYNCER_REQUIRE_SERVERS", "0") not in ("", "0"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


# -- what a run counted is told at its end; it travels with the reports, so that it arrives from other processes, too

TITLES: Final = {"crash": "crash and chance", "fuzz": "fuzz"}
"""What the tests of a folder count under."""


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """What is counted here is told when all tests are over."""
    counts: Counter[str] = Counter()
    yield counts
    request.node.user_properties.append(("counted", dict(counts)))


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tell a line when all tests are over."""
    return lambda line: request.node.user_properties.append(("told", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    lines: dict[str, None] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if not isinstance(report, pytest.TestReport):
            continue
        folder = report.nodeid.split("/")[1]
        seconds[folder] += report.duration  # type: ignore[assignment]
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == "counted" and isinstance(value, dict):
                    counts.setdefault(folder, Counter()).update(value)
                elif name == "told":
                    lines[str(value)] = None
    for folder, counter in counts.items():
        told = ", ".join(f"{number:,} {what}" for what, number in counter.items())
        terminalreporter.write_line(f"{TITLES.get(folder, folder)}: {told}; {seconds[folder]:.0f} s")
    for line in lines:
        terminalreporter.write_line(line)
