"""A service that takes only what somebody signed by sigstore, and the command that signs so."""

import shutil
from pathlib import Path

import pytest

from data.errors import InputError
from flows.cli.app import main
from models.bundle import identity, manifest
from serving import served, settings, start, store
from serving.served import RefusedError

pytest.importorskip("sigstore")
from tests.models.authority import Authority

ME, ISSUER = "me@example.com", "https://accounts.example.com"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Whom this machine's services trust, and whose words they want."""
    made = Authority()
    monkeypatch.setenv("TRAINSERVE_SIGSTORE", f"{ME} {ISSUER}")
    monkeypatch.setenv("TRAINSERVE_SIGSTORE_ROOT", str(made.trusted_root(tmp_path / "root.json")))
    return made


def signed(bundle: Path, to: Path, authority: Authority) -> Path:
    copy = Path(shutil.copytree(bundle, to))
    raw = (copy / manifest.NAME).read_bytes()
    (copy / identity.NAME).write_bytes(authority.signed(raw, email=ME, issuer=ISSUER))
    return copy


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_a_service_takes_what_is_signed_and_refuses_what_is_not(toy_bundle: Path, tmp_path: Path, authority: Authority):
    ref = store.save(signed(toy_bundle, tmp_path / "signed", authority))
    assert served.serve(ref, settings.load()).name == "toy@v1"
    (store.path(ref) / identity.NAME).unlink()
    with pytest.raises(RefusedError, match=r"it has no manifest\.sigstore\.json, so nobody whom this service trusts"):
        served.serve(ref, settings.load())


@pytest.mark.usefixtures("home", "authority")
def test_a_bundle_that_is_not_signed_is_neither_imported_nor_promoted(
    toy_bundle: Path, capsys: pytest.CaptureFixture[str]
):
    def refused(*words: str) -> bool:
        with pytest.raises(SystemExit):
            main(["models", *words])
        return "it has no manifest.sigstore.json" in capsys.readouterr().err

    assert refused("import", str(toy_bundle))
    assert store.listing() == ()
    store.save(toy_bundle)
    assert refused("promote", "toy@v1", "--because", "x")
    assert store.aliases("toy").champion is None


@pytest.mark.usefixtures("home", "authority")
def test_a_service_without_the_library_does_not_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start, "find_spec", lambda _: None)
    monkeypatch.setattr(start, "require_free", lambda *_: None)
    with pytest.raises(InputError, match=r"needs the package sigstore; pip install 'trainserve\[sigstore\]'"):
        start.serve()


@pytest.mark.usefixtures("home", "authority")
def test_a_root_of_trust_that_is_not_there_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINSERVE_SIGSTORE_ROOT", str(tmp_path / "nowhere.json"))
    monkeypatch.setattr(start, "require_free", lambda *_: None)
    with pytest.raises(InputError, match="there is no root of trust"):
        start.serve()


@pytest.mark.parametrize("text", ["", ME, f"{ME} http://accounts.example.com", f"{ME} {ISSUER} more"])
def test_words_that_name_nobody_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("TRAINSERVE_SIGSTORE", text)
    with pytest.raises(InputError, match=r"TRAINSERVE_SIGSTORE is .*: names nobody; write IDENTITY ISSUER"):
        settings.load()


@pytest.mark.usefixtures("home")
def test_the_command_calls_the_library_and_says_what_it_lacks(
    toy_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    ref = store.save(toy_bundle)
    monkeypatch.setattr("sigstore.models.DEFAULT_TUF_URL", "http://127.0.0.1:9")
    for words, said in (
        (["--sigstore"], "it could not be signed with sigstore ("),
        ([], "nothing to sign with; name a key, --key FILE or TRAINSERVE_SIGNING_KEY, or say --sigstore"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["models", "sign", str(ref), *words])
        assert ended.value.code == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (store.path(ref) / identity.NAME).exists()
