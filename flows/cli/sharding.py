"""`trainserve data shards`: the pictures of a source, written into tar files."""

import json
import sys
from collections.abc import Sequence

from data import prepare
from data.errors import RunFailed
from data.gate import quarantine
from data.gate.words import count
from data.shards import upload, write
from data.shards.target import Folder
from flows.console import display, shown, stderr_console, stdout_console
from flows.place import writable_home
from flows.settings import overrides


def shards(source: str, settings: Sequence[str], *, to: str, megabytes: int, as_json: bool) -> None:
    """All but what a person decided to drop, into a folder of this machine or of a bucket. Raises `InputError` where
    the listing is refused, or the folder holds anything else or cannot be written."""
    experiment = overrides.experiment(["--dataset.source", source, *settings])
    home = writable_home()
    with shown(stderr_console()), display().stage("shards"):
        target = upload.target_of(to, home)
        found = prepare.listed(experiment.pictures, home, progress=display().moved)
        decided = quarantine.read(quarantine.file_of(home, found.name))
        listed = found.without(decided.digests("drop"))
        dropped = len(found.files) - len(listed.files)
        try:
            num = write.write(listed, target, megabytes=megabytes, progress=display().moved)
        except OSError as error:
            raise RunFailed(
                f"no shards can be written to {target.called} ({error.strerror or error}); make room, or name another "
                "folder: the same command goes on where it ended"
            ) from error
    said = {"to": target.called, "shards": num, "pictures": len(listed.files), "dropped": dropped}
    said["fingerprint"] = listed.fingerprint
    if as_json:
        sys.stdout.write(json.dumps(said) + "\n")
        return
    bucket = not isinstance(target, Folder)
    where = target.called if bucket else to
    words = f"{len(listed.files):,} pictures of {len(listed.classes)} classes in {count(num, 'shard')} in {where}"
    words += f", without {count(dropped, 'picture')} that {decided.file} drops" if dropped else ""
    words += f"; train on them: trainserve run --dataset.source {'shards:' if bucket else ''}{where}"
    stdout_console().print(words, markup=False, highlight=False, soft_wrap=True)
