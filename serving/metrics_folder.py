"""Where the workers of one service keep for each other their figures, and what is left of the keys' rates. Imports
nothing of prometheus_client, which looks for the folder when it is imported.
"""

import fcntl
import os
import shutil
from pathlib import Path


class MetricsFolder:
    """There until the last worker has left it. Each holds a shared lock on it, which the kernel lets go of when a
    worker is killed.
    """

    def __init__(self, path: Path) -> None:
        """Raises `OSError` where something else has the name, as any user may make it in /tmp."""
        self.path = path
        path.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if os.fstat(self._lock).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user; remove it")
        if self._is_last():  # nobody is here: what there is was left by a service that was killed
            for file in path.iterdir():
                file.unlink()
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def leave(self) -> None:
        """The last one takes the folder along."""
        if self._is_last():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _is_last(self) -> bool:
        """Lets go of the lock first: of two that leave at once, each would be in the other's way for ever."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
