"""Any source becomes a folder of pictures, or one sentence."""

import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from data import archive, torchvision_sets, whole
from data.catalog import fetch
from data.errors import DownloadError, SourceError
from data.sources.kinds import Archive, Folder, Named, Url, default_name, parse_source
from data.spec import DatasetSpec, Part
from data.torchvision_sets import SETS, TorchvisionSet


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def pictures(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_each_kind_of_source_is_told_apart(tmp_path):
    (tmp_path / "a.TGZ").write_bytes(b"")
    assert parse_source("digits") == Named(name="digits")
    assert parse_source("CIFAR-10") == parse_source("cifar_10") == Named(name="cifar10")
    assert parse_source(str(tmp_path)) == Folder(path=tmp_path)
    assert parse_source(str(tmp_path / "a.TGZ")) == Archive(path=tmp_path / "a.TGZ")
    assert parse_source("https://host.org/a.zip") == Url(url="https://host.org/a.zip")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cifar11", "'cifar11' is no folder, no archive and no known data set; did you mean cifar10"),
        ("fashion", "did you mean fashion-mnist"),
        ("zzzz", "the known names are digits, hymenoptera, cifar10"),
        ("no/such/folder", "there is no file or folder 'no/such/folder'; check its spelling, the current folder is /"),
        ("flowers.tar.gz", "there is no file or folder 'flowers.tar.gz'"),
        ("ftp://host.org/a.zip", "'ftp://host.org/a.zip' is no http or https address"),
        ("https:///a.zip", "is no http or https address"),
        ("https://host:x/a.zip", "is no http or https address"),
        ("http://[::1/a.zip", "is no http or https address"),
        ("a/" * 3000, "cannot be looked at: File name too long"),
        ("https://me:swordfish@host.org/a.zip", "dataset.source https://host.org/a.zip has a user or a password in it"),
        ("ftp://me:swordfish@host.org/a.zip", "in ~/.netrc or TRAINSERVE_SOURCE_HEADER"),
        ("https://host.org/a.zip?v=2&token=swordfish", "https://host.org/a.zip has a secret in it, as `token`"),
        ("https://host.org/a.zip?X-Amz-Signature=swordfish", "a secret in it, as `X-Amz-Signature`"),
        ("~nobody-of-that-name/pictures", "cannot be looked at: Could not determine home directory"),
        ("nul\0/a.zip", "there is no file or folder 'nul\\x00/a.zip'"),
    ],
)
def test_a_source_that_is_not_there_is_one_sentence_with_the_remedy(text, sentence):
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert sentence in str(caught.value)
    assert "swordfish" not in str(caught.value)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "rose.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"rose.jpg' is neither a folder nor an archive \(.tar.gz .tgz .tar .zip\)"):
        parse_source(str(tmp_path / "rose.jpg"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Archive(path=Path("/x/flowers.tar.gz")), "flowers"),
        (Archive(path=Path("/x/My Photos (2).ZIP")), "my-photos-2"),
        (Folder(path=Path("/x/Blumen_für_Ötzi")), "blumen_fur_otzi"),
        (Folder(path=Path("/x/花")), "pictures"),
        (Url(url="https://host.org/sets/a%20b.tgz?download=1"), "a-b"),
        (Url(url="https://host.org/"), "host-org"),
        (Named(name="fashion-mnist"), "fashion-mnist"),
    ],
)
def test_a_data_set_is_called_after_its_source(source, name):
    assert default_name(source) == name
    assert DatasetSpec(name=name).name == name


def test_digits_are_scikit_learns_pictures_scaled(home):
    found = fetch(DatasetSpec(), home)
    assert (found.name, found.mirror, found.root) == ("digits", False, home / "datasets/digits")
    digits = load_digits()
    files = pictures(found.root)
    assert len(files) == 1797
    for file in files[::60]:
        i = int(Path(file).stem)
        picture = np.asarray(Image.open(found.root / file))
        assert Path(file).parent.name == str(digits.target[i])
        np.testing.assert_array_equal(picture, np.round(digits.images[i] * 255 / 16))
    assert fetch(DatasetSpec(), home) == found


def test_a_folder_is_used_where_it_is(write, home):
    root = write({"a/1.png": None})
    assert fetch(DatasetSpec(source=str(root)), home).root == root
    assert not home.exists()


def test_an_archive_is_unpacked_once_per_content(tmp_path, home):
    file = tmp_path / "flowers.zip"
    file.write_bytes(zipped({"flowers/rose/1.jpg": b"x"}))
    spec = DatasetSpec(source=str(file))
    found = fetch(spec, home)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.root == home / f"datasets/flowers-{digest[:12]}"
    assert pictures(found.root) == ["flowers/rose/1.jpg"]
    file.write_bytes(zipped({"flowers/rose/2.jpg": b"x"}))
    assert pictures(fetch(spec, home).root) == ["flowers/rose/2.jpg"]
    assert pictures(found.root) == ["flowers/rose/1.jpg"]


