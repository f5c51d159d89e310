"""docs/serving.md keeps its promises: its curl lines are answered, its tables are the code's."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import toy
from conftest import Running

from serving import metrics
from serving.errors import Reason
from serving.http import openapi
from serving.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs/serving.md").read_text()
CURL_LINES = re.findall(r"^curl .*?(?=\s+#|$)", TEXT, re.M)


@pytest.mark.parametrize("line", CURL_LINES)
def test_its_curl_lines_are_answered(service: Running, tmp_path: Path, line: str):
    for name in ("rose.jpg", "tulip.jpg"):
        (tmp_path / name).write_bytes(toy.picture(200, format="JPEG"))
    here = (
        line.replace("localhost:3000", service.url)
        .replace("flowers@3", "toy@v1")
        .replace("flowers", "toy")
        .replace('"rose"', '"bright"')
    )
    command = here.replace("curl ", "curl --silent --show-error --fail-with-body --noproxy '*' ", 1)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_a_curl_line_for_every_path():
    asked = {re.sub(r"/\d+$", "/{number}", re.search(r"localhost:3000(/[^ ?']*)", line)[1]) for line in CURL_LINES}
    own = {path for path in openapi.document(Settings())["paths"] if not path.startswith("/v2")}
    assert {path for path in asked if not path.startswith("/v2")} == own, "the others have a page of their own"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_its_settings_are_those_of_the_service(name: str):
    field = Settings.model_fields[name]
    chosen = field.default_factory is not None  # from the machine
    default = "" if field.default is None or chosen else field.default
    assert f"| `TRAINSERVE_{name.upper()}` | {default} | {field.description} |\n" in TEXT


def test_it_tells_every_figure_and_its_meaning():
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = " ".join(f"`{label}`" for label in metric._labelnames)
            assert f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |\n" in TEXT


def test_it_has_no_variable_that_there_is_not():
    known = {f"TRAINSERVE_{name}".upper() for name in Settings.model_fields}
    assert set(re.findall(r"TRAINSERVE_[A-Z_]+", TEXT)) == known


def test_it_names_every_reason():
    (told,) = re.findall(r"The `reason` of a refusal is one of (.*?)\.\n", TEXT, re.S)
    assert re.findall(r"`(\w+)`", told) == list(get_args(Reason))
