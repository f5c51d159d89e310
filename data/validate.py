"""One function per rule -> findings; the report refuses or lets through."""

from typing import Literal

from data.spec import Frozen


class Finding(Frozen):
    """What one rule saw."""

    rule: str
    level: Literal["note", "warn", "stop"]
    message: str  # one sentence: what, the value, the remedy
    files: tuple[str, ...] = ()  # at most 50 of them, relative to the source's root


class ClassCount(Frozen):
    label: str
    train: int
    val: int
    test: int


class ValidationReport(Frozen):
    """The state of a data set before any training."""

    name: str
    fingerprint: str
    num_examples: int  # readable
    num_unreadable: int
    height: int  # of the network's input
    width: int
    channels: int
    classes: tuple[ClassCount, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.level != "stop" for finding in self.findings)
