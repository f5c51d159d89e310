"""Bundles that sigstore vouches for, verified offline by the real library on a root of trust made here."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import InputError
from models.bundle import identity, manifest, signature
from models.bundle.bundle import BundleError
from models.bundle.identity import Identity
from models.bundle.signature import Signers

pytest.importorskip("sigstore")
from tests.models.authority import Authority

ME, ISSUER = "me@example.com", "https://accounts.example.com"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def who(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    root = authority.trusted_root(tmp_path_factory.mktemp("trust") / "trusted_root.json")
    return Identity(name=ME, issuer=ISSUER, root=root)


@pytest.fixture
def bundle(tmp_path: Path, authority: Authority) -> Path:
    """A folder with a manifest that I signed."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    manifest.write(folder)
    raw = (folder / manifest.NAME).read_bytes()
    (folder / identity.NAME).write_bytes(authority.signed(raw, email=ME, issuer=ISSUER))
    return folder


def test_what_the_named_one_signed_is_taken(bundle: Path, who: Identity):
    assert set(manifest.verified(bundle, signers=Signers(identity=who))) == {"card.json"}
    assert set(manifest.verified(bundle)) == {"card.json"}  # by those, too, who ask for no signature
    manifest.write(bundle)
    assert set(manifest.verified(bundle)) == {"card.json"}


@pytest.mark.parametrize(("email", "issuer"), [("you@example.com", ISSUER), (ME, "https://elsewhere.example.com")])
def test_another_one_or_one_who_was_seen_elsewhere_signs_in_vain(
    bundle: Path, who: Identity, authority: Authority, email: str, issuer: str, caplog: pytest.LogCaptureFixture
):
    raw = (bundle / manifest.NAME).read_bytes()
    (bundle / identity.NAME).write_bytes(authority.signed(raw, email=email, issuer=issuer))
    with pytest.raises(BundleError) as refused:
        manifest.verified(bundle, signers=Signers(identity=who))
    assert "does not prove that anybody whom this service trusts signed it" in str(refused.value)
    assert "@" not in str(refused.value)
    assert "https://" not in str(refused.value)
    assert f"does not prove that {ME} signed it, logged in at {ISSUER}" in caplog.text


def test_an_authority_that_nobody_trusts_certifies_in_vain(bundle: Path, who: Identity):
    raw = (bundle / manifest.NAME).read_bytes()
    (bundle / identity.NAME).write_bytes(Authority().signed(raw, email=ME, issuer=ISSUER))
    with pytest.raises(BundleError, match="does not prove that"):
        manifest.verified(bundle, signers=Signers(identity=who))


def test_sigstores_own_root_which_comes_with_the_library_does_not_know_us(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with pytest.raises(BundleError, match="does not prove that"):
        manifest.verified(bundle, signers=Signers(identity=Identity(name=ME, issuer=ISSUER)))


def test_what_was_changed_after_the_signature_is_refused(bundle: Path, who: Identity):
    (bundle / "card.json").write_text("{ }")
    manifest.write(bundle)
    with pytest.raises(BundleError, match="does not prove that"):
        manifest.verified(bundle, signers=Signers(identity=who))


def edited(edit: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        told = json.loads(raw)
        edit(told)
        return json.dumps(told).encode()

    return change


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "cannot be read; sign it again"),
    "no json": (lambda _: b"\xff{", "cannot be read; sign it again"),
    "deep": (lambda _: b'{"a":' * 9000, "cannot be read; sign it again"),
    "no log": (edited(lambda told: told["verificationMaterial"].update(tlogEntries=[])), "cannot be read"),
    "no certificate": (edited(lambda told: told["verificationMaterial"].pop("certificate")), "cannot be read"),
    "no signature": (edited(lambda told: told.pop("messageSignature")), "cannot be read|does not prove"),
    "too long": (lambda raw: raw + b" " * (64 << 10), r"bytes, more than the 65536 a bundle may have there"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_signature_is_refused_in_a_sentence(bundle: Path, who: Identity, fault: str):
    spoil, sentence = FAULTS[fault]
    file = bundle / identity.NAME
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(BundleError, match=sentence):
        manifest.verified(bundle, signers=Signers(identity=who))


def test_what_nobody_signed_is_refused(bundle: Path, who: Identity, caplog: pytest.LogCaptureFixture):
    (bundle / identity.NAME).unlink()
    with pytest.raises(BundleError, match=r"it has no manifest.sigstore.json, so nobody whom this"):
        manifest.verified(bundle, signers=Signers(identity=who))
    assert f"only what {ME} signed is taken" in caplog.text


def test_where_keys_are_named_too_both_have_to_have_signed(bundle: Path, who: Identity, tmp_path: Path):
    (tmp_path / "signers").write_text(signature.new_key(tmp_path / "key", "nightly") + "\n")
    both = Signers(keys=signature.load_signers(tmp_path / "signers").keys, identity=who)
    with pytest.raises(BundleError, match="it is not signed by anybody whom this service trusts"):
        manifest.verified(bundle, signers=both)
    signature.sign(bundle / manifest.NAME, tmp_path / "key")
    assert manifest.verified(bundle, signers=both)
    (bundle / identity.NAME).unlink()
    with pytest.raises(BundleError, match=r"it has no manifest\.sigstore\.json"):
        manifest.verified(bundle, signers=both)


def test_without_the_library_nothing_is_believed(bundle: Path, who: Identity, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    with pytest.raises(BundleError, match=r"is not installed; pip install 'trainserve\[sigstore\]'"):
        manifest.verified(bundle, signers=Signers(identity=who))


def test_a_root_of_trust_that_cannot_be_read_proves_nothing(bundle: Path, tmp_path: Path):
    (tmp_path / "root.json").write_text("{}")
    for root in (tmp_path / "root.json", tmp_path / "nowhere.json"):
        with pytest.raises(BundleError, match=r"who signed it cannot be told \(") as refused:
            manifest.verified(bundle, signers=Signers(identity=Identity(name=ME, issuer=ISSUER, root=root)))
        assert str(tmp_path / "root") not in str(refused.value)


def test_signers_that_name_nobody_are_none():
    with pytest.raises(ValueError, match="would let everything through"):
        Signers()


def test_signing_without_the_network_is_refused_in_a_sentence(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    before = (bundle / identity.NAME).read_bytes()
    monkeypatch.setattr("sigstore.models.DEFAULT_TUF_URL", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"could not be signed with sigstore \(.+\); it needs the network, and a browser"
    ):
        identity.sign(bundle / manifest.NAME)
    assert (bundle / identity.NAME).read_bytes() == before
