"""What an operator sees: the flow run's page and the artifacts in a real browser."""

import os
from collections.abc import Iterator
from pathlib import Path

import playwright.sync_api as playwright
import pytest
from lamps import FinishedRun

pytestmark = [pytest.mark.flow, pytest.mark.browser]

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 60_000  # the UI is two megabytes of script, and the machine may be busy


@pytest.fixture(scope="module")
def page() -> Iterator["playwright.Page"]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        shown = browser.new_page(viewport={"width": 1400, "height": 1000})
        shown.set_default_timeout(PATIENCE_MS)
        yield shown
        browser.close()


def keep(page: "playwright.Page", name: str, tmp_path: Path) -> None:
    """A picture for people: into SCREENSHOTS if it is set."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def test_the_run_page_shows_the_stages(page: "playwright.Page", finished: FinishedRun, tmp_path: Path):
    page.goto(f"{finished.server}/runs/flow-run/{finished.flow_run['id']}")
    page.get_by_text("Completed").first.wait_for()
    page.get_by_text("6 Task runs").wait_for()
    page.wait_for_timeout(2000)  # the graph is drawn on a canvas
    keep(page, "run", tmp_path)
    page.get_by_text("Artifacts", exact=True).last.click()
    for key in ("training-progress", "verdict", "confusion-matrix"):
        page.get_by_text(key).first.wait_for()
    keep(page, "run-artifacts", tmp_path)


def test_the_artifacts_page_lists_them_and_their_pictures_load(
    page: "playwright.Page", finished: FinishedRun, tmp_path: Path
):
    page.goto(f"{finished.server}/artifacts")
    page.get_by_text("confusion-matrix").first.wait_for()
    keep(page, "artifacts", tmp_path)
    for key in ("data", "curves", "confusion-matrix"):
        artifact = next(a for a in finished.of_kind("artifacts") if a["key"] == key)
        page.goto(f"{finished.server}/artifacts/artifact/{artifact['id']}")
        picture = page.locator("img[src^='data:image']").first
        picture.wait_for()
        assert picture.evaluate("image => image.complete && image.naturalWidth > 40")
        keep(page, key, tmp_path)


def test_the_verdict_is_read_in_one_sentence(page: "playwright.Page", finished: FinishedRun, tmp_path: Path):
    verdict = next(a for a in finished.of_kind("artifacts") if a["key"] == "verdict")
    page.goto(f"{finished.server}/artifacts/artifact/{verdict['id']}")
    page.get_by_text(finished.outcome["verdict"]["reason"]).first.wait_for()
    keep(page, "verdict", tmp_path)
