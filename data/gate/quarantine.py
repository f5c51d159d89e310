"""The list of pictures that were spotted, as a file that a person edits: by content, so that a renamed file keeps it.

One line for each picture and rule. In the column `decision` a person writes keep (say no more of it), drop (in no part,
test included), label=NAME (it shows that class), or nothing. A line with a decision or a note is the person's and stays
for ever; all others are replaced by what their rule found last. What is decided is part of the data set's fingerprint.
"""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data import whole
from data.compact import Coded
from data.errors import DataRefused
from data.layout import class_name

COLUMNS = ("sha256", "file", "rule", "score", "advice", "decision", "note")
NEEDED = ("sha256", "decision")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins a formula in a spreadsheet; a quote before it makes it a text
AFTERWARDS = ("labels",)  # rules that are asked once networks have answered
SHOULD = "write keep, drop or label=NAME, or nothing"

Line = dict[str, str]


@dataclass(frozen=True)
class Decision:
    """What a person said of a picture."""

    what: Literal["keep", "drop", "label"]
    label: str  # the class; "" for the others
    line: int  # of the file, from 1


@dataclass(frozen=True)
class Decisions:
    """All of a list's. `file`: where they were read."""

    file: Path = Path()
    by_digest: Mapping[str, Decision] = field(default_factory=dict)

    def digests(self, what: Literal["keep", "drop", "label"]) -> frozenset[str]:
        return frozenset(digest for digest, one in self.by_digest.items() if one.what == what)

    def relabelled(self, digests: Iterable[str], labels: Coded[str]) -> Coded[str]:
        """The classes of these pictures (digest, class of its folder); the same where none is decided. Raises
        `DataRefused` for one that there is not: a class is a folder, so that a slip of the pen makes none."""
        if not self.digests("label"):
            return labels
        known = labels.distinct

        def said(digest: str, label: str) -> str:
            one = self.by_digest.get(digest)
            if one is None or one.what != "label":
                return label
            if one.label not in known:
                near = difflib.get_close_matches(one.label, known, n=1) or sorted(known)[:5]
                raise DataRefused(
                    f"line {one.line} of {self.file} says label={one.label}, which is no class here; "
                    f"use one of the folders' names, such as {' or '.join(near)}"
                )
            return one.label

        return Coded.of(map(said, digests, labels))


NOTHING = Decisions()


@dataclass(frozen=True)
class Suspect:
    """A line that is to be written."""

    digest: str
    file: str
    rule: str
    score: float | None
    advice: str


def file_of(home: Path, name: str) -> Path:
    """`name`: of the data set."""
    return home / "datasets" / "quarantine" / f"{name}.csv"


def read(file: Path) -> Decisions:
    """Nothing where there is no such file. Raises `DataRefused` with the line that cannot be understood."""
    found: dict[str, Decision] = {}
    for number, line in _lines(file)[1]:
        digest = line["sha256"].strip().lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise DataRefused(
                f"line {number} of {file} has {line['sha256']!r} where a picture's sha256 should be, "
                "64 digits and letters a to f; put it back or remove the line"
            )
        one = _decision(line["decision"], number, file)
        before = found.get(digest)
        if one is not None and before is not None and (one.what, one.label) != (before.what, before.label):
            raise DataRefused(
                f"line {number} of {file} decides otherwise than line {before.line}, which is about the same picture; "
                "leave one of them"
            )
        if one is not None:
            found.setdefault(digest, one)
    return Decisions(file, found)


