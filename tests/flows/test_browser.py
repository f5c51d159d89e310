"""What an operator sees of the Prefect UI, in a real browser: the form, drawn from `Experiment`, the page of a run and
its artifacts. The run is begun over HTTP, as the README says."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
import pytest
from deployed import POOL, Deployed
from lamps import PATIENCE_S, ROOT, TINY, wait_for
from servers import PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 1000 * PATIENCE_S  # the UI is two megabytes of script, and the machine may be busy
PICTURE = "img[src^='data:image']"
SHOWN = f'() => [...document.querySelectorAll("{PICTURE}")].some(one => one.complete && one.naturalWidth > 40)'


@pytest.fixture(scope="module")
def deployed(
    quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Of another kind than the default, so that what is filled in can be told from it."""
    home = tmp_path_factory.mktemp("form")
    settings = [*TINY[2:], "--model.kind", "mlp", "--optimizer.kind", "adam", "--crossval.folds", "2"]
    with Deployed(home, quick_server.api, "--dataset.source", pictures, *settings) as there:
        yield there


@pytest.fixture
def looked_at(deployed: Deployed) -> Iterator[Deployed]:
    """What the form asks for is looked at, not carried out."""
    queue = f"work_pools/{POOL}/queues/training"
    deployed.server.patch(queue, is_paused=True)
    yield deployed
    deployed.server.patch(queue, is_paused=False)


@pytest.fixture(scope="module")
def page() -> Iterator["playwright.Page"]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=QUIET, timeout=PATIENCE_MS)
        shown = browser.new_page()
        shown.set_default_timeout(PATIENCE_MS)
        yield shown
        browser.close()


def keep(page: "playwright.Page", name: str) -> None:
    """A picture for people: into SCREENSHOTS if it is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(2000)  # the graph of a run is drawn on a canvas
        page.screenshot(path=Path(folder) / f"{name}.png")


def on_page(page: "playwright.Page", deployed: Deployed, address: str, *, height: int = 1000) -> None:
    page.set_viewport_size({"width": 1400, "height": height})
    page.goto(f"{deployed.server.api.removesuffix('/api')}/{address}")


def opened(page: "playwright.Page", deployed: Deployed) -> dict[str, Any]:
    """The form of `train-by-hand`, empty of what was typed before; the deployment."""
    deployment = deployed.server.deployments()["train-by-hand"]
    on_page(page, deployed, f"v2/deployments/deployment/{deployment['id']}/run", height=4000)
    page.get_by_text("Label smoothing").first.wait_for()
    return deployment


def submitted(page: "playwright.Page", deployed: Deployed) -> dict[str, Any]:
    """The run that the form begins, cancelled at once: its parameters are what is asked for."""
    answers: list[playwright.Response] = []

    def taken() -> bool:  # once more, as people do: a server whose database is taken says 503
        with page.expect_response(re.compile("/create_flow_run$")) as answered:
            page.get_by_role("button", name="Submit").click()
        answers.append(answered.value)
        return answers[-1].status != 503

    wait_for(taken, every_s=1)
    assert answers[-1].ok, answers[-1].text()
    run = deployed.server.get(f"flow_runs/{answers[-1].json()['id']}")
    deployed.server.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLED"}, force=True)
    return dict(run["parameters"])


def test_the_form_shows_titles_and_descriptions_and_untouched_it_asks_for_what_the_deployment_does(
    page: "playwright.Page", looked_at: Deployed
):
    deployment = opened(page, looked_at)
    page.get_by_text("share of a target that is spread over all classes").first.wait_for()
    keep(page, "form")
    asked = submitted(page, looked_at)
    assert asked["experiment"] == deployment["parameters"]["experiment"]


def test_another_kind_of_network_is_chosen_by_its_name(page: "playwright.Page", looked_at: Deployed):
    opened(page, looked_at)
    page.get_by_role("tab", name="vit", exact=True).first.click()
    keep(page, "form-vit")
    asked = submitted(page, looked_at)["experiment"]
    assert asked["model"]["kind"] == "vit"
    assert asked["optimizer"]["kind"] == "adam"


def test_a_wrong_value_is_told_in_the_form_and_no_run_is_made(page: "playwright.Page", looked_at: Deployed):
    opened(page, looked_at)
    before = len(looked_at.server.runs("train-by-hand"))
    page.get_by_label("Label smoothing").first.fill("7")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(re.compile("7.* is greater than")).first.wait_for()
    keep(page, "form-wrong")
    assert len(looked_at.server.runs("train-by-hand")) == before


@pytest.fixture(scope="module")
def run(deployed: Deployed) -> str:
    """Begun by the README's lines, with a change."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "train-by-hand" in line or "$id" in line]
    script = "\n".join(line for line in lines if line.startswith(("id=", "curl")))
    assert script.count("\n") == 1
    before = {run["id"] for run in deployed.server.runs("train-by-hand")}
    done = subprocess.run(
        ["bash", "-ec", script], env=deployed.env, capture_output=True, text=True, timeout=2 * PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    (begun,) = [run["id"] for run in deployed.server.runs("train-by-hand") if run["id"] not in before]
    deployed.server.wait_until(begun, "Completed")
    return str(begun)


def folder_of(deployed: Deployed) -> Path:
    (folder,) = deployed.runs_at.glob("[0-9]*")
    return folder


@pytest.mark.usefixtures("run")
def test_the_lines_of_the_readme_begin_a_run_with_a_change(deployed: Deployed):
    assert json.loads((folder_of(deployed) / "experiment.json").read_text())["train"]["epochs"] == 3


def test_the_run_page_shows_the_stages(page: "playwright.Page", deployed: Deployed, run: str):
    of_it = {"flow_runs": {"id": {"any_": [run]}}}
    wait_for(lambda: len(deployed.server.post("task_runs/filter", **of_it)) == 6)  # told of by events, a little later
    on_page(page, deployed, f"runs/flow-run/{run}")
    page.get_by_text("Completed").first.wait_for()
    page.get_by_text("6 Task runs").wait_for()
    keep(page, "run")
    page.get_by_text("Artifacts", exact=True).last.click()
    for key in ("training-progress", "verdict", "confusion-matrix"):
        page.get_by_text(key).first.wait_for()
    keep(page, "run-artifacts")


def test_the_artifacts_page_lists_them_and_their_pictures_load(page: "playwright.Page", deployed: Deployed, run: str):
    on_page(page, deployed, "artifacts")
    page.get_by_text("confusion-matrix").first.wait_for()
    keep(page, "artifacts")
    identities = {one["key"]: one["id"] for one in deployed.server.artifacts(run)}
    for key in ("data", "curves", "confusion-matrix"):
        on_page(page, deployed, f"artifacts/artifact/{identities[key]}")
        page.locator(PICTURE).first.wait_for()
        page.wait_for_function(SHOWN)
        keep(page, key)


def test_the_verdict_is_read_in_one_sentence(page: "playwright.Page", deployed: Deployed, run: str):
    (verdict,) = [one for one in deployed.server.artifacts(run) if one["key"] == "verdict"]
    on_page(page, deployed, f"artifacts/artifact/{verdict['id']}")
    reason = json.loads((folder_of(deployed) / "verdict.json").read_text())["reason"]
    page.get_by_text(reason).first.wait_for()
    keep(page, "verdict")
