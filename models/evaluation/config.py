"""What a person may choose about answers, the export, the release and the diagnosis: frozen values. No torch here."""

import re
from typing import Literal

from pydantic import Field, field_validator

from data.spec import Frozen

NO_LICENSE = "other"


class AnswerConfig(Frozen):
    """How the trained network answers, in evaluation and in service alike; while it trains it is asked once."""

    mirror: bool = Field(
        False,
        title="Mirror",
        description="the mean of the answers to a picture and its mirror image, at twice the cost",
    )
    risk: float | None = Field(
        0.05,
        ge=1e-4,  # which takes 30,000 validation pictures, all of them answered right
        lt=1,
        title="Risk",
        description="share of the answers called sure that may be wrong; a threshold that keeps to it is chosen on "
        "validation pictures; none: no answer is called sure or not sure",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, title="Confidence", description="that the answers called sure keep to the risk"
    )


class ExportConfig(Frozen):
    """What is made of a trained network beside its graph. Nothing of it answers unless it has been proved."""

    quantize: Literal["none", "int8", "fp16", "both"] = Field(
        "none",
        title="Quantize",
        description="a second graph: int8 for processors, kept if it is faster here, and taken by services where it "
        "answers as it did here; fp16 for GPUs, taken where TRAINSERVE_VARIANT=fp16 asks for it",
    )
    quantize_margin: float = Field(
        0.01, ge=0, lt=1, title="Margin of it", description="largest loss of accuracy that such a graph may have"
    )
    minutes: float = Field(
        3.0, gt=0, le=600, title="Minutes for it", description="that the way to quantize may be searched for"
    )
    slim: bool = Field(
        True, title="Slim", description="the graph is cleaned by onnxslim, and kept as it was where that gains nothing"
    )


class ReleaseConfig(Frozen):
    """When a new model replaces the one in service. Whatever is none is measured and told, and decides nothing."""

    margin: float = Field(
        0.02, ge=0, lt=1, title="Margin", description="largest loss of accuracy that counts as not worse"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, title="Confidence", description="of the one-sided tests")
    class_margin: float = Field(
        0.15, gt=0, le=1, title="Class margin", description="largest drop of any single class's recall"
    )
    parity: float = Field(
        1e-3,
        gt=0,
        title="Parity",
        description="largest difference between trained and exported probabilities, and those of a service over HTTP",
    )
    rehearse: bool = Field(
        True,
        title="Rehearse",
        description="a service on the new model is asked, timed, overloaded and stopped; where that fails, it is not "
        "promoted",
    )
    min_accuracy: float | None = Field(
        None, gt=0, le=1, title="Least accuracy", description="on the test pictures, as measured; also of a first model"
    )
    min_recall: float | None = Field(
        None, gt=0, le=1, title="Least recall", description="of the weakest class, as measured; also of a first model"
    )
    max_ece: float | None = Field(
        None, gt=0, le=1, title="Largest calibration error", description="on the test pictures; also of a first model"
    )
    latency_ms: float | None = Field(
        None, gt=0, title="Latency", description="milliseconds that 95 of 100 answers to one picture have to keep to"
    )
    slowdown: float | None = Field(
        2.0, ge=1, title="Slowdown", description="times the champion's time for a picture, here; up to 5 ms are free"
    )
    size_mb: float | None = Field(None, gt=0, title="Bundle size", description="largest, in megabytes")
    robust_margin: float | None = Field(
        0.1,
        gt=0,
        le=1,
        title="Robustness margin",
        description="largest loss of accuracy under blur, noise, JPEG, dark or bright light; none: not tried at all",
    )
    license: str = Field(
        "other",
        max_length=64,
        title="Licence",
        description="of the model, for its README.md: an SPDX identifier such as Apache-2.0; other: none is named",
    )

    @field_validator("license")
    @classmethod
    def _known(cls, given: str) -> str:
        """As SPDX writes it. Raises ValueError for one that is not on its list: https://spdx.org/licenses/"""
        if given.lower() == NO_LICENSE:
            return NO_LICENSE
        from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

        try:
            known = str(canonicalize_license_expression(given))
        except InvalidLicenseExpression:
            known = " "
        if not re.fullmatch(r"[A-Za-z0-9.-]+", known):  # one of them, no expression
            raise ValueError(
                f"{given!r} is no licence that SPDX lists; give one of its names, such as Apache-2.0, or {NO_LICENSE}"
            )
        return known


class DiagnoseConfig(Frozen):
    """What is looked at once training has ended, beyond what costs nothing."""

    hessian: bool = Field(
        False,
        title="Curvature",
        description="largest and smallest eigenvalue of the Hessian at the end point: a minimum or a saddle; slow",
    )
    hessian_pictures: int = Field(
        256, ge=1, title="Pictures for it", description="training pictures that the loss is taken over"
    )
    hessian_iterations: int = Field(
        40, ge=2, le=1000, title="Iterations for it", description="at most; of Lanczos' method"
    )
