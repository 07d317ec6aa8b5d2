"""The page in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--window-size=420,900"),
]


@pytest.fixture(scope="module")
def browser(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium on a narrow screen, with the page open."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    try:
        driver.get((written / "report.html").as_uri())
        yield driver
    finally:
        driver.quit()


def _points(browser: Any) -> list[str]:
    return [row.text for row in browser.find_elements("css selector", "table tbody tr td:first-child")][:6]


def _header(browser: Any, title: str) -> Any:
    return browser.find_element("xpath", f"//th[button[normalize-space()='{title}']]")


def test_nothing_is_logged_and_no_script_but_its_own_runs(browser: Any) -> None:
    assert browser.get_log("browser") == []
    assert browser.title == "Sweep <b>s&s"


def test_a_header_sorts_by_number_and_turns_around(browser: Any) -> None:
    header = _header(browser, "AP")
    assert header.get_attribute("aria-sort") is None
    header.find_element("tag name", "button").click()
    assert header.get_attribute("aria-sort") == "descending"
    last = ["point 2 (incomplete)", "point 1 (incomplete)"]
    assert _points(browser) == ["point 0", "constant weight", "student alone", "point 3", *last]
    header.find_element("tag name", "button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert _points(browser) == ["point 3", "student alone", "constant weight", "point 0", *last[::-1]]


def test_a_header_is_pressed_with_the_keyboard_and_missing_values_stay_last(browser: Any) -> None:
    header = _header(browser, "vs student alone")
    for order in ("descending", "ascending"):
        header.find_element("tag name", "button").send_keys("\ue007")  # Enter
        assert header.get_attribute("aria-sort") == order
        assert _points(browser)[3] == "student alone"  # before the points that are not complete
    assert _points(browser)[:3] == ["point 3", "constant weight", "point 0"]
    assert _header(browser, "AP").get_attribute("aria-sort") is None


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Any) -> None:
    width = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, seen = browser.execute_script(width)
    assert whole <= seen
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(b => b.scrollWidth > b.clientWidth)"
    )
    assert boxes[0] is True
