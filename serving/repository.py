"""The models this service can answer with: the champions of the names it follows, and other versions on demand."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from serving import metrics, store
from serving.errors import NoModelError, NotFoundError
from serving.live import Live
from serving.refs import ROLES, ModelRef, StoreError
from serving.served import Open, RefusedError, Served, opened, serve
from serving.settings import Settings

FIRST_LOOK_S = 30.0
MOST_WAITING = 16  # requests for versions that are to be opened


class Repository:
    """`find` is for the event loop and answers at once; `open` may take the seconds that opening a version takes."""

    def __init__(self, settings: Settings, *, lives: Sequence[Live] = (), open_: Open = opened) -> None:
        self._settings = settings
        self._open = open_
        self.lives = tuple(lives) or tuple(Live(settings, name, open_=open_) for name in settings.names or (None,))
        self._versions: OrderedDict[ModelRef, Served] = OrderedDict()  # the one asked for last is the last
        # One at a time, because each takes memory and a processor; and in a thread of its own: who asks for versions
        # that take seconds, or are refused, keeps nobody from the threads that read large bodies.
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="opener")
        self._waiting = 0

    def start(self) -> None:
        """Returns once every name has been looked at, so that a model that is ready serves at once."""
        for live in self.lives:
            live.start()
        for live in self.lives:
            live.wait(FIRST_LOOK_S)

    def stop(self) -> None:
        self._opener.shutdown(wait=False, cancel_futures=True)
        for live in self.lives:
            live.stop()

    @property
    def alive(self) -> bool:
        return all(live.alive for live in self.lives)

    @property
    def default(self) -> Live:
        """What requests that name no model are about."""
        return self.lives[0]

    def live(self, name: str | None) -> Live:
        """Raises `NotFoundError`."""
        if name is None:
            return self.default
        for live in self.lives:
            if live.name == name:
                return live
        there = ", ".join(live.name for live in self.lives if live.name)
        raise NotFoundError(f"this service has no model of that name{f'; it has {there}' if there else ''}")

    def champion(self, name: str | None = None) -> Served:
        """The model in service under a name. Raises `NoModelError`, `NotFoundError`."""
        live = self.live(name)
        if live.current is None:
            raise NoModelError(_why_none(live))
        return live.current

    def find(self, name: str | None = None, version: str | None = None) -> Served | None:
        """One that is open; None: it is to be opened. Raises `NoModelError`, `NotFoundError`."""
        if version is None or version == "champion":
            return self.champion(name)
        live = self.live(name)
        ref = self._ref(live, version)
        if live.current is not None and live.current.ref == ref:
            return live.current
        with suppress(KeyError):  # a thread may let it go at this moment
            self._versions.move_to_end(ref)
        return self._versions.get(ref)

    async def open(self, name: str | None = None, version: str | None = None) -> Served:
        """A version, or whoever has a role. Raises `NoModelError` where it is refused, `NotFoundError`."""
        found = self.find(name, version)
        if found is not None:
            return found
        ref = self._ref(self.live(name), str(version))
        if self._waiting >= MOST_WAITING:
            raise NoModelError("too many requests wait for versions that are to be opened; ask again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._opener, self._opened, ref)
        finally:
            self._waiting -= 1

    def versions(self, name: str) -> tuple[str, ...]:
        """All that are stored under a name, and so can be asked for. Looks into the store. Raises `NotFoundError`."""
        stored = (store.home() / "models" / str(self.live(name).name)).glob("*/bundle")
        return tuple(sorted(folder.parent.name for folder in stored))

    def _opened(self, ref: ModelRef) -> Served:
        if ref not in self._versions:
            try:
                self._versions[ref] = serve(ref, self._settings, open_=self._open)
            except RefusedError as error:
                metrics.REFUSED.labels(ref.name).inc()
                raise NoModelError(f"{ref} is refused: {error}") from None
        self._versions.move_to_end(ref)
        served = self._versions[ref]
        while len(self._versions) > self._settings.versions:
            self._versions.popitem(last=False)
        return served

    def _ref(self, live: Live, version: str) -> ModelRef:
        """Raises `NotFoundError` for a version that is not stored, or a role that nobody has."""
        if live.name is None:
            raise NoModelError(_why_none(live))
        if version in ROLES:
            ref: ModelRef | None = getattr(live.held, version, None)
            if ref is None:
                raise NotFoundError(f"model {live.name} has no {version}")
            return ref
        try:
            ref = ModelRef.checked(live.name, version)
            if ref not in self._versions:
                store.path(ref)
        except StoreError:
            raise NotFoundError(f"model {live.name} has no such version; `trainserve models list` shows them") from None
        return ref


def _why_none(live: Live) -> str:
    if live.refused is not None:
        return f"no model is in service: {live.refused.model} was refused, see /model for the reason"
    if live.name is not None:
        return f"no version of model {live.name!r} has been promoted yet; promote one and ask again"
    return "no model has been promoted yet; train one with `trainserve run` and ask again"
