"""`trainserve models export` and `import`: a model leaves for another machine or another server, or comes from one."""

import sys
from pathlib import Path

from data import whole
from data.errors import InputError
from flows.cli import trusted
from flows.cli.models_app import Format
from models.bundle import layouts, manifest, oci
from models.bundle.page import card_page
from serving import arrivals, store
from serving.refs import ModelRef


def export(text: str, to: Path, form: Format) -> None:
    """Prints the folder, for scripts; where the page lies is told on standard error."""
    ref = store.resolve(text)
    manifest.verified(store.path(ref))  # what was changed since goes nowhere
    to = new(to)
    match form:
        case "bundle":
            page = beside(ref, to)
        case "triton":
            with whole.locked(to), whole.folder(to) as part:
                model = layouts.triton(store.path(ref), store.card(ref), part)
                (model / layouts.PAGE).write_text(card_page(store.card(ref), files="1"), encoding="utf-8")
            page = to / ref.name / layouts.PAGE
        case "oci-layout":
            with whole.locked(to), whole.folder(to) as part:
                oci.write(store.path(ref), store.card(ref), part)
                (part / layouts.PAGE).write_text(card_page(store.card(ref), files="bundle"), encoding="utf-8")
            page = to / layouts.PAGE
    print(to)
    print(f"{page} tells what {ref} is, for readers and for a hub of models", file=sys.stderr)


def new(to: Path) -> Path:
    """From the root on, for it is renamed into place: the current folder, be it empty, is none to replace."""
    whole_path = to.resolve()
    if whole_path == Path.cwd():
        raise InputError(f"{to} is the current folder; give the name of a new folder")
    if whole_path.exists() and (not whole_path.is_dir() or any(whole_path.iterdir())):
        raise InputError(f"{to} is already there; give the name of a new folder")
    return whole_path


def beside(ref: ModelRef, to: Path) -> Path:
    """The page lies beside a bundle: in it would be a file that its manifest does not list."""
    page = to.with_name(f"{to.name}.md")
    if page.exists():
        raise InputError(f"{page}, where the page about {ref} goes, is already there; give another name than {to}")
    store.export(ref, to)
    return whole.write(page, card_page(store.card(ref), files=to.name).encode())


def import_(path: Path) -> None:
    ref = arrivals.arrive(path, signers=trusted.signers())
    print(
        f"{ref} is in the store, whole, and answers its golden samples as it did when it was made; it is not in "
        f'service: `trainserve models promote {ref} --because "..."` puts it there'
    )
