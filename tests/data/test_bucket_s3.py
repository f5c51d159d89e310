"""s3:// against a real server of buckets: what s3fs and botocore make of it all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from data import catalog
from data.errors import DownloadError, SourceError
from data.prepare import prepare
from data.sources import bucket, objects
from data.spec import DatasetSpec
from tests.data.test_bucket import files, zipped
from tests.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # late, as the others: these tests are rarely run, and always collected

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(server, monkeypatch) -> Any:
    """A client of the empty store that the environment names; it has one bucket, `garden`."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL_S3": server,
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "swordfish",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="garden")
    yield client
    httpx.post(f"{server}/moto-api/reset").raise_for_status()
    forget_connections()


def forget_connections() -> None:
    """They are kept for the process, whatever the environment says meanwhile."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def put(content: dict[str, bytes]) -> None:
    """Beside the client, which is slow, and would mend keys."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    for key, one in content.items():
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object("garden", key, one)


def test_a_folder_is_fetched_and_kept_up_to_date(s3, png, home):
    put({f"flowers/{label}/{i}.png": png(100 * n + i) for n, label in enumerate("ab") for i in range(20)})
    put({"flowers/": b"", "flowers/a b/ü+&=.png": png(500), "flowers-of-others/c/1.png": png(1)})
    spec = DatasetSpec(source="s3://garden/flowers/", size=8)
    assert files(catalog.fetch(spec, home).root)["a b/ü+&=.png"] == png(500)
    s3.delete_object(Bucket="garden", Key="flowers/a b/ü+&=.png")
    found = prepare(spec, home)
    assert {one.label: one.train + one.val + one.test for one in found.report.classes} == {"a": 20, "b": 20}
    before = {name: (found.images.snapshot.root / name).stat() for name in files(found.images.snapshot.root)}
    put({"flowers/a/0.png": png(700)})
    root = catalog.fetch(spec, home).root
    changed = [name for name in files(root) if (root / name).stat() != before[name]]
    assert changed == ["a/0.png"]
    assert (root / "a/0.png").read_bytes() == png(700)


@pytest.mark.usefixtures("s3")
def test_more_keys_than_a_page_of_a_thousand_are_all_there(home):
    put({f"many/{i % 2}/{i}.png": b"x" for i in range(1050)})
    assert len(files(catalog.fetch(DatasetSpec(source="s3://garden/many"), home).root)) == 1050


@pytest.mark.usefixtures("s3")
def test_too_many_keys_are_refused_without_being_listed_to_the_end(home, monkeypatch):
    put({f"many/{i}.png": b"x" for i in range(2100)})
    monkeypatch.setattr(bucket, "MOST_BELOW", 905)
    store, _ = bucket.opened("s3://garden/many")
    pages: list[int] = []
    asked = store.fs._call_s3

    async def counted(method: str, **options: Any) -> Any:
        answer = await asked(method, **options)
        pages.append(len(answer.get("Contents", [])))
        return answer

    monkeypatch.setattr(store.fs, "_call_s3", counted)  # the same object for the whole process
    with pytest.raises(SourceError, match="below s3://garden/many lie more than 905 objects; name a folder with few"):
        catalog.fetch(DatasetSpec(source="s3://garden/many"), home)
    assert sum(pages) < 2100


@pytest.mark.usefixtures("s3")
def test_an_archive_in_chunks_an_archive_in_parts_and_a_listing(home, monkeypatch):
    monkeypatch.setattr(objects, "CHUNK", 1000)
    whole = zipped({f"rose/{i}.png": bytes([i]) * 300 for i in range(20)})
    listing = b"path,label\nrose/1.png,rose\ntulip/1.png,tulip\ngone.png,rose\n"
    put({"f.zip": whole, "g.zip.001": whole[:3000], "g.zip.002": whole[3000:], "set/l.csv": listing})
    put({"set/rose/1.png": b"1", "set/tulip/1.png": b"2", "set/tulip/2.png": b"3"})
    roots = [catalog.fetch(DatasetSpec(source=f"s3://garden/{name}"), home).root for name in ("f.zip", "g.zip.001")]
    assert files(roots[0]) == files(roots[1])
    assert len(files(roots[0])) == 20
    found = catalog.fetch(DatasetSpec(source="s3://garden/set/l.csv"), home)
    assert sorted(files(found.root)) == ["l.csv", "l.csv.origin.json", "rose/1.png", "tulip/1.png"]


@pytest.mark.usefixtures("s3")
def test_keys_that_lead_elsewhere_are_refused_and_nothing_is_written(home, tmp_path):
    put({"bad/rose/1.png": b"1", "bad/../../../../escaped.png": b"2"})
    with pytest.raises(SourceError, match="which leads out of the folder; give it another name there"):
        catalog.fetch(DatasetSpec(source="s3://garden/bad"), home)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s3://garden/none.zip", "there is no s3://garden/none.zip; check the address"),
        ("s3://garden/none", "there is no picture below s3://garden/none; check the address"),
        ("s3://no-such-bucket/none", "there is no picture below s3://no-such-bucket/none; check the address"),
        ("s3://Not A Bucket/none", "s3://Not A Bucket/none cannot be read"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_what_is_not_there_is_one_sentence(home, source, sentence):
    with pytest.raises(SourceError) as caught:
        catalog.fetch(DatasetSpec(source=source), home)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_connection_that_breaks_in_the_middle_is_taken_up_there(s3, home, monkeypatch):
    """The bytes come by way of a server that hangs up after some thousand of them, again and again."""
    from tests.data.breaking import between

    monkeypatch.setattr(objects, "CHUNK", 20_000)
    content = zipped({f"rose/{i}.png": bytes([i]) * 3000 for i in range(60)})
    put({"f.zip": content})
    with between(s3.meta.endpoint_url, 70_000) as (address, passed):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        found = catalog.fetch(DatasetSpec(source="s3://garden/f.zip"), home)
    assert len(files(found.root)) == 60
    assert len(passed) > 3
    assert sum(passed) < 2 * len(content)


@pytest.mark.usefixtures("s3")
def test_an_endpoint_that_nobody_answers_at_is_one_sentence_and_an_earlier_copy_serves(home, monkeypatch):
    put({"set/rose/1.png": b"1"})
    before = catalog.fetch(DatasetSpec(source="s3://garden/set"), home)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    forget_connections()
    told: list[str] = []
    after = catalog.fetch(DatasetSpec(source="s3://garden/set"), home, progress=lambda what, *_: told.append(what))
    assert after == before
    assert told == ["s3://garden/set cannot be reached; using the copy of an earlier run"]


@pytest.mark.usefixtures("s3")
def test_without_credentials_it_is_said_where_they_come_from(home, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget_connections()
    with pytest.raises(DownloadError, match=r"may not be read \(.*\); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"):
        catalog.fetch(DatasetSpec(source="s3://garden/set"), home)


@pytest.mark.usefixtures("s3")
def test_the_command_tells_it_all(png, tmp_path):
    put({f"flowers/{label}/{i}.png": png(100 * n + i, 32) for n, label in enumerate("ab") for i in range(20)})
    command = [sys.executable, "-c", "from flows.cli import main; main()", "data", "inspect", "s3://garden/flowers"]
    environment = {**os.environ, "TRAINSERVE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "flowers: 40 pictures, 2 classes" in done.stdout
    kept = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert not [path for path in kept if b"swordfish" in path.read_bytes()]
    assert "swordfish" not in done.stdout + done.stderr
