"""Data sets of the Hugging Face Hub, and copies of them on this machine -> pictures and a listing.

No code of a data set is ever run: what is not stored as Parquet or as pictures is refused.
"""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from data import digests, whole
from data.archive import Limits
from data.errors import DownloadError, SourceError
from data.layout import PARTS, PICTURES
from data.progress import Progress
from data.sources import mirror, tables
from data.sources.endings import suffix_of
from data.sources.imagefolder import METADATA
from data.sources.tables import Shard

LISTING = "listing.csv"
ANSWER_S = 30.0
_ENDINGS = ["".join(f"[{one}{one.upper()}]" for one in suffix[1:]) for suffix in PICTURES]  # .JPG is a picture too
WANTED = [*(f"*.{ending}" for ending in _ENDINGS), *(f"*{name}" for name in METADATA), "*.parquet", "*.arrow", "*.json"]


def download(
    repo: str, config: str | None, revision: str | None, cache: Path, *, progress: Progress, again: bool = False
) -> Path:
    """A data set's files in a folder, of which those that are there already are not fetched again. `again`: this run
    has fetched it before, and what is there is taken as it is.

    What the Hub wants to see comes from HF_TOKEN, or from `hf auth login`. Raises `DownloadError`, and `SourceError`
    for what is too much.
    """
    try:
        from huggingface_hub import snapshot_download  # late: most runs fetch nothing
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise SourceError("hub: needs huggingface_hub, which is not installed; pip install 'trainserve[hub]'") from None
    progress(f"fetching {repo} from the hub", 0, 0)
    disable_progress_bars()
    wanted = [f"{config}/{one}" for one in WANTED] if config else WANTED
    unknown = None if again else _refuse_size(repo, revision, wanted, cache)
    try:
        found = snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            cache_dir=cache,
            allow_patterns=wanted,
            endpoint=os.environ.get("HF_ENDPOINT"),  # read now: the library has it from when it was imported
            local_files_only=again or unknown is not None,
        )
    except Exception as error:  # noqa: BLE001 - its own errors, and those of the two HTTP libraries that it may use
        raise DownloadError(_sentence(repo, revision, unknown or error)) from None
    if unknown is not None:
        progress(f"hub:{repo} cannot be reached; using the copy of an earlier run", 0, 0)
    return Path(found) / (config or "")


def _refuse_size(repo: str, revision: str | None, wanted: Sequence[str], cache: Path) -> Exception | None:
    """By what the hub says of the files, before any of them is fetched. -> Why it does not say it: then nothing may be
    fetched, but what is here may do. Of what there is not, or who may not see it, `snapshot_download` tells."""
    try:
        num, size = _weighed(repo, revision, wanted, cache)
    except Exception as error:  # noqa: BLE001 - as above
        status = getattr(getattr(error, "response", None), "status_code", None)
        return None if status in (401, 403, 404) else error
    mirror.refuse_size(num, size, cache, f"hub:{repo}")
    return None


def _weighed(repo: str, revision: str | None, wanted: Sequence[str], cache: Path) -> tuple[int, int]:
    """Files, and bytes of those that are not here yet, as far as they are allowed. By the questions of
    `snapshot_download`, which are answered where the one for all sizes at once is too large."""
    from huggingface_hub.hf_api import HfApi, RepoFile

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    commit = api.dataset_info(repo, revision=revision or "main", timeout=ANSWER_S).sha
    blobs = cache / f"datasets--{repo.replace('/', '--')}" / "blobs"  # each by its digest, whatever revision has it
    num, size = 0, 0
    for file in api.list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True):
        if isinstance(file, RepoFile) and any(fnmatchcase(file.path, pattern) for pattern in wanted):
            num += 1
            size += 0 if (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).exists() else file.size
        if num > mirror.MOST_FILES or size > mirror.MOST_BYTES:
            break
    return num, size


def unpack(
    root: Path,
    shards: Sequence[Shard],
    name: str,
    datasets: Path,
    *,
    label: str | None,
    progress: Progress,
    limits: Limits | None = None,
) -> Path:
    """The pictures of tables as files, their bytes as they are; -> the listing of them. Raises `SourceError`."""
    files = [shard.file for shard in shards]
    contents, _ = digests.of_files(root, files, datasets.parent, progress=progress)
    said = repr(([*zip(files, contents, strict=True)], label))
    target = datasets / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    with whole.locked(target):
        if target.exists():
            with suppress(OSError):  # another user's
                os.utime(target)
            return target / LISTING
        with whole.folder(target) as part:
            _write(root, shards, part, label, limits or Limits(), progress)
    return target / LISTING


def _write(
    root: Path, shards: Sequence[Shard], part: Path, label: str | None, limits: Limits, progress: Progress
) -> None:
    listing, unlabelled, number, size = io.StringIO(), 0, 0, 0
    lines = csv.writer(listing)
    lines.writerow(("path", "label", "split"))
    for shard in shards:
        split = PARTS.get(shard.split.lower())
        folder = str(split or "pictures")
        (part / folder).mkdir(exist_ok=True)
        for content, path, said in tables.rows(root, shard, label):
            number, size = number + 1, size + len(content or b"")
            if number > limits.files or size > limits.total_bytes:  # a table says a picture once for many rows
                raise SourceError(
                    f"the tables in {root} hold more than {limits.files:,} pictures or {limits.total_bytes:,} bytes; "
                    "unpack them yourself and name the folder"
                )
            if said is None:
                unlabelled += 1
                continue
            file = f"{folder}/{number:07d}{suffix_of(content or b'', path)}"
            if content is not None:  # otherwise the listing names what is not there, which is told
                (part / file).write_bytes(content)
            lines.writerow((file, said, split or ""))
            if number % 500 == 0:
                progress("writing pictures", number, 0)
    if unlabelled == number:
        raise SourceError(f"none of the {number:,} pictures in {root} has a class; name another data set")
    if unlabelled:
        progress(f"{unlabelled:,} pictures without a class are left out", 0, 0)
    (part / LISTING).write_text(listing.getvalue(), encoding="utf-8")


def _sentence(repo: str, revision: str | None, error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in names:
        return f"hub:{repo} is shown to those alone who accepted its terms; do so on its page, and set HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"hub:{repo} has no revision {revision!r}; name a branch, a tag or a commit of it"
    if names & {"RepositoryNotFoundError", "HFValidationError"}:
        return f"there is no data set {repo!r} on the hub, or it is private; check its name, or set HF_TOKEN"
    reason = (str(error).splitlines() or [""])[0].removeprefix("Got: ")[:200] or type(error).__name__
    return (
        f"hub:{repo} could not be fetched ({reason}); check the network and run again, or fetch it elsewhere by "
        f"`hf download --repo-type dataset {repo} --local-dir FOLDER` and name that folder"
    )
