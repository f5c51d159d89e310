"""What a user can mend, and what is foreseen to go wrong. Each message is one sentence: what, the value, the remedy."""


class InputError(ValueError):
    """The user's input is wrong: exit status 2 in the CLI, a 4xx in the service."""


class RunFailed(RuntimeError):  # noqa: N818 - an outcome
    """A run that was asked for rightly and failed: exit status 1 and, being foreseen, one sentence without a trace."""


class SourceError(InputError):
    """A source that is not there, cannot be understood, or is unsafe to unpack."""


class PictureChanged(SourceError):  # noqa: N818 - as UnreadableImage
    """A picture has other bytes than it was listed with."""


class ShardUnreadable(SourceError):  # noqa: N818 - as UnreadableImage
    """A shard that cannot be read, or is not what its index says: nothing is known of its pictures."""


class DownloadError(SourceError):
    """A download that did not arrive whole."""


class Unreachable(DownloadError):  # noqa: N818 - a state of the network
    """Nobody answers; a copy of before may do."""


class DataRefused(InputError):  # noqa: N818
    """The pictures do not pass the checks; raised before any training."""


class UnreadableImage(InputError):  # noqa: N818
    """Bytes that are no picture this project reads."""


class ImageTooLarge(UnreadableImage):
    """A picture whose decoded size is beyond the limit."""
