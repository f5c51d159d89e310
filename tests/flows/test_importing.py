"""The start of a run: what is imported when."""

import gc
import subprocess
import sys

import pytest

from flows.importing import uncollected


@pytest.mark.slow
def test_no_garbage_is_looked_for_during_imports_and_never_again_among_what_they_made():
    frozen = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
            with uncollected():
                pass
            assert not gc.isenabled()  # the outer one has not ended
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_garbage_is_looked_for_again_after_an_import_that_failed():
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    gc.unfreeze()
    assert gc.isenabled()


@pytest.mark.slow  # torch and Prefect, in an interpreter of their own
def test_what_the_first_step_needs_is_imported_before_the_flow_begins():
    """Whatever the imports say today: a run must not pay for them after its server answers."""
    code = """
import sys
import models.training.learn
from flows.importing import beginning_of_a_flow
beginning_of_a_flow()
wanted = {"flows.pipeline", "models.training.launch", "prefect.flow_engine", "prefect.task_engine", "fastapi.encoders"}
late = {"scipy", "sympy", "sklearn", "torch._dynamo", "onnxruntime", "onnx", "matplotlib", "tensorboard"}
sys.exit(str((wanted - sys.modules.keys()) | (late & sys.modules.keys()) or ""))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr.strip(), done.stderr
