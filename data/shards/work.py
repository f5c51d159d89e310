"""A process that decodes pictures out of shards: `python -m data.shards.work SPEC MEMORY`.

Each line it reads is a job, each line it writes the answer, both JSON: a list of what is no picture, or a sentence on
the shard that cannot be read. It ends when its input does, as the processes of
`data.decode` do, and for their reasons.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence

import numpy as np

from data.decode import READY
from data.errors import ShardUnreadable, UnreadableImage
from data.preprocess import stored_pixels
from data.shards.read import Piece, Shards
from data.spec import ImageSpec


def decoded(pieces: Sequence[Piece], shards: Shards, spec: ImageSpec, slots: np.ndarray) -> list[tuple[int, str]]:
    """Each picture into its slot of `slots` (len(pieces), H, W, C); those that stay as they were, and why. Raises
    `ShardUnreadable`."""
    refused = []
    for place, piece in enumerate(pieces):
        try:
            slots[place] = stored_pixels(shards.content(piece), spec)
        except UnreadableImage as error:
            refused.append((place, str(error)))
    return refused


def main(spec: str, memory: str) -> None:
    """The loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends our input
    print(READY.decode(), end="", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff writes what it thinks of damaged files
    image, shards = ImageSpec.model_validate_json(spec), Shards()
    shape = (-1, image.stored_height, image.stored_width, image.channels)
    slots = np.memmap(memory, np.uint8, "r+").reshape(shape)
    for line in sys.stdin:
        first, pieces = json.loads(line)
        said: list[tuple[int, str]] | str
        try:
            said = decoded([Piece(*one) for one in pieces], shards, image, slots[first : first + len(pieces)])
        except ShardUnreadable as error:
            said = str(error)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
