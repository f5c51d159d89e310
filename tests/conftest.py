"""What holds for all tests, however and wherever they were started."""

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings

# What starts in the background of a script, or by nohup, ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = ("test_real_pictures.py", "test_install.py")

# No example is wrong for taking long: the machine may be busy. (Where CI is set, hypothesis takes another profile.)
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first: at the end one process would be alone with it. The others stay in their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """What was imported stays until the end; to look through it for garbage again and again takes seconds."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # tests leave little, and each is over soon
