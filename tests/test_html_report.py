"""HTML reports: one file that asks nobody for anything and shows names as they are, tried in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from trained import small_run

from routing_env.benchmark.columns import area_so_far, area_under_curve
from routing_env.benchmark.found import found_jobs
from routing_env.benchmark.report import save_report
from routing_env.html.page import Cell, save_page, table
from routing_env.html.replay import MOST, TrainingReplay, replay_of
from routing_env.runs.html_report import save_run_page
from routing_env.runs.run import Run
from routing_env.runs.settings import ReportOptions
from routing_env.types import GameSpec

HOSTILE = "<script>document.title='taken'</script><b>bold</b>"
OWN_DATA = f"""
from dataclasses import replace
from routing_env.data.planted import plant

def load(*, validation, seed):
    data = plant(groups=2, tasks_per_group=2, samples=30, features=8, validation=validation, seed=seed)
    return replace(data, task_names=({HOSTILE!r}, "</script>", "&lt;i&gt;", "a name of eighty letters " * 3))
"""


class Elements(HTMLParser):
    """Counts elements, and keeps what refers to elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open it."""
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag == "script":
            self.scripts.append("")
        if tag not in ("meta", "link", "input", "line"):
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        """Collect scripts."""
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        if tag != "line":
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run on data with hostile names, and that of a benchmark."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "own.py").write_text(OWN_DATA)
    directory = small_run(folder / "own-run", data=f"{folder / 'own.py'}:load", data_options=())
    run = Run.stored(directory, directory.read_config(), trust=True)
    run.restore(directory)
    for router in ("wpl", "oracle", "random-fixed", "dense"):
        for seed in (0, 1):
            small_run(folder / "runs" / f"{router}{seed}", router=router, seed=seed)
    jobs = found_jobs([folder / "runs"])
    save_report(jobs, folder / "report", Console(quiet=True), ReportOptions(html=True))
    return {"run": save_run_page(run, directory), "benchmark": folder / "report" / "report.html"}


@pytest.mark.parametrize("kind", ["run", "benchmark"])
def test_a_page_is_one_well_formed_file_that_refers_to_nothing_outside(pages: dict[str, Path], kind: str) -> None:
    page = pages[kind].read_text(encoding="utf-8")
    elements = Elements(page)
    assert not elements.open
    assert [link for link in elements.links if not link.startswith("data:")] == []
    assert sum("plotly.js v" in script for script in elements.scripts) == 1
    assert "default-src 'none'" in page  # the browser itself refuses every request


def test_names_with_markup_add_no_element(pages: dict[str, Path]) -> None:
    page = pages["run"].read_text(encoding="utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert HOSTILE not in page
    assert "<b>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_a_table_keeps_texts_and_sorts_by_values(tmp_path: Path) -> None:
    page = save_page(tmp_path / "page.html", "<i>", "", table(["a"], [[Cell("<b>", 0.5)], [Cell("-", None)]]))
    text = page.read_text(encoding="utf-8")
    assert "<title>&lt;i&gt;</title>" in text
    assert '<td data-value="0.5" title="&lt;b&gt;">&lt;b&gt;</td>' in text
    assert '<td data-value="" title="-">-</td>' in text


def policies_in(html: str) -> tuple[dict[str, Any], np.ndarray[Any, np.dtype[np.uint8]]]:
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    content = json.loads(found[1])
    levels = np.frombuffer(zlib.decompress(base64.b64decode(content["policies"])), np.uint8)
    return content, levels


def test_a_replay_holds_the_policies_to_a_half_of_a_255th() -> None:
    policies = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 2, 3))
    legal = np.ones((3, 4), dtype=bool)
    content, levels = policies_in(TrainingReplay(np.array([0, 5, 9]), policies, "p", ["a", "b"], legal, None).html())
    assert content["samples"] == [0, 5, 9]
    np.testing.assert_allclose(levels.reshape(policies.shape) / 255, policies, atol=0.5 / 255 + 1e-9)


def test_a_long_training_is_thinned_and_keeps_both_ends() -> None:
    policies = np.ones((1000, 1, 1, 1))
    content, levels = policies_in(
        TrainingReplay(np.arange(1000), policies, "p", ["a"], np.ones((1, 1), bool), None).html()
    )
    assert len(content["samples"]) == len(levels) == MOST
    assert (content["samples"][0], content["samples"][-1]) == (0, 999)


def test_where_policies_are_unknown_the_measured_routes_are_replayed() -> None:
    spec = GameSpec(1, 1, 2, 4, torch.ones(1, 2, dtype=torch.bool), ((0,),), torch.device("cpu"))
    rows = [{"samples": 10 * n, "test_accuracy": 0.5, "test_routes": [[[n, 4 - n]]]} for n in (1, 3)]
    unknown = {"samples": np.array([0]), "policies": np.full((1, 1, 1, 2), np.nan)}
    replay = replay_of(rows, unknown, spec, ["a"])
    assert replay is not None
    np.testing.assert_array_equal(replay.samples, [10, 30])
    np.testing.assert_allclose(replay.policies, [[[[0.25, 0.75]]], [[[0.75, 0.25]]]])


def test_regret_so_far_ends_at_the_mean_height() -> None:
    epochs, gap = [1, 2, 5], [0.5, 0.3, 0.1]
    np.testing.assert_allclose(area_so_far(epochs, gap), [0.5, 0.4, area_under_curve(epochs, gap)])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (on Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    switches = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for switch in (*switches.split(), "disable-component-update", "disable-sync", "hide-scrollbars"):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def shown_at(browser: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    """Open a page, and wait until everything in it is drawn."""
    size = {"width": width, "height": 4000, "deviceScaleFactor": 1, "mobile": width < 500}  # all of it is in view
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    done = (
        "return [...document.querySelectorAll('.chart, .replay')].every((one) => !one.clientWidth || "
        "one.dataset.drawn || one.dataset.shown)"
    )
    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(done))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("kind", ["run", "benchmark"])
def test_pages_fit_the_screen_and_ask_for_nothing(
    browser: webdriver.Chrome, pages: dict[str, Path], kind: str, width: int, scheme: str
) -> None:
    shown_at(browser, pages[kind], width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    widths = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((one) => one.checkVisibility() && "
        "!one.closest('.scroll *, svg *, details')).map((one) => one.getBoundingClientRect().right)"
    )
    assert max(widths) <= width
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in events if one["method"] == "Network.requestWillBeSent"]
    asked = {one["request"]["url"] for one in sent if one["documentURL"] == pages[kind].as_uri()}
    assert pages[kind].as_uri() in asked
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [pages[kind].as_uri()]


def test_a_click_on_a_heading_sorts(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    shown_at(browser, pages["benchmark"], 1600, "light")
    board = browser.find_elements(By.TAG_NAME, "table")[0]
    (heading,) = [one for one in board.find_elements(By.CSS_SELECTOR, "th button") if one.text.startswith("regret")]
    column = [one.text for one in board.find_elements(By.CSS_SELECTOR, "th button")].index(heading.text)
    for descending in (True, False):
        heading.click()
        texts = [
            row.find_elements(By.TAG_NAME, "td")[column].text
            for row in board.find_elements(By.CSS_SELECTOR, "tbody tr")
        ]
        values = [float(one) for one in texts]
        assert len(set(values)) > 1
        assert values == sorted(values, reverse=descending)


def test_the_slider_moves_map_and_use_and_marks_the_strips(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    shown_at(browser, pages["run"], 1600, "light")

    def parts() -> list[str]:
        read = "return [...document.querySelectorAll('.map path, .use rect')].map((one) => one.outerHTML).join()"
        return [
            browser.execute_script(read),
            browser.execute_script("return document.querySelector('.strips').style.cssText"),
        ]

    slider = browser.find_element(By.CSS_SELECTOR, ".controls input")
    late, output = parts(), browser.find_element(By.CSS_SELECTOR, ".controls output")
    move(browser, slider, "0")
    assert output.text.startswith("after 0 training samples")
    assert all(one != other for one, other in zip(parts(), late, strict=True))
    move(browser, slider, str(slider.get_attribute("max")))
    assert parts() == late


def test_a_task_of_a_hostile_name_is_highlighted_and_shown_as_text(
    browser: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    shown_at(browser, pages["run"], 1600, "light")
    assert HOSTILE not in browser.title
    assert browser.title != "taken"
    select = browser.find_element(By.CSS_SELECTOR, ".controls select")
    assert select.find_elements(By.TAG_NAME, "option")[1].text == f"0: {HOSTILE}"
    assert not browser.find_elements(By.CSS_SELECTOR, "path.chosen")
    move(browser, select, "0", event="change")
    assert browser.find_elements(By.CSS_SELECTOR, "path.chosen")
    rows = browser.find_elements(By.CSS_SELECTOR, ".strip:not(.head)")
    assert ["dim" in str(row.get_attribute("class")) for row in rows] == [False, True, True, True]
    hover = (
        "const {x, y} = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new PointerEvent('pointermove', {clientX: x + 2, clientY: y + 5}))"
    )
    browser.execute_script(hover, rows[0].find_element(By.CLASS_NAME, "cell"))
    tip = browser.find_element(By.ID, "tip").text
    assert tip.startswith(HOSTILE)
    assert re.search(r"depth 1, block \d+: [\d.]+ %\nafter 0 samples", tip)


def move(browser: webdriver.Chrome, element: WebElement, value: str, event: str = "input") -> None:
    """Set the value of a control, as a user's hand does."""
    code = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event(arguments[2]))"
    browser.execute_script(code, element, value, event)
