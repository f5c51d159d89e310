"""What pages are made with: templates, in which every value is escaped. No torch here."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.evaluation.percent import percent

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Class and file names are strangers' text and are escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "data_uri": data_uri}
    return made


def data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
