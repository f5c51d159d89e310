"""Stochastic depth as a setting, for all networks that have residual blocks. No torch here."""

from typing import Annotated

from pydantic import Field

SkipRate = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        title="Stochastic depth",
        description="how often the last block is skipped in training; the others less, in proportion to their depth",
    ),
]
