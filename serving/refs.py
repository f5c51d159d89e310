"""What a stored model is called: `name@version`."""

import re
from typing import Literal, Self

from data.errors import InputError
from data.spec import Frozen

Role = Literal["champion", "challenger", "previous"]
ROLES: tuple[Role, ...] = ("champion", "challenger", "previous")
# What BentoML accepts as a name or version; no separator can be part of it, so a ref is never a path elsewhere.
WORD = r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?"


class StoreError(InputError):
    """A model, version or alias that is not there, or cannot be stored."""


class ModelRef(Frozen):
    """One version of one model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @classmethod
    def checked(cls, name: str, version: str) -> Self:
        """Raises `StoreError` for words that BentoML's store would not take, or that mean something else."""
        for what, word in (("model name", name), ("version", version)):
            if not re.fullmatch(WORD, word) or ".." in word:
                raise StoreError(
                    f"{what} {word!r} cannot be stored; use lower-case letters, digits, '-', '_' and '.', "
                    "at most 63, beginning and ending with a letter or digit"
                )
        if version in (*ROLES, "latest"):
            raise StoreError(f"version {version!r} is the name of an alias; use another one")
        return cls(name=name, version=version)