def update(file: Path, suspects: Iterable[Suspect], *, rule: str | None = None) -> Path | None:
    """The list with these pictures, and every line that a person wrote into; None where there is nothing to write.
    Raises `DataRefused` as `read` does.

    rule: the one that was asked, so that lines of others stay. None: all were, but those `AFTERWARDS`.
    """
    suspects = list(suspects)
    if not suspects and not file.exists():
        return None
    with whole.locked(file):
        read(file)  # what cannot be understood is not written anew
        delimiter, before = _lines(file)
        lines = [_safe(line) for _, line in before if _stays(line, rule)]
        known = {(line["sha256"].strip().lower(), line["rule"].strip()) for line in lines}
        for one in suspects:
            if (one.digest, one.rule) not in known:
                known.add((one.digest, one.rule))
                score = "" if one.score is None else f"{one.score:.4g}"
                told = (one.digest, one.file, one.rule, score, one.advice, "", "")
                lines.append(_safe(dict(zip(COLUMNS, told, strict=True))))
        if lines != [line for _, line in before]:
            whole.write(file, _text(lines, delimiter).encode("utf-8-sig"))  # the mark by which Excel knows UTF-8
    return file


def counts(file: Path) -> tuple[dict[str, int], dict[str, int]]:
    """(rule -> lines that nobody has decided, decision -> pictures). Raises `DataRefused` as `read` does."""
    decided = dict.fromkeys(("keep", "drop", "label"), 0)
    for one in read(file).by_digest.values():
        decided[one.what] += 1
    waiting: dict[str, int] = {}
    for _, line in _lines(file)[1]:
        if not line["decision"].strip():
            waiting[line["rule"]] = waiting.get(line["rule"], 0) + 1
    return waiting, decided


def _stays(line: Line, rule: str | None) -> bool:
    other = line["rule"].strip() != rule if rule else line["rule"].strip() in AFTERWARDS
    return other or bool(line["decision"].strip() or line["note"].strip())


def _decision(text: str, line: int, file: Path) -> Decision | None:
    plain = text.strip()
    head, equals, label = plain.partition("=")
    match plain.lower(), head.strip().lower(), label.strip():
        case "", _, _:
            return None
        case "keep", _, _:
            return Decision("keep", "", line)
        case "drop", _, _:
            return Decision("drop", "", line)
        case _, "label", name if equals and name:
            return Decision("label", class_name(name), line)
    raise DataRefused(f"line {line} of {file} says {plain!r}; {SHOULD}")


def _lines(file: Path) -> tuple[str, list[tuple[int, Line]]]:
    """(delimiter, [(number of the line, column -> cell)]), lines of nothing left out; as spreadsheets save it: with or
    without the mark of UTF-8, with either line end, with semicolons where a comma is what numbers have."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ",", []
    except OSError as error:
        raise DataRefused(f"{file} cannot be read: {error.strerror}; make it readable or remove it") from None
    except UnicodeDecodeError:
        raise DataRefused(f"{file} is not UTF-8; save it as CSV UTF-8 (comma delimited)") from None
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    lines: list[tuple[int, Line]] = []
    number = 1
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                if header is None:
                    header = _header(cells, file)
                else:
                    lines.append((number, _line(cells, header, number, file)))
            number = rows.line_num + 1
    except csv.Error as error:
        raise DataRefused(f"line {number} of {file} is no CSV ({error}); mend it, mostly a quote is missing") from None
    return delimiter, lines


def _header(cells: Sequence[str], file: Path) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    odd = [name for name in names if name not in COLUMNS] or [name for name in NEEDED if name not in names]
    if odd or len(set(names)) < len(names):
        what = "unknown" if odd and odd[0] in names else "missing"
        said = f"the column {odd[0]!r} is {what}" if odd else "one is there twice"
        raise DataRefused(f"line 1 of {file} should name the columns {','.join(COLUMNS)}, and {said}; write these")
    return names


def _line(cells: Sequence[str], header: Sequence[str], number: int, file: Path) -> Line:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise DataRefused(
            f"line {number} of {file} has {len(cells)} cells, and the file {len(header)} columns; quote a comma"
        )
    found = dict(zip(header, cells, strict=False))
    return {column: found.get(column, "") for column in COLUMNS}


def _text(lines: Iterable[Line], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")  # what ends a line is quoted inside a cell
    writer.writerow(COLUMNS)
    writer.writerows(line.values() for line in lines)
    return out.getvalue()


def _safe(line: Line) -> Line:
    """No cell is a formula; one that is none stays as it is."""
    return {column: f"'{cell}" if cell.startswith(FORMULA) else cell for column, cell in line.items()}
