"""The service's documents keep their promises: their curl lines are answered, their tables are the code's."""

import io
import re
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conftest import Running
from PIL import Image

from serving import metrics
from serving.errors import Reason
from serving.http import openapi
from serving.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "serving.md").read_text()
SHOWN_IN = ("serving", "open-inference-protocol", "page-and-feedback")
PAGES = "\n".join((DOCS / f"{name}.md").read_text() for name in SHOWN_IN)
CURL_LINES = re.findall(r"^(?:printf .*\| )?curl .*?(?=\s+#|$)", PAGES, re.M)
WRITTEN_FIRST = re.findall(r"^printf .* > .*$", PAGES, re.M)  # files that curl sends


def photograph() -> bytes:
    """A JPEG of the size that a camera makes: too large, in base64, for an argument of a command."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels | 128).save(stream, format="JPEG", quality=90)
    assert len(stream.getvalue()) > 2**17
    return stream.getvalue()


LARGE = photograph()


@pytest.mark.parametrize("line", CURL_LINES)
def test_their_curl_lines_are_answered(service: Running, tmp_path: Path, line: str):
    for name in ("rose.jpg", "tulip.jpg"):
        (tmp_path / name).write_bytes(LARGE)
    here = (
        line.replace("localhost:3000", service.url)
        .replace("flowers@3", "toy@v1")
        .replace("versions/3", "versions/v1")
        .replace("flowers", "toy")
        .replace('"rose"', '"bright"')
        .replace('"tulip"', '"dark"')
        .replace("label=tulip", "label=dark")
    )
    command = here.replace("curl ", "curl --silent --show-error --fail-with-body --noproxy '*' ", 1)
    script = "\n".join(["set -e", *WRITTEN_FIRST, command])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_curl_line_for_every_path():
    paths = {re.search(r"localhost:3000(/[^ ?'\"]*)", line)[1] for line in CURL_LINES}
    asked = {re.sub(r"(?<=samples/)\d+", "{number}", path) for path in paths}
    asked = {re.sub(r"(?<=versions/)\w+", "{version}", path.replace("flowers", "{name}")) for path in asked}
    assert asked == set(openapi.document(Settings())["paths"])


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
