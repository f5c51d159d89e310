"""Who may vouch for a bundle, and what a signature does not forgive."""

import shutil
from pathlib import Path

import pytest

from data.errors import InputError
from models.bundle import manifest, signature
from models.bundle.bundle import BundleError
from models.bundle.signature import load_signers, new_key, sign


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nightly and stranger: private keys; signers: knows nightly."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "signers").write_text(f"# who may sign\n\n{new_key(folder / 'nightly', 'nightly')}  # since November\n")
    new_key(folder / "stranger", "stranger")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a manifest: what a signature is about."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    manifest.write(folder)
    return folder


def test_what_was_signed_by_one_who_may_is_taken(bundle: Path, keys: Path):
    assert sign(bundle / manifest.NAME, keys / "nightly") == "nightly"
    assert set(manifest.verified(bundle, signers=load_signers(keys / "signers"))) == {"card.json"}
    assert set(manifest.verified(bundle)) == {"card.json"}  # by those, too, who ask for no signature
    manifest.write(bundle)
    assert set(manifest.verified(bundle)) == {"card.json"}


def test_a_kill_while_it_is_signed_leaves_nothing_in_the_bundle(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(part: Path, _: Path) -> None:
        seen.append(part)
        raise KeyboardInterrupt

    seen: list[Path] = []
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        sign(bundle / manifest.NAME, keys / "nightly")
    assert [part.parent for part in seen] == [bundle.parent]


def test_what_nobody_signed_is_refused(bundle: Path, keys: Path):
    with pytest.raises(BundleError, match="it is not signed by anybody whom this service trusts"):
        manifest.verified(bundle, signers=load_signers(keys / "signers"))


def test_strangers_sign_in_vain_also_under_a_known_name(bundle: Path, keys: Path, tmp_path: Path):
    signers = load_signers(keys / "signers")
    sign(bundle / manifest.NAME, keys / "stranger")
    with pytest.raises(BundleError, match="somebody whom this service does not know"):
        manifest.verified(bundle, signers=signers)
    new_key(tmp_path / "false", "nightly")
    sign(bundle / manifest.NAME, tmp_path / "false")
    with pytest.raises(BundleError, match="it is not what was signed"):
        manifest.verified(bundle, signers=signers)


def test_what_was_changed_after_the_signature_is_refused(bundle: Path, keys: Path):
    sign(bundle / manifest.NAME, keys / "nightly")
    (bundle / "card.json").write_text("{ }")
    manifest.write(bundle)
    with pytest.raises(BundleError, match="it is not what was signed"):
        manifest.verified(bundle, signers=load_signers(keys / "signers"))


@pytest.mark.parametrize("signer", [None, "stranger", "false"])
def test_whoever_asks_is_told_no_name_and_the_log_has_it(
    bundle: Path, keys: Path, caplog: pytest.LogCaptureFixture, signer: str | None
):
    if signer == "false":  # a key of the name of one who may sign
        new_key(keys / "false", "nightly")
    if signer is not None:
        sign(bundle / manifest.NAME, keys / signer)
    with caplog.at_level("WARNING", logger="trainserve"), pytest.raises(BundleError) as refused:
        manifest.verified(bundle, signers=load_signers(keys / "signers"))
    assert "nightly" not in str(refused.value)
    assert "stranger" not in str(refused.value)
    assert "nightly" in caplog.text


def test_the_signature_of_another_bundle_does_not_do(bundle: Path, keys: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    sign(bundle / manifest.NAME, keys / "nightly")
    (other / "card.json").write_text("[]")
    manifest.write(other)
    shutil.copy(bundle / signature.NAME, other)
    with pytest.raises(BundleError, match="it is not what was signed"):
        manifest.verified(other, signers=load_signers(keys / "signers"))


@pytest.mark.parametrize("text", ["", "{}", '{"signer": "nightly", "ed25519": 7}', "x" * 4000, '{"signer": "a"}'])
def test_a_signature_that_is_none_is_refused(bundle: Path, keys: Path, text: str):
    (bundle / signature.NAME).write_text(text)
    with pytest.raises(BundleError, match=r"manifest.sig cannot be read; sign it again"):
        manifest.verified(bundle, signers=load_signers(keys / "signers"))


@pytest.mark.parametrize("value", ["", "AAAA", "not base64", "A" * 88])
def test_a_value_that_is_no_signature_is_refused(bundle: Path, keys: Path, value: str):
    made = signature.Signature(signer="nightly", ed25519=value)
    (bundle / signature.NAME).write_text(made.model_dump_json())
    with pytest.raises(BundleError, match="it is not what was signed"):
        manifest.verified(bundle, signers=load_signers(keys / "signers"))


def test_a_private_key_is_read_by_its_owner_alone_and_never_written_over(tmp_path: Path, bundle: Path):
    new_key(tmp_path / "key", "nightly")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="already there"):
        new_key(tmp_path / "key", "nightly")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(InputError, match="others may read the signing key"):
        sign(bundle / manifest.NAME, tmp_path / "key")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(InputError, match="is no signing key of this project"):
        sign(bundle / manifest.NAME, tmp_path / "text")
    with pytest.raises(InputError, match="cannot be read"):
        sign(bundle / manifest.NAME, tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no word"):
        new_key(tmp_path / "other", "a b")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "has no signer"),
        ("nightly", "line 1 of"),
        ("nightly AAAA", "line 1 of"),
        (f"# all\nnightly {'A' * 43}=\nnightly {'A' * 43}=", "line 3 of"),
    ],
)
def test_a_signers_file_that_says_nothing_or_nonsense_stops_everything(tmp_path: Path, lines: str, said: str):
    (tmp_path / "signers").write_text(lines)
    with pytest.raises(InputError, match=said):
        load_signers(tmp_path / "signers")


def test_a_signers_file_that_others_may_write_is_refused(keys: Path, tmp_path: Path):
    shutil.copy(keys / "signers", tmp_path / "signers")
    (tmp_path / "signers").chmod(0o666)
    with pytest.raises(InputError, match="others may write"):
        load_signers(tmp_path / "signers")
    with pytest.raises(InputError, match="cannot be read"):
        load_signers(tmp_path / "nowhere")
