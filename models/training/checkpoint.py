"""Checkpoints on disk: whole or absent, never code, the newest and one before it."""

import pickle
import re
import shutil
import time
from pathlib import Path
from typing import Any

import torch

NAME = re.compile(r"checkpoint-(\d{10})\.pt")
KEPT = 2  # should the newest not be readable, the one before it is

Packed = dict[str, Any]
"""Tensors, numbers, strings, and dicts, lists and tuples of them: what `weights_only` loads."""


class Checkpoints:
    """A folder that `fit` saves to and resumes from."""

    def __init__(self, folder: Path, *, every_s: float = 30.0) -> None:
        """`every_s`: also within an epoch, once these seconds have passed since the last."""
        self.folder, self.every_s = folder, every_s
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.every_s

    def save(self, packed: Packed) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self._newest_first()
        number = before[0][0] + 1 if before else 0
        target = self.folder / f"checkpoint-{number:010d}.pt"
        part = self.folder / "checkpoint.part"  # one name: what a kill leaves of it is overwritten by the next
        torch.save(packed, part)
        part.replace(target)
        for _, old in before[KEPT - 1 :]:
            old.unlink()
        self._saved_at = time.monotonic()

    def load(self, *, device: torch.device) -> Packed | None:
        """The newest that can be read; None if there is none."""
        for _, path in self._newest_first():
            try:
                packed: Packed = torch.load(path, map_location=device, weights_only=True)
            except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
                continue  # damaged after it was written: the disk, not us
            return packed
        return None

    def clear(self) -> None:
        """The run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[tuple[int, Path]]:
        matches = [(NAME.fullmatch(path.name), path) for path in self.folder.glob("checkpoint-*.pt")]
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)
