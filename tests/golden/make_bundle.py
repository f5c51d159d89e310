"""Make the bundle of the present format beside those of before: the digits, the smallest network, a minute on a CPU.

    .venv/bin/python -m tests.golden.make_bundle

The committed folders are a promise that bundles of every format keep opening. Do not make one anew so that a test
passes; when `models.bundle.manifest.FORMAT` changes, this makes the next one.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from data.prepare import prepare
from data.spec import DatasetSpec
from flows.rehearsal import rehearsed
from models.bundle.export import export
from models.bundle.manifest import FORMAT
from models.config import Experiment, TrainConfig
from models.evaluation.evaluate import evaluate
from models.records import Lineage
from models.run import open_run
from models.training.learn import learn
from models.zoo.config import CNNConfig

TARGET = Path(__file__).with_name(f"bundle-v{FORMAT}")


def main() -> None:
    experiment = Experiment(
        name="digits-small",
        dataset=DatasetSpec(source="digits"),
        model=CNNConfig(width=8),
        train=TrainConfig(epochs=40, batch_size=32, devices="cpu"),
    )
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        dataset = prepare(experiment.dataset, home)
        fingerprint = dataset.images.snapshot.fingerprint
        folder = open_run(home, experiment, fingerprint)
        learn(experiment, dataset, folder)
        lineage = Lineage(run_id=folder.run_id, fingerprint=fingerprint, commit=None)
        result = evaluate(folder, dataset, crossval=None, lineage=lineage)
        bundle = export(folder, dataset, rehearse=rehearsed)
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(bundle, TARGET)
    size = sum(file.stat().st_size for file in TARGET.rglob("*"))
    print(f"{TARGET}: test accuracy {result.test.accuracy:.3f}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
