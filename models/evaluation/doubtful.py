"""Pictures whose labels look wrong, small enough for a page. No torch here."""

from dataclasses import dataclass

from data.errors import UnreadableImage
from data.prepare import Dataset
from data.spec import Part
from models.evaluation.labels import Suspects
from models.evaluation.mistakes import thumbnail


@dataclass(frozen=True)
class Doubtful:
    file: str  # as the source names it
    part: Part
    given: str
    likelier: str
    quality: float  # of the given label, 0 to 1
    jpeg: bytes | None  # None: the file can no longer be read


def doubtful(found: Suspects, dataset: Dataset, *, limit: int = 24) -> tuple[Doubtful, ...]:
    """The first of them, framed as the network sees them."""
    pictures = [_jpeg(dataset, row) for row in found.rows[:limit]]
    columns = (found.file, found.part, found.given, found.likelier, found.quality)
    return tuple(map(Doubtful, *(column[:limit] for column in columns), pictures))


def _jpeg(dataset: Dataset, row: int) -> bytes | None:
    try:
        return thumbnail(dataset.images.path(row), dataset.images.spec)
    except UnreadableImage:
        return None
