"""The Prefect UI's form: drawn from `Experiment`, in a real browser; and the same run over HTTP, as the README says."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
import pytest
from deployed import Deployed
from lamps import ROOT, TINY
from servers import PrefectServer
from test_browser import CHROMIUM, PATIENCE_MS, QUIET, keep

pytestmark = [pytest.mark.flow, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def deployed(
    quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Of another kind than the default, so that what is filled in can be told from it."""
    home = tmp_path_factory.mktemp("form")
    settings = [*TINY[2:], "--model.kind", "mlp", "--optimizer.kind", "adam"]
    with Deployed(home, quick_server.api, "--dataset.source", pictures, *settings) as there:
        there.stop()  # what the form asks for is looked at, not carried out
        yield there


@pytest.fixture(scope="module")
def page() -> Iterator["playwright.Page"]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        shown = browser.new_page(viewport={"width": 1400, "height": 4000})
        shown.set_default_timeout(PATIENCE_MS)
        yield shown
        browser.close()


def opened(page: "playwright.Page", deployed: Deployed) -> dict[str, Any]:
    """The form of `train-by-hand`, empty of what was typed before; the deployment."""
    deployment = deployed.server.deployments()["train-by-hand"]
    page.goto(f"{deployed.server.api.removesuffix('/api')}/v2/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("Label smoothing").first.wait_for()
    return deployment


def submitted(page: "playwright.Page", deployed: Deployed) -> dict[str, Any]:
    """The run that the form begins, cancelled at once: its parameters are what is asked for."""
    before = {run["id"] for run in deployed.server.runs("train-by-hand")}
    submit, form = page.get_by_role("button", name="Submit"), page.url
    new: list[dict[str, Any]] = []
    for look in range(300):
        if look % 150 == 0 and page.url == form:  # once more, as people do: a server whose database is taken says 503
            submit.click()
        page.wait_for_timeout(500)
        new = [run for run in deployed.server.runs("train-by-hand") if run["id"] not in before]
        if new:
            break
    (run,) = new
    deployed.server.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLED"}, force=True)
    return dict(run["parameters"])


def test_the_form_shows_titles_and_descriptions_and_untouched_it_asks_for_what_the_deployment_does(
    page: "playwright.Page", deployed: Deployed, tmp_path: Path
):
    deployment = opened(page, deployed)
    assert page.get_by_text("share of a target that is spread over all classes").count()
    keep(page, "form", tmp_path)
    asked = submitted(page, deployed)
    assert asked["experiment"] == deployment["parameters"]["experiment"]


def test_another_kind_of_network_is_chosen_by_its_name(page: "playwright.Page", deployed: Deployed, tmp_path: Path):
    opened(page, deployed)
    page.get_by_role("tab", name="vit", exact=True).first.click()
    keep(page, "form-vit", tmp_path)
    asked = submitted(page, deployed)["experiment"]
    assert asked["model"]["kind"] == "vit"
    assert asked["optimizer"]["kind"] == "adam"


def test_a_wrong_value_is_told_in_the_form_and_no_run_is_made(
    page: "playwright.Page", deployed: Deployed, tmp_path: Path
):
    opened(page, deployed)
    before = len(deployed.server.runs("train-by-hand"))
    page.get_by_label("Label smoothing").first.fill("7")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(re.compile("7.* is greater than")).first.wait_for()
    keep(page, "form-wrong", tmp_path)
    assert len(deployed.server.runs("train-by-hand")) == before


def test_the_lines_of_the_readme_begin_a_run_with_a_change(deployed: Deployed):
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "train-by-hand" in line or "$id" in line]
    script = "\n".join(line for line in lines if line.startswith(("id=", "curl")))
    assert script.count("\n") == 1
    deployed.start()
    before = {run["id"] for run in deployed.server.runs("train-by-hand")}
    done = subprocess.run(["bash", "-ec", script], env=deployed.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (run,) = [run["id"] for run in deployed.server.runs("train-by-hand") if run["id"] not in before]
    state = deployed.server.wait_until(run, "Completed", "Failed", "Crashed")
    assert state["name"] == "Completed", state["message"]
    (folder,) = deployed.runs_at.glob("[0-9]*")
    assert json.loads((folder / "experiment.json").read_text())["train"]["epochs"] == 3
