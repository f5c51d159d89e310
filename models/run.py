"""The run folder: what a training leaves behind, where, and who is working in it. No torch here."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data import whole
from data.spec import Frozen, ImageSpec
from models import claims
from models.claims import claim, release
from models.config import Experiment
from models.records import EpochRecord, FitSummary, PixelStatistics, RateTest, RunResult
from models.room import must_be_written


class NetworkSpec(Frozen):
    """network.json: with the experiment's model, all that building the network again takes."""

    image: ImageSpec
    statistics: PixelStatistics
    classes: tuple[str, ...]


@dataclass(frozen=True)
class RunFolder:
    """Every file in it is whole or absent; run.json is written last, and a folder without it is unfinished."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def data_file(self) -> Path:
        return self.path / "data.html"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def learned(self) -> bool:
        """The best weights are here."""
        return (self.path / "fit.json").exists()

    @property
    def finished(self) -> bool:
        return (self.path / "run.json").exists()

    def experiment(self) -> Experiment:
        return Experiment.model_validate_json((self.path / "experiment.json").read_bytes())

    def network(self) -> NetworkSpec:
        return NetworkSpec.model_validate_json((self.path / "network.json").read_bytes())

    def fit(self) -> FitSummary:
        return FitSummary.model_validate_json((self.path / "fit.json").read_bytes())

    def result(self) -> RunResult:
        return RunResult.model_validate_json((self.path / "run.json").read_bytes())

    def history(self) -> tuple[EpochRecord, ...]:
        """In order of epochs; empty before the first has ended."""
        file = self.path / "history.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return tuple(EpochRecord.model_validate_json(line) for line in lines)

    def predictions(self) -> dict[str, np.ndarray]:
        """val_logits, val_rows, val_labels, test_logits, test_probabilities, test_rows, test_labels."""
        with np.load(self.path / "predictions.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def write_experiment(self, experiment: Experiment) -> None:
        self._write_json("experiment.json", experiment)

    def write_network(self, network: NetworkSpec) -> None:
        self._write_json("network.json", network)

    def write_fit(self, summary: FitSummary) -> None:
        self._write_json("fit.json", summary)

    def rate_test(self) -> RateTest | None:
        """None where the rate was given."""
        file = self.path / "lr_range.json"
        return RateTest.model_validate_json(file.read_bytes()) if file.exists() else None

    def batch_size(self) -> int | None:
        """As found by trying; None where it was not."""
        file = self.path / "batch_size.json"
        return int(json.loads(file.read_bytes())) if file.exists() else None

    def write_rate_test(self, test: RateTest) -> None:
        self._write_json("lr_range.json", test)

    def write_batch_size(self, batch_size: int) -> None:
        whole.write(self.path / "batch_size.json", f"{batch_size}\n".encode())

    def write_result(self, result: RunResult) -> None:
        self._write_json("run.json", result)

    def write_epoch(self, record: EpochRecord) -> None:
        """An epoch that is told again, because a kill came before its checkpoint, replaces its line."""
        self.write_history([*(old for old in self.history() if old.epoch < record.epoch), record])

    def write_history(self, records: Iterable[EpochRecord]) -> None:
        lines = "".join(f"{record.model_dump_json()}\n" for record in records)
        whole.write(self.path / "history.jsonl", lines.encode())

    def write_predictions(self, arrays: Mapping[str, np.ndarray]) -> None:
        part = self.path / f".predictions-{os.getpid()}.npz"
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
        part.replace(self.path / "predictions.npz")

    def _write_json(self, name: str, value: Frozen) -> None:
        whole.write(self.path / name, (value.model_dump_json(indent=2) + "\n").encode())


def runs(home: Path) -> list[RunFolder]:
    """Oldest first."""
    return [RunFolder(path) for path in sorted((home / "runs").glob("[0-9]*")) if path.is_dir()]


def open_run(home: Path, experiment: Experiment, fingerprint: str, *, refresh: Collection[str] = ()) -> RunFolder:
    """The unfinished run of the same experiment on the same data, to go on with; otherwise a new one.

    With `refresh`, names of stages, only a run that makes these itself.

    The folder is this process's until it ends, however it ends: another process that asks for the same gets another
    folder. Asking again in this process, as a retry does, gives the same one.
    """
    key = run_key(experiment, fingerprint)
    for folder in runs(home):
        if not folder.finished and read_key(folder) == key and refreshes(folder, refresh) and claim(folder.path):
            return folder
    return new_run(home, experiment, fingerprint, refresh=refresh)


def run_key(experiment: Experiment, fingerprint: str) -> str:
    """sha256 (hex) of all that decides a run."""
    return hashlib.sha256(f"{experiment.model_dump_json()}\n{fingerprint}".encode()).hexdigest()


def read_key(folder: RunFolder) -> str | None:
    file = folder.path / "key"
    return file.read_text() if file.exists() else None


def read_fingerprint(folder: RunFolder) -> str | None:
    """Of the pictures that the run was started with; None for a run of an older version."""
    file = folder.path / "fingerprint"
    return file.read_text() if file.exists() else None


def read_refresh(folder: RunFolder) -> frozenset[str]:
    """The stages that this run makes itself, whatever others have made; it was started so."""
    file = folder.path / "refresh.json"
    return frozenset(json.loads(file.read_bytes())) if file.exists() else frozenset()


def refreshes(folder: RunFolder, stages: Collection[str]) -> bool:
    return read_refresh(folder).issuperset(stages)


def new_run(home: Path, experiment: Experiment, fingerprint: str, *, refresh: Collection[str] = ()) -> RunFolder:
    """Claimed before it appears under its name, so that no one else can come first. Raises `RunFailed`."""
    with must_be_written(home / "runs"), whole.locked(home / "runs"):
        return make_run(home / "runs", experiment, fingerprint, refresh)


def make_run(parent: Path, experiment: Experiment, fingerprint: str, refresh: Collection[str]) -> RunFolder:
    """One process at a time: what is half made by now was left by a kill, and is cleared away."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(".new-*"):
        if claim(left):
            release(left)
            shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    part.chmod(0o755)
    RunFolder(part).write_experiment(experiment)
    key = run_key(experiment, fingerprint)
    (part / "key").write_text(key)
    (part / "fingerprint").write_text(fingerprint)
    if refresh:
        (part / "refresh.json").write_text(json.dumps(sorted(refresh)))
    claim(part)
    base = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{subject_of(experiment)}-{key[:6]}"
    for attempt in range(1, 100):
        target = parent / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            part.rename(target)  # fails where the name is taken: a run folder is never empty
        except OSError:
            continue
        claims.moved(part, target)
        return RunFolder(target)
    release(part)
    shutil.rmtree(part)
    raise RuntimeError(f"no free name for a run like {base}")


def subject_of(experiment: Experiment) -> str:
    """What the run is about, for a name in which only a-z, 0-9 and - may stand."""
    source = experiment.dataset.source.rstrip("/")
    name = experiment.dataset.name or Path(source).name.partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:32].strip("-") or "run"
