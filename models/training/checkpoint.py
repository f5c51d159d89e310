"""Checkpoints on disk: whole or absent, never code, the newest and one before it."""

import io
import logging
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NAME = re.compile(r"checkpoint-(\d{10})\.pt")
log = logging.getLogger(__name__)

PART = "checkpoint.part"  # one name: what a kill leaves of it is overwritten by the next
KEPT = 2  # should the newest not be readable, the one before it is

Packed = dict[str, Any]
"""Tensors, numbers, strings, and dicts, lists and tuples of them: what `weights_only` loads."""


class Checkpoints:
    """A folder that `fit` saves to and resumes from."""

    def __init__(
        self,
        folder: Path,
        *,
        every_s: float = 30.0,
        epoch_s: float = 1.0,
        every_steps: int | None = None,
        writes: bool = True,
        on_trouble: Callable[[str], None] = log.warning,
    ) -> None:
        """Due once `every_s` seconds have passed since the last, or `epoch_s` at the end of an epoch; with
        `every_steps`, after every so many steps of the run and at no other time.

        `writes` False: of several processes that train together, one writes. `on_trouble` hears, in a sentence, of a
        checkpoint that could not be written.
        """
        self.folder, self.every_s, self.epoch_s, self.every_steps = folder, every_s, epoch_s, every_steps
        self._writes, self._on_trouble = writes, on_trouble
        self._saved_at = time.monotonic()

    def due(self, steps_done: int, *, epoch_ended: bool = False) -> bool:
        if self.every_steps is not None:
            return steps_done % self.every_steps == 0
        wanted_s = min(self.every_s, self.epoch_s) if epoch_ended else self.every_s
        return time.monotonic() - self._saved_at >= wanted_s

    def save(self, packed: Packed) -> None:
        """A full disk costs this checkpoint, not the run: those before it stay, and the next one is tried in time."""
        try:
            if self._writes:
                self._write(packed)
        except OSError as error:
            (self.folder / PART).unlink(missing_ok=True)  # what it holds is room for others
            self._on_trouble(
                f"no checkpoint could be written to {self.folder} ({error.strerror or error}); training goes on and "
                "the one before stays good, but make room, or a kill will cost the time since then"
            )
        self._saved_at = time.monotonic()  # also where another process writes: packing waits for a GPU

    def _write(self, packed: Packed) -> None:
        content = io.BytesIO()  # packed in memory, so that all that can fail below is the disk
        torch.save(packed, content)
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self._newest_first()
        number = before[0][0] + 1 if before else 0
        target = self.folder / f"checkpoint-{number:010d}.pt"
        part = self.folder / PART
        with part.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        for _, old in before[KEPT - 1 :]:
            old.unlink()

    def load(self) -> Packed | None:
        """The newest that can be read, on the CPU: what takes it in copies it to where it is needed, and an optimiser
        leaves there the steps that it counts there, or each of them would make a GPU wait. None if there is none."""
        for _, path in self._newest_first():
            try:
                packed: Packed = torch.load(path, map_location="cpu", weights_only=True)
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
