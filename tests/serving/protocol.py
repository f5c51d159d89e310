"""Requests of the Open Inference Protocol, and a service in this process that they are sent to."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import toy
from conftest import LEAKS, home_is

from serving import challengers, store
from serving.http import app
from serving.inference import Inference
from serving.refs import ModelRef
from serving.settings import Settings

Ask = Callable[..., httpx.Response]
WHATS = ("", "/ready", "/infer")
INFER = "/v2/models/toy/infer"
SIDE = 16
GREY = np.full((1, SIDE, SIDE, 3), 200, dtype=np.uint8)


@contextmanager
def answering(folder: Path) -> Iterator[Ask]:
    """Ask a service in this process. toy@low, bright above 50, is in service and toy@high, bright above 220, its
    challenger; the same of `tried`, on trial; lamps@1 takes smaller pictures; `none` has no model."""
    limits = {"max_pictures": 4, "max_upload_bytes": 100_000, "max_batch_upload_bytes": 400_000}
    with home_is(folder / "bentoml"):
        for name in ("toy", "tried"):
            for version, threshold in (("low", 50), ("high", 220)):
                bundle = toy.bundle(folder / name / version, name=name, version=version, threshold=threshold)
                store.save(bundle)
            store.promote(ModelRef(name=name, version="low"), reason="")
        challengers.challenge(ModelRef(name="toy", version="high"), reason="")
        challengers.try_out(ModelRef(name="tried", version="high"), share=1, shadow=False, reason="")
        lamps = toy.bundle(folder / "lamps", name="lamps", version="1", side=8)
        store.promote(store.save(lamps), reason="")
        inference = Inference(Settings(model="toy,lamps,tried,none", **limits))
        inference.start()
        built = app.build(inference)

        async def one(method: str, path: str, **content: Any) -> httpx.Response:
            transport = httpx.ASGITransport(built, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **content)

        yield lambda method, path, **content: asyncio.run(one(method, path, **content))
        inference.stop()


def base64_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


def image(*files: bytes) -> dict[str, Any]:
    """An input in JSON."""
    return {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": [base64_of(file) for file in files]}


def pixels(**changes: Any) -> dict[str, Any]:
    data = GREY.ravel().tolist()
    return {"name": "pixels", "datatype": "UINT8", "shape": list(GREY.shape), "data": data, **changes}


def behind(tensor: dict[str, Any], data: bytes, **head: Any) -> dict[str, Any]:
    """A request with the tensor's data behind its JSON."""
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}], **head}).encode()
    return {"content": text + data, "headers": {"Inference-Header-Content-Length": str(len(text))}}


def prefixed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def outputs(response: httpx.Response) -> dict[str, Any]:
    """Of an answer in JSON: the data by name."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def refused(response: httpx.Response, status: int = 422) -> str:
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error", "request_id"}
    assert "\n" not in answer["error"]
    assert not LEAKS.search(answer["error"])
    return str(answer["error"])