def test_an_archive_with_another_sha256_is_refused(tmp_path, home):
    file = tmp_path / "flowers.zip"
    file.write_bytes(zipped({"rose/1.jpg": b"x"}))
    with pytest.raises(DownloadError, match=r"expected 000000000000\.\.\.; fetch it again or correct dataset.sha256"):
        fetch(DatasetSpec(source=str(file), sha256="0" * 64), home)


def test_a_url_is_downloaded_and_unpacked(web, home):
    content = zipped({"rose/1.jpg": b"x", "tulip/1.jpg": b"y"})

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    web.answers = [answer]
    spec = DatasetSpec(source=web.url("get/flowers.zip?key=1"), sha256=hashlib.sha256(content).hexdigest())
    found = fetch(spec, home)
    assert found.name == "flowers"
    assert pictures(found.root) == ["rose/1.jpg", "tulip/1.jpg"]
    assert fetch(spec, home) == found
    assert len(web.requests) == 1


def test_a_url_behind_a_password_is_fetched_by_what_the_environment_says(web, home, monkeypatch):
    content = zipped({"rose/1.jpg": b"x", "tulip/1.jpg": b"y"})

    def answer(request: BaseHTTPRequestHandler) -> None:
        known = request.headers.get("Authorization") == "Bearer swordfish"
        request.send_response(200 if known else 401)
        request.send_header("Content-Length", str(len(content) if known else 0))
        request.end_headers()
        request.wfile.write(content if known else b"")

    web.answers = [answer]
    monkeypatch.setenv("TRAINSERVE_SOURCE_HEADER", "127.0.0.1 Authorization: Bearer swordfish")  # of another port
    with pytest.raises(SourceError, match="status 401"):
        fetch(DatasetSpec(source=web.url()), home)
    host = f"127.0.0.1:{web.server_address[1]}"
    monkeypatch.setenv("TRAINSERVE_SOURCE_HEADER", f"{host} Authorization: Bearer swordfish")
    assert pictures(fetch(DatasetSpec(source=web.url()), home).root) == ["rose/1.jpg", "tulip/1.jpg"]


def test_a_web_page_instead_of_an_archive_is_one_sentence(web, home):
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"<!DOCTYPE html>please log in")

    web.answers = [answer]
    with pytest.raises(SourceError, match="is no zip or tar archive"):
        fetch(DatasetSpec(source=web.url("flowers.zip")), home)
    assert not list((home / "datasets").glob("flowers-*"))


def zips(*contents: dict[str, bytes]) -> list[Callable[[BaseHTTPRequestHandler], None]]:
    """Answers, one after the other."""

    def answer(content: bytes, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return [partial(answer, zipped(one)) for one in contents]


def test_archives_of_one_name_from_two_addresses_are_two(web, home):
    web.answers = zips({"rose/1.jpg": b"x"}, {"tulip/1.jpg": b"y"})
    first, second = (DatasetSpec(source=web.url(f"{folder}/flowers.zip")) for folder in ("north", "south"))
    fetch(first, home)
    assert pictures(fetch(second, home).root) == ["tulip/1.jpg"]
    kept = [path for path in (home / "datasets/downloads").rglob("flowers.zip") if path.is_file()]
    assert len(kept) == 2


def test_nobody_replaces_an_archive_while_it_is_unpacked(web, home, monkeypatch):
    web.answers = zips({"rose/1.jpg": b"x"})
    seen: list[bool] = []
    extract = archive.extract

    def looking(file: Path, *args: Any, **settings: Any) -> Path:
        seen.append(whole.held(file))
        return extract(file, *args, **settings)

    monkeypatch.setattr(archive, "extract", looking)
    fetch(DatasetSpec(source=web.url()), home)
    assert seen == [True]


def test_hymenoptera_put_there_by_hand_needs_no_network(home):
    file = home / "datasets/downloads/hymenoptera_data.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(zipped({f"hymenoptera_data/{name}/1.jpg": b"x" for name in ("train/ants", "val/bees")}))
    found = fetch(DatasetSpec(source="hymenoptera"), home)
    assert (found.name, found.mirror) == ("hymenoptera", True)
    assert pictures(found.root) == ["hymenoptera_data/train/ants/1.jpg", "hymenoptera_data/val/bees/1.jpg"]


@pytest.mark.network
def test_hymenoptera_is_where_the_catalogue_says(home):
    found = pictures(fetch(DatasetSpec(source="hymenoptera"), home).root)
    assert sum(name.startswith("hymenoptera_data/train/") for name in found) > 200


# --- torchvision's sets -------------------------------------------------------------------------------------------


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    """MNIST's own format."""
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">IIII", 0x803, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())


