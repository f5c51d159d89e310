"""The arrows between the folders: data <- models <- flows, and serving reads bundles without torch or prefect.

Stated twice: as the imports written in every file (fast, and names the line), and as what a fresh interpreter has
loaded afterwards (which also sees what the libraries themselves pull in).
"""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("data", "models", "serving", "flows")
ENGINES = ("prefect", "bentoml")
LEARNING = ("torch", "torchvision", "sklearn", "onnxscript", "tensorboard", "matplotlib")

# Which folders a folder may import from; `flows` is the edge that nothing imports.
MAY_IMPORT = {
    "data": {"data"},
    "models": {"data", "models"},
    "serving": {"data", "models", "serving"},
    "flows": set(FOLDERS),
}
# Libraries that no file of a folder names, also not inside a function.
NEVER_NAMED = {"data": ENGINES, "models": ENGINES, "serving": ("prefect", *LEARNING), "flows": ()}
TORCH_IN_DATA = {f"data/{name}.py" for name in ("augment", "drawing", "loader", "mixing", "policy", "resample", "tone")}
# What the service uses of models/, and what a bundle or a run's records need: none of it trains.
WITHOUT_TORCH = {
    "models.bundle.bundle",
    "models.bundle.parity",
    "models.cards",
    "models.evaluation.compare",
    "models.config",
    "models.evaluation.metrics",
    "models.records",
}
LONGEST_FILE, LONGEST_FUNCTION = 250, 40


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import statement, wherever it stands."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."
            if node.module in FOLDERS:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def loaded_after(*modules: str) -> set[str]:
    """Top-level packages in a fresh interpreter after these imports."""
    (loaded,) = loaded_one_by_one(", ".join(modules))
    return loaded


def loaded_one_by_one(*imported: str) -> list[set[str]]:
    """The same, after each of several imports, each of which comes on top of those before it."""
    told = "print(*{name.partition('.')[0] for name in sys.modules})"
    code = "\n".join(["import sys", *(f"import {modules}; {told}" for modules in imported)])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_follow_the_arrows(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for line, name in imports(path):
            top = name.partition(".")[0]
            against = (top in FOLDERS and top not in MAY_IMPORT[folder]) or top in NEVER_NAMED[folder]
            if against or name == ".":
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_only_augmentation_and_loading_bring_torch_into_data():
    named = {
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "data").rglob("*.py"))
        for _, name in imports(path)
        if name.partition(".")[0] == "torch"
    }
    assert named <= TORCH_IN_DATA


def test_the_data_folder_loads_no_torch_no_engine_and_no_other_folder():
    modules = [module_of(path) for path in sources() if path.relative_to(ROOT).parts[0] == "data"]
    modules = [name for name in modules if f"{name.replace('.', '/')}.py" not in TORCH_IN_DATA]
    loaded = loaded_after(*modules)
    assert not loaded & {"torch", "torchvision", *ENGINES, "models", "serving", "flows"}
    assert not loaded & {
        "fsspec",
        "s3fs",
        "botocore",
        "pyarrow",
        "datasets",
        "huggingface_hub",
    }  # late


@pytest.mark.slow  # torch alone takes 8 to 18 s here, and the imports as written are tested above
def test_the_models_folder_loads_no_engine_and_neither_serving_nor_flows():
    modules = [module_of(path) for path in sources() if path.relative_to(ROOT).parts[0] == "models"]
    assert not loaded_after(*modules) & {*ENGINES, "serving", "flows"}


def test_records_bundles_and_comparison_load_neither_torch_nor_scikit_learn():
    present = [name for name in sorted(WITHOUT_TORCH) if importlib.util.find_spec(name)]
    assert not loaded_after(*present) & {*LEARNING, *ENGINES}


def test_serving_loads_no_torch_no_prefect_and_no_flows():
    modules = [module_of(path) for path in sources() if path.relative_to(ROOT).parts[0] == "serving"]
    assert not loaded_after(*modules) & {*LEARNING, "prefect", "flows"}


def test_the_command_line_starts_without_torch_or_prefect_and_a_run_its_server_before_it_looks_at_pictures():
    """The server takes longest to start, and waits for what is imported before."""
    heavy = {"PIL", "httpx", "numpy", *LEARNING, *ENGINES}
    before, when_running = loaded_one_by_one(
        "flows.cli, flows.cli.app, flows.settings.overrides, flows.cli.starting", "flows.cli.running"
    )
    assert not before & heavy
    assert not when_running & heavy - {"numpy"}


def test_no_folder_and_no_file_is_named_after_nothing():
    words = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
    assert not [path for path in sources() if words & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_files_and_functions_stay_short():
    long = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert not long
