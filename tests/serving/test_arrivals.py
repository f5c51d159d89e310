"""Models that leave and come back: as a folder, an archive, an OCI layout; proved, stored, never put into service."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from data.errors import InputError
from flows.cli.app import main
from flows.health import checks_store
from models.bundle import manifest, oci, signature
from models.bundle.bundle import Bundle, BundleError, read_card
from models.bundle.page import card_page
from serving import arrivals, store
from serving.refs import ModelRef

pytestmark = pytest.mark.usefixtures("home")
TOY = ModelRef(name="toy", version="v1")


def as_folder(bundle: Path, at: Path) -> Path:
    return Path(shutil.copytree(bundle, at / "folder"))


def as_tar(bundle: Path, at: Path) -> Path:
    with tarfile.open(at / "toy.tar.gz", "w:gz") as archive:
        archive.add(bundle, "toy-v1")
    return at / "toy.tar.gz"


def as_bare_tar(bundle: Path, at: Path) -> Path:
    with tarfile.open(at / "toy.tar", "w") as archive:
        archive.add(bundle, ".")
    return at / "toy.tar"


def as_zip(bundle: Path, at: Path) -> Path:
    return Path(shutil.make_archive(str(at / "toy"), "zip", bundle.parent, bundle.name))


def as_layout(bundle: Path, at: Path) -> Path:
    (at / "layout").mkdir()
    oci.write(bundle, Bundle.open(bundle).card, at / "layout")
    return at / "layout"


def as_layout_in_a_tar(bundle: Path, at: Path) -> Path:
    with tarfile.open(at / "layout.tar", "w") as archive:
        archive.add(as_layout(bundle, at), ".")
    return at / "layout.tar"


FORMS = [as_folder, as_tar, as_bare_tar, as_zip, as_layout, as_layout_in_a_tar]


@pytest.mark.parametrize("packed", FORMS, ids=lambda form: form.__name__)
def test_a_bundle_arrives_whole_in_every_form_and_is_not_put_into_service(packed, toy_bundle, tmp_path, home):
    assert arrivals.arrive(packed(toy_bundle, tmp_path)) == TOY
    assert Bundle.open(store.path(TOY)).card == Bundle.open(toy_bundle).card
    assert store.aliases("toy").history == ()
    assert not list(home.glob(".saving-*"))


def changed(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"x" + (bundle / "model.onnx").read_bytes()[1:])


def wrong(bundle: Path) -> None:
    """The manifest fits, the answers do not."""
    other = toy.bundle(bundle.parent / "other", version="v1", threshold=50)
    shutil.copy(other / "model.onnx", bundle / "model.onnx")
    (bundle / "manifest.json").unlink()
    manifest.write(bundle)


def linked(bundle: Path) -> None:
    (bundle / "golden" / "extra").symlink_to("/etc/passwd")


@pytest.mark.parametrize("packed", [as_folder, as_tar, as_layout], ids=lambda form: form.__name__)
@pytest.mark.parametrize("spoil", [changed, wrong])
def test_what_is_not_what_it_says_is_refused_and_leaves_nothing(packed, spoil, toy_bundle, tmp_path, home):
    (tmp_path / "made").mkdir()
    spoilt = Path(shutil.copytree(toy_bundle, tmp_path / "made" / "toy"))
    if packed is as_layout:  # which is made of a good one
        layout = as_layout(toy_bundle, tmp_path)
        spoil(spoilt)
        shutil.rmtree(layout)
        layout.mkdir()
        oci.write(spoilt, Bundle.open(toy_bundle).card, layout)
        source = layout
    else:
        spoil(spoilt)
        source = packed(spoilt, tmp_path)
    with pytest.raises(BundleError):
        arrivals.arrive(source)
    nothing_came(home)


def nothing_came(home: Path) -> None:
    assert store.listing() == ()
    assert not list(home.glob(".saving-*"))
    assert not list(home.glob("models/*/*/bundle"))


def above(at: Path) -> Path:
    with zipfile.ZipFile(at / "above.zip", "w") as archive:
        archive.writestr("toy/manifest.json", "{}")
        archive.writestr("../outside.txt", "x")
    return at / "above.zip"


def link(at: Path) -> Path:
    with tarfile.open(at / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("toy/manifest.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return at / "link.tar"


def cut(at: Path) -> Path:
    whole = as_tar(toy.bundle(at / "b", version="v1"), at)
    whole.write_bytes(whole.read_bytes()[:-400])
    return whole


def many(at: Path) -> Path:
    with zipfile.ZipFile(at / "many.zip", "w") as archive:
        for number in range(300):
            archive.writestr(f"toy/{number}", "")
    return at / "many.zip"


def pictures(at: Path) -> Path:
    with zipfile.ZipFile(at / "pictures.zip", "w") as archive:
        archive.writestr("dark/1.png", toy.picture(3))
    return at / "pictures.zip"


def text(at: Path) -> Path:
    (at / "notes.txt").write_text("hello")
    return at / "notes.txt"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (above, "leads out of the folder"),
        (link, "a link or a device"),
        (cut, "truncated or damaged"),
        (many, "over 256 files"),
        (pictures, "holds neither a bundle, having no manifest.json, nor an OCI layout"),
        (text, "is no zip or tar archive"),
        (lambda at: at / "nothing", "there is nothing at"),
        (lambda at: at, "holds neither a bundle"),
    ],
)
def test_hostile_and_other_archives_are_refused_and_leave_nothing(
    make: Callable[[Path], Path], sentence, tmp_path, home
):
    (tmp_path / "sent").mkdir()
    with pytest.raises(InputError, match=sentence):
        arrivals.arrive(make(tmp_path / "sent"))
    nothing_came(home)
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_link_in_a_bundle_folder_is_refused(toy_bundle, tmp_path, home):
    folder = as_folder(toy_bundle, tmp_path)
    linked(folder)
    with pytest.raises(BundleError, match="not a plain file"):
        arrivals.arrive(folder)
    nothing_came(home)


def test_where_signers_are_named_only_what_one_of_them_signed_arrives(toy_bundle, tmp_path, monkeypatch, capsys):
    folder = as_folder(toy_bundle, tmp_path)
    (tmp_path / "signers").write_text(signature.new_key(tmp_path / "key", "nightly") + "\n")
    monkeypatch.setenv("TRAINSERVE_SIGNERS", str(tmp_path / "signers"))
    with pytest.raises(SystemExit) as caught:
        main(["models", "import", str(folder)])
    assert caught.value.code == 2
    assert "it is not signed" in capsys.readouterr().err
    assert store.listing() == ()
    signature.sign(folder / manifest.NAME, tmp_path / "key")
    main(["models", "import", str(as_layout(folder, tmp_path))])  # the signature travels with it
    assert (store.path(TOY) / signature.NAME).is_file()


def test_what_arrives_twice_is_one_and_another_one_of_that_name_is_refused(toy_bundle, tmp_path):
    assert arrivals.arrive(toy_bundle) == arrivals.arrive(as_tar(toy_bundle, tmp_path)) == TOY
    with pytest.raises(InputError, match="already stored with other contents"):
        arrivals.arrive(toy.bundle(tmp_path / "other", version="v1", threshold=50))


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_half_and_the_next_one_clears_up(toy_bundle, tmp_path, home):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from serving import arrivals, store\n"
        "store.save = lambda *a, **k: os._exit(9)\n"
        "arrivals.arrive(Path(sys.argv[1]))\n"
    )
    packed = as_tar(toy_bundle, tmp_path)
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(packed)], cwd=root, check=False)
    assert done.returncode == 9
    assert store.listing() == ()
    assert [one.level for one in checks_store.half_saved()] == ["note"]  # the doctor sees and mends it
    assert arrivals.arrive(packed) == TOY
    assert not list(home.glob(".saving-*"))


@pytest.fixture
def with_page(toy_bundle: Path, tmp_path: Path) -> Path:
    """As every export writes it."""
    bundle = as_folder(toy_bundle, tmp_path)
    (bundle / "README.md").write_text(card_page(read_card(bundle)))
    manifest.write(bundle)
    return bundle


def run(*tokens: object) -> None:
    main([str(token) for token in tokens])


@pytest.mark.parametrize("form", ["bundle", "oci-layout"])
def test_what_was_exported_is_imported_by_another_machine(form, with_page, tmp_path, monkeypatch, capsys):
    store.save(with_page)
    run("models", "export", "toy@v1", "--to", tmp_path / "out", "--format", form)
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}\n"
    page = tmp_path / "out" / "README.md"
    assert str(page) in said.err
    assert page.read_text().startswith("---\nlicense: other\npipeline_tag: image-classification\n")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "another machine"))
    assert store.listing() == ()
    run("models", "import", tmp_path / "out")
    assert "README.md" in manifest.verified(store.path(TOY))
    assert capsys.readouterr().out == (
        "toy@v1 is in the store, whole, and answers its golden samples as it did when it was made; it is not in "
        'service: `trainserve models promote toy@v1 --because "..."` puts it there\n'
    )
    assert store.aliases("toy").champion is None


def test_the_triton_layout_is_written_with_a_page(toy_bundle, tmp_path, capsys):
    store.save(toy_bundle)
    run("models", "export", "toy@v1", tmp_path / "repository", "--format", "triton")
    files = {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "repository").rglob("*") if p.is_file()}
    assert {"repository/toy/config.pbtxt", "repository/toy/1/model.onnx", "repository/toy/README.md"} <= files
    assert '"1/model.onnx"' in (tmp_path / "repository/toy/README.md").read_text()
    assert "README.md tells what toy@v1 is" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["bundle", "triton", "oci-layout"])
def test_nothing_is_overwritten_and_nothing_damaged_is_exported(form, toy_bundle, tmp_path, capsys):
    ref = store.save(toy_bundle)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(SystemExit):
        run("models", "export", "toy@v1", "--to", tmp_path / "out", "--format", form)
    assert "is already there" in capsys.readouterr().err
    changed(store.path(ref))
    with pytest.raises(SystemExit):
        run("models", "export", "toy@v1", "--to", tmp_path / "new", "--format", form)
    assert "was changed after export" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"out", "bentoml"}


@pytest.mark.parametrize("form", ["bundle", "triton", "oci-layout"])
@pytest.mark.parametrize("to", [".", "sub/.."])
def test_the_current_folder_is_none_to_replace(form, to, toy_bundle, tmp_path, capsys, monkeypatch):
    store.save(toy_bundle)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SystemExit) as caught:
        run("models", "export", "toy@v1", to, "--format", form)
    assert caught.value.code == 2
    assert f"{to} is the current folder; give the name of a new folder" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_is_told_from_the_root_on_however_it_is_named(toy_bundle, tmp_path, capsys, monkeypatch):
    store.save(toy_bundle)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("models", "export", "toy@v1", "../out")
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert (tmp_path / "out.md").exists()


def test_a_bundle_from_before_it_had_a_page_gets_one_beside_it(toy_bundle, tmp_path, capsys):
    store.save(toy_bundle)
    run("models", "export", "toy@v1", tmp_path / "out")
    assert f"{tmp_path / 'out.md'} tells what toy@v1 is" in capsys.readouterr().err
    assert '"out/model.onnx"' in (tmp_path / "out.md").read_text()
    Bundle.open(tmp_path / "out")


def test_a_page_that_is_already_beside_is_not_overwritten(toy_bundle, tmp_path, capsys):
    store.save(toy_bundle)
    (tmp_path / "out.md").write_text("mine")
    with pytest.raises(SystemExit):
        run("models", "export", "toy@v1", tmp_path / "out")
    assert "is already there; give another name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_form_that_nobody_knows_is_a_sentence(toy_bundle, tmp_path, capsys):
    store.save(toy_bundle)
    with pytest.raises(SystemExit) as caught:
        run("models", "export", "toy@v1", "--to", tmp_path / "out", "--format", "docker")
    assert caught.value.code == 2
    assert "oci-layout" in capsys.readouterr().err


def test_a_key_for_signing_is_made_under_either_name(tmp_path, capsys):
    run("keys", "new", "nightly", "--signing", tmp_path / "a")
    run("models", "sign-key", tmp_path / "b", "--name", "nightly")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["nightly", "nightly"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    (tmp_path / "signers").write_text(lines[0] + "\n")
    assert set(signature.load_signers(tmp_path / "signers").keys or ()) == {"nightly"}
    with pytest.raises(SystemExit):
        run("keys", "new", "nightly", "--signing", tmp_path / "c", "--rate", "3")
    assert not (tmp_path / "c").exists()
