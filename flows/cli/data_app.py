"""The commands about pictures: what each takes, and where it is done. No work here."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli import data_diff
from flows.cli.models_app import Json
from flows.cli.options import Settings

Html = Annotated[Path | None, Parameter(name="--html", help="A file to write, with the pictures of what was found.")]

To = Annotated[
    str,
    Parameter(
        name="--to",
        help="The folder for the shards: a new one, or one that was begun; of this machine, or s3://BUCKET/FOLDER.",
    ),
]
Megabytes = Annotated[int, Parameter(name="--megabytes", help="At most, in one shard.")]

data_app = App(name="data", help="Look at pictures before anything is trained.")
data_app.command(data_diff.diff)


@data_app.command
def inspect(source: str, /, *settings: Settings, html: Html = None, as_json: Json = False) -> None:
    """Check the pictures of SOURCE and train nothing; exit status 2 if they would be refused.

    SOURCE is a known data set, a folder, an archive, a listing (.csv, .parquet), the address of one of these (https://,
    s3://, gs://), shards (shards:FOLDER), or a data set of the hub (hub:OWNER/NAME).
    """
    from flows.cli import inspection

    inspection.inspect(source, settings, html=html, as_json=as_json)


@data_app.command
def quarantine(source: str, /, *, as_json: Json = False) -> None:
    """Where the list of NAME's or SOURCE's suspect pictures is, what is in it, and what to write there.

    The list is written by `trainserve data inspect SOURCE` and by every run; a data set of another name than its
    source's (dataset.name) goes by that name.
    """
    from flows.cli import decisions

    decisions.show(source, as_json=as_json)


@data_app.command
def shards(source: str, /, *settings: Settings, to: To, megabytes: Megabytes = 128, as_json: Json = False) -> None:
    """Write the pictures of SOURCE into tar files, for sets too large to be decoded onto a disk; nothing is trained.

    trainserve data shards flowers/ --to /data/flowers-shards
    trainserve data shards flowers/ --to s3://bucket/flowers

    SOURCE and the settings of the data set are those of `trainserve run`. The files are as WebDataset has them; the
    folder they lie in is a source. What was begun and killed goes on. To a bucket each is sent as it is written.
    """
    from flows.cli import sharding

    sharding.shards(source, settings, to=to, megabytes=megabytes, as_json=as_json)
