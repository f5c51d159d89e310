"""What holds for every path of the OpenAPI document; test_openapi.py asks the service whether the document is true."""

import pytest

from serving.http import openapi
from serving.settings import Settings

DOCUMENT = openapi.document(Settings(max_pictures=8))


@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
def test_every_path_takes_a_request_id_and_a_trace_and_gives_an_id(path: str) -> None:
    (operation,) = (operation for name, operation in DOCUMENT["paths"][path].items() if name != "parameters")
    taken = {parameter.get("$ref", "").rpartition("/")[2] for parameter in operation["parameters"]}
    assert {"X-Request-Id", "traceparent"} <= taken
    assert all("X-Request-Id" in answer["headers"] for answer in operation["responses"].values())
