"""`trainserve data shards`: the pictures of a source, written into tar files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data import prepare
from data.errors import RunFailed
from data.gate import quarantine
from data.gate.words import count
from data.shards import write
from flows.console import display, shown, stderr_console, stdout_console
from flows.place import writable_home
from flows.settings import overrides


def shards(source: str, settings: Sequence[str], *, to: Path, megabytes: int, as_json: bool) -> None:
    """All but what a person decided to drop. Raises `InputError` where the listing is refused, or the folder holds
    anything else."""
    experiment = overrides.experiment(["--dataset.source", source, *settings])
    home, folder = writable_home(), to.expanduser().absolute()
    with shown(stderr_console()), display().stage("shards"):
        found = prepare.listed(experiment.pictures, home, progress=display().moved)
        decided = quarantine.read(quarantine.file_of(home, found.name))
        listed = found.without(decided.digests("drop"))
        dropped = len(found.files) - len(listed.files)
        try:
            num = write.write(listed, folder, megabytes=megabytes, progress=display().moved)
        except OSError as error:
            raise RunFailed(
                f"no shards can be written to {folder} ({error.strerror or error}); make room, or name another folder: "
                "the same command goes on where it ended"
            ) from error
    said = {"to": str(folder), "shards": num, "pictures": len(listed.files), "dropped": dropped}
    said["fingerprint"] = listed.fingerprint
    if as_json:
        sys.stdout.write(json.dumps(said) + "\n")
        return
    words = f"{len(listed.files):,} pictures of {len(listed.classes)} classes in {count(num, 'shard')} in {to}"
    words += f", without {count(dropped, 'picture')} that {decided.file} drops" if dropped else ""
    stdout_console().print(
        f"{words}; train on them: trainserve run --dataset.source {to}", markup=False, highlight=False, soft_wrap=True
    )
