"""The start of a run: what is imported when, and what its own Prefect server leaves out."""

import gc
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows import schema
from flows.importing import uncollected


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


@pytest.fixture
def prefect_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database at revision `abc`, and no other chosen."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    at_revision(tmp_path, "abc")
    return tmp_path


def at_revision(home: Path, revision: str) -> None:
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("DELETE FROM alembic_version")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


@pytest.mark.usefixtures("prefect_home")
def test_a_database_that_a_server_of_this_version_has_migrated_is_not_migrated_again():
    assert schema.without_migrations() == {}
    schema.remember()
    assert schema.without_migrations() == {schema.SETTING: "false"}


def test_another_revision_another_version_or_no_database_is_migrated(prefect_home: Path):
    schema.remember()
    memory = prefect_home / schema.MEMORY
    at_revision(prefect_home, "abd")
    assert schema.without_migrations() == {}
    at_revision(prefect_home, "abc")
    memory.write_text(f"9{memory.read_text()}")
    assert schema.without_migrations() == {}
    schema.remember()
    assert schema.without_migrations()
    (prefect_home / "prefect.db").unlink()
    assert schema.without_migrations() == {}
    assert not (prefect_home / "prefect.db").exists()


def test_a_database_chosen_by_variable_or_file_is_always_looked_at(prefect_home: Path, monkeypatch: pytest.MonkeyPatch):
    schema.remember()
    (prefect_home / "profiles.toml").write_text('[profiles.local]\nPREFECT_SERVER_DATABASE_HOST = "db"\n')
    assert schema.without_migrations() == {}
    (prefect_home / "profiles.toml").unlink()
    assert schema.without_migrations()
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///elsewhere.db")
    assert schema.without_migrations() == {}
