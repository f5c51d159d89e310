"""Secrets in addresses are found, not repeated, and not asked for: the environment and ~/.netrc have them."""

import base64
import re
from pathlib import Path

import pytest

from data.access import headers_for
from data.address import secret_in, shown
from data.errors import DownloadError, SourceError
from data.sources.kinds import parse_source
from data.spec import DatasetSpec

HARMLESS = (
    "digits",
    "flowers/",
    "me@home/flowers:2?token=no address",
    "https://host.org/a.zip",
    "https://host.org/get/a.zip?key=1&version=2",
    "https://host.org/me@home/a.zip",
    "https://host.org/a.zip?tokens=3&design=4",
    "https://host.org:8080/me@home/a.zip",
    "https://host.org:8080/get/a.zip?mail=me@home",
    "s3://garden/me@home/flowers",
)
SECRET = (
    "https://me@host.org/a.zip",
    "https://me:swordfish@host.org/a.zip",
    "ftp://me:swordfish@host.org/a.zip",
    "https://host.org/a.zip?token=swordfish",
    "https://host.org/a.zip?v=1&access_token=swordfish",
    "https://host.org/a.zip?X-Amz-Date=1&X-Amz-Signature=swordfish",
    "https://host.org/a.zip?sv=1&sig=swordfish",
    "https://host.org/a.zip?api_key=swordfish",
    "https://host.org/a.zip?password=swordfish",
    "https://host.org/a.zip#token=swordfish",
    " https://me:swordfish@host.org/a.zip",
    "\nhttps://me:swordfish@host.org/a.zip",
    " https://host.org/a.zip?token=swordfish",
    "shards:s3://KEY:swordfish@garden/flowers",
    "Shards:s3://KEY:swordfish@garden/flowers",
    "shards:s3://garden/flowers?X-Amz-Signature=swordfish",
    "s3://AKIA:sword/swordfish@garden/flowers",
    "s3://AKIA:/swordfish/fish@garden/flowers",
    "s3://AKIA:12/swordfish@garden/me@home",
    "gs://GOOG:12/swordfish@garden/flowers",
    "shards:s3://AKIA:sword/swordfish@garden/flowers",
    "https://me:sword/swordfish@host.org/a.zip",
    "https://me:sword?swordfish@host.org/a.zip",
    "https://me:sword#swordfish@host.org/a.zip",
)


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRAINSERVE_SOURCE_HEADER", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


@pytest.mark.parametrize("text", HARMLESS)
def test_a_source_without_a_secret_passes_here_and_in_the_form(text: str):
    assert secret_in(text) is None
    assert re.search(pattern(), text)


@pytest.mark.parametrize("text", SECRET)
def test_a_secret_is_found_and_the_form_refuses_it_before_it_is_kept_anywhere(text: str):
    said = secret_in(text)
    assert said is not None
    assert "swordfish" not in said
    assert not re.search(pattern(), text)
    with pytest.raises(SourceError, match=r"^dataset.source .* would be kept with every run") as caught:
        parse_source(text)
    assert "swordfish" not in str(caught.value)


def pattern() -> str:
    found: str = DatasetSpec.model_json_schema()["properties"]["source"]["pattern"]
    return found


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://me:secret@host.org/a.zip?token=1", "https://host.org/a.zip"),
        ("https://host.org:8080/a.zip#token=1", "https://host.org:8080/a.zip"),
        ("http://[::1/a.zip?x", "http://[::1/a.zip"),
        ("https://host.org:8080/me@home/a.zip", "https://host.org:8080/me@home/a.zip"),
        ("s3://AKIA:se/cr?et@garden/flowers", "s3://garden/flowers"),
        ("s3://AKIA:12/secret@garden/flowers", "s3://garden/flowers"),
        ("https://me:se/cret@host.org/a.zip?token=1", "https://host.org/a.zip"),
    ],
)
def test_secrets_are_not_repeated(url: str, told: str):
    assert shown(url) == told


def test_a_header_is_for_the_server_that_it_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINSERVE_SOURCE_HEADER", "Data.example.org Private-Token:  a b:c ")
    assert headers_for("https://data.example.org/a.zip") == {"Private-Token": "a b:c"}
    for other in (
        "https://example.org/a.zip",
        "https://data.example.org:8443/a.zip",
        "https://data.example.org.evil/a",
    ):
        assert headers_for(other) == {}


def test_netrc_says_who_we_are(nobody: Path):
    assert headers_for("https://data.example.org/a.zip") == {}
    nobody.write_text("machine data.example.org login me password swordfish\n")
    basic = base64.b64encode(b"me:swordfish").decode()
    assert headers_for("https://data.example.org:8443/a.zip") == {"Authorization": f"Basic {basic}"}
    assert headers_for("https://example.org/a.zip") == {}


def test_what_is_not_understood_is_one_sentence_without_the_secret(nobody: Path, monkeypatch: pytest.MonkeyPatch):
    nobody.write_text("machine data.example.org swordfish\n")
    with pytest.raises(DownloadError, match="is not understood") as caught:
        headers_for("https://data.example.org/a.zip")
    assert "swordfish" not in str(caught.value)
    monkeypatch.setenv("TRAINSERVE_SOURCE_HEADER", "Bearer swordfish")
    with pytest.raises(DownloadError, match="HOST NAME: VALUE") as caught:
        headers_for("https://data.example.org/a.zip")
    assert "swordfish" not in str(caught.value)
