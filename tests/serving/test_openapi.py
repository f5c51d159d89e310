"""The document is true: schemathesis asks the service all that it allows, and what it forbids."""

import base64
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import schemathesis
import toy
from conftest import home_is
from hypothesis import settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from serving import challengers, store
from serving.http import app, openapi
from serving.inference import Inference
from serving.settings import Settings

pytest_plugins = ["schemathesis.pytest.plugin"]  # only here: it takes seconds to import
pytestmark = pytest.mark.slow  # and is not even collected where these are not to run: conftest.py

# What no schema can say of bytes: that they are a picture.
PICTURES = st.sampled_from([toy.picture(20), toy.picture(200, format="JPEG")])
for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(lambda picture: base64.b64encode(picture).decode()))

INFERENCE = Inference(Settings(max_pictures=8))
DOCUMENT = deepcopy(openapi.document(INFERENCE.settings))
# Names are those of a store; all others, well written or not, are to be refused.
DOCUMENT["components"]["parameters"]["model"]["schema"]["enum"] = ["toy", "toy@v1", "toy@champion", "toy@previous"]
for item in DOCUMENT["paths"].values():
    for parameter in item.get("parameters", []):
        parameter["schema"] = {"enum": {"name": ["toy"], "version": ["v1", "champion"]}[parameter["name"]]}
documented = schemathesis.openapi.from_dict(DOCUMENT)
CONFORMANCE = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
documented.app = app.build(INFERENCE)


@pytest.fixture(scope="module", autouse=True)
def _answering(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[None]:
    """A service in this process, with a model and another one on trial."""
    folder = tmp_path_factory.mktemp("documented")
    with home_is(folder / "bentoml"):
        first, second = store.save(toy_bundle), store.save(toy.bundle(folder / "v2", version="v2", threshold=200))
        for ref in (second, first):
            store.promote(ref, reason="")
        challengers.try_out(second, share=0.5, shadow=False, reason="")
        INFERENCE.start()
        yield
        INFERENCE.stop()


@documented.exclude(path_regex="^/(v2|explain|feedback)").parametrize()
@settings(max_examples=10, derandomize=True, database=None)
def test_the_service_does_what_its_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate()


# What a tensor or a label may be is more than a schema can say: whether it is taken is for tests of their own.
@documented.include(path_regex="^/(v2|explain|feedback)").parametrize()
@settings(max_examples=10, derandomize=True, database=None)
def test_tensors_explanations_and_feedback_are_answered_as_the_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=[*CONFORMANCE])


def test_the_document_keeps_to_openapi() -> None:
    documented.validate()
