"""Make tests/golden/bundle-v1 anew: the digits, the smallest network, a minute on a CPU.

    .venv/bin/python tests/golden/make_bundle_v1.py

The committed folder is a promise that bundles of format 1 keep opening. Do not make it anew so that a test passes;
make a bundle-v2 beside it when the format changes.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from data.prepare import prepare
from data.spec import DatasetSpec
from models.bundle.export import export
from models.config import Experiment, TrainConfig
from models.evaluation.evaluate import evaluate
from models.records import Lineage
from models.run import open_run
from models.training.learn import learn
from models.zoo.config import CNNConfig

TARGET = Path(__file__).with_name("bundle-v1")


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
        bundle = export(folder, dataset)
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(bundle, TARGET)
    size = sum(file.stat().st_size for file in TARGET.rglob("*"))
    print(f"{TARGET}: test accuracy {result.test.accuracy:.3f}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