def test_a_torchvision_set_becomes_pictures_in_class_folders(home):
    raw = home / "datasets/downloads/mnist/MNIST/raw"
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (20, 10))
    write_idx(raw, "train", train, np.arange(20, dtype=np.uint8) % 10)
    write_idx(raw, "t10k", test, np.arange(10, dtype=np.uint8))
    found = fetch(DatasetSpec(source="MNIST"), home)
    assert (found.name, found.mirror, found.root) == ("mnist", False, home / "datasets/mnist")
    assert len(pictures(found.root)) == 30
    np.testing.assert_array_equal(np.asarray(Image.open(found.root / "train/3 - three/000013.png")), train[13])
    np.testing.assert_array_equal(np.asarray(Image.open(found.root / "test/9 - nine/000009.png")), test[9])


def test_every_torchvision_set_of_the_catalogue_exists_there():
    from torchvision import datasets

    for name, data_set in SETS.items():
        cells = [cell.cell_contents for cell in data_set.open.__closure__ or ()]
        kinds = [cell for cell in cells if isinstance(cell, str)]
        assert all(hasattr(datasets, kind) for kind in kinds), name
        assert data_set.files


def test_pictures_that_are_files_keep_their_bytes(tmp_path, png):
    (tmp_path / "x.JPG").write_bytes(png(1))
    opened = TorchvisionSet(lambda _: ({Part.TRAIN: [(tmp_path / "x.JPG", 1)]}, ["none/of it", "T-shirt/top"]), ())
    root = torchvision_sets.write(opened, tmp_path / "out", name="x", downloads=tmp_path / "downloads")
    assert pictures(root) == ["train/T-shirt-top/000000.jpg"]
    assert (root / "train/T-shirt-top/000000.jpg").read_bytes() == png(1)
    assert not (root / "train/none-of it").exists()


def test_letters_stored_lying_down_are_put_upright(tmp_path):
    lying = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    opened = TorchvisionSet(lambda _: ({Part.TEST: [(lying, 0)]}, ["a"]), (), upright=False)
    root = torchvision_sets.write(opened, tmp_path / "out", name="x", downloads=tmp_path / "downloads")
    assert np.asarray(Image.open(root / "test/a/000000.png")).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_without_a_network_it_says_which_file_to_put_where(tmp_path):
    def no_network(_: Path) -> tuple[dict, list]:
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    opened = TorchvisionSet(no_network, ("cifar-10-python.tar.gz",))
    with pytest.raises(DownloadError) as caught:
        torchvision_sets.write(opened, tmp_path / "out", name="cifar10", downloads=tmp_path / "d")
    assert str(caught.value).startswith("cifar10 could not be downloaded (<urlopen error")
    assert str(caught.value).endswith(f"or put cifar-10-python.tar.gz into {tmp_path / 'd'}")
    assert not (tmp_path / "out").exists()


def test_what_an_interrupted_run_half_unpacked_is_not_taken_for_whole(tmp_path):
    downloads = tmp_path / "d"

    def interrupted(folder: Path) -> tuple[dict, list]:
        (folder / "jpg").mkdir()
        (folder / "jpg/1.jpg").write_bytes(b"half")
        (folder / "a.tgz").write_bytes(b"archive")
        raise KeyboardInterrupt

    def again(folder: Path) -> tuple[dict, list]:
        assert pictures(folder) == [".unfinished", "a.tgz"]
        return {Part.TRAIN: [(Image.new("L", (2, 2)), 0)]}, ["a"]

    with pytest.raises(KeyboardInterrupt):
        torchvision_sets.write(TorchvisionSet(interrupted, ("a.tgz",)), tmp_path / "out", name="x", downloads=downloads)
    assert not (tmp_path / "out").exists()
    torchvision_sets.write(TorchvisionSet(again, ("a.tgz",)), tmp_path / "out", name="x", downloads=downloads)
    assert pictures(tmp_path / "out") == ["train/a/000000.png"]


def test_a_tar_of_pictures_from_the_beginning_of_time_is_fine(tmp_path, home):
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        info = tarfile.TarInfo("rose/1.jpg")  # its date is 1970
        archive.addfile(info)
    assert pictures(fetch(DatasetSpec(source=str(tmp_path / "old.tar")), home).root) == ["rose/1.jpg"]
