"""FastAPI and uvicorn: one handler, the body read, the model called where it stands.

python -m benchmarks.services.plain_fastapi BUNDLE PORT
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from models.bundle.bundle import Bundle


def app(bundle: Bundle) -> FastAPI:
    made = FastAPI()

    @made.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        media_type = request.headers["content-type"]
        if media_type.startswith("multipart/"):
            form = await request.form()
            data = await form["image"].read()  # type: ignore[union-attr]
        else:
            data = await request.body()
        return bundle.classify(data).model_dump()

    return made


if __name__ == "__main__":
    uvicorn.run(app(Bundle.open(Path(sys.argv[1]))), port=int(sys.argv[2]), log_level="error", access_log=False)
