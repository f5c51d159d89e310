"""What may follow from what a rule finds."""

from typing import Literal

Level = Literal["ignore", "warn", "drop", "stop"]
"""ignore: not looked for; warn: told; drop: told, and neither trained on nor chosen by; stop: the set is refused."""

OfNoUse = Literal["drop", "stop"]  # what cannot be used at all
OfTheWhole = Literal["ignore", "warn", "stop"]  # about the whole data set, so nothing to take out
