"""The README keeps its promises: every command parses, every path it names is there, and it stays short."""

import re
import shlex
from pathlib import Path

import pytest

from flows.cli.app import app
from flows.settings.overrides import experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """What follows the prompt in the README's bash blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.S)
    lines = [shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def trainserve_commands() -> list[str]:
    return [command.partition(" '>' ")[0] for command in commands() if command.startswith("trainserve ")]


def test_it_fits_on_a_few_screens():
    assert len(README.splitlines()) <= 150


def test_it_begins_with_the_demo_and_the_tests():
    assert commands()[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", trainserve_commands())
def test_its_commands_are_known_to_the_command_line(command: str):
    _, bound, _ = app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert bound.arguments is not None


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z-]+)", "\n".join(commands()), re.M))
def test_its_make_targets_exist(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:data|models|serving|flows|docs|benchmarks|tests)/[^`<*]*|[A-Z]+\.md)`", README))),
)
def test_the_paths_it_names_are_there(path: str):
    assert (ROOT / path).exists()


def test_the_list_of_pages_names_all_of_them_and_no_others():
    named = set(re.findall(r"\]\((.*?)\)", (ROOT / "docs" / "README.md").read_text()))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert named == there - {"README.md"} | {"../benchmarks/results.md"}


@pytest.mark.parametrize(
    "command",
    [c for c in trainserve_commands() if c.startswith("trainserve run ") and " -c " not in c and "help" not in c],
)
def test_the_settings_it_shows_are_valid(command: str):
    experiment([token for token in shlex.split(command)[2:] if token != "--json"])
