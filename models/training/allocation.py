"""glibc keeps the memory that a training step frees, for the next step. No torch here.

By default it maps every large tensor anew and gives it back when it is freed, so that each step pays for its pages
again. `benchmarks.training` has what that costs: `bare` beside `bare, memory kept`.
"""

import ctypes

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # of mallopt(3)
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """To be called before other threads begin, since an arena of their own could not keep it. False, and nothing is
    changed, where the C library is not glibc."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - others have a mallopt that means something else
        adjust = library.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([adjust(ARENA_MAX, 1), adjust(MMAP_MAX, 0), adjust(TRIM_THRESHOLD, MOST)])
