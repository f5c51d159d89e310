"""A share as terminals, reports and pages show it."""


def percent(share: float, digits: int = 1) -> str:
    """0.9312 -> "93.1 %"."""
    return f"{100 * share:.{digits}f} %"
