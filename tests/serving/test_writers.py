"""Whose files the service believes: those that nobody else could have written."""

import grp
import os
import stat
from pathlib import Path

import pytest

from data.errors import InputError
from models.bundle import signature
from serving import settings, store, writers
from serving.refs import ModelRef
from serving.served import RefusedError, serve

US = frozenset({0, os.geteuid()})


def info(mode: int, *, user: int = 0, group: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "believed"),
    [
        (stat.S_IFREG | 0o644, 0, True),
        (stat.S_IFREG | 0o644, os.geteuid(), True),
        (stat.S_IFREG | 0o600, 54321, False),
        (stat.S_IFREG | 0o646, 0, False),
        (stat.S_IFDIR | 0o777, 0, False),
        (stat.S_IFDIR | 0o1777, 0, True),  # as /tmp: nobody replaces what is another's
    ],
)
def test_only_files_that_nobody_else_could_write_are_believed(mode, owner, believed):
    assert (writers.stranger(info(mode, user=owner, group=99999), US) is None) == believed


def test_a_group_may_write_if_it_is_the_users_own():
    private = grp.getgrnam("root").gr_gid
    shared = next(entry.gr_gid for entry in grp.getgrall() if entry.gr_name in ("users", "daemon", "mail"))
    for group, believed in ((private, True), (shared, False), (987654, False)):
        assert (writers.stranger(info(stat.S_IFREG | 0o664, group=group), US) is None) == believed


def test_further_writers_are_named_by_name_or_number(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_WRITERS", "daemon,54321")
    trusted = writers.trusted(settings.load().writers)
    assert trusted is not None
    assert writers.stranger(info(stat.S_IFREG | 0o644, user=54321), trusted) is None
    monkeypatch.setenv("TRAINSERVE_WRITERS", "nobody-of-that-name")
    with pytest.raises(InputError, match="there is no user 'nobody-of-that-name'"):
        settings.load()


@pytest.fixture
def stored(home: Path, toy_bundle: Path) -> tuple[Path, ModelRef]:
    ref = store.save(toy_bundle)
    store.promote(ref, reason="")
    return home, ref


@pytest.mark.parametrize(
    "place",
    [
        "models/toy/v1/bundle/model.onnx",
        "models/toy/v1/bundle/golden",
        "models/toy/v1/bundle",
        "models/toy",
        "trainserve/aliases/toy.json",
        "",
    ],
)
def test_a_model_that_another_user_could_write_is_refused_in_one_sentence(stored, place):
    home, ref = stored
    (home / place).chmod((home / place).stat().st_mode | stat.S_IWOTH)
    with pytest.raises(
        RefusedError, match=r"can be written by every user.*chmod -R go-w.*TRAINSERVE_WRITERS"
    ) as caught:
        serve(ref, settings.load())
    assert str(home) not in str(caught.value)
    assert serve(ref, settings.load(writers="*")).ref == ref


def test_a_signers_file_that_another_user_could_write_signs_for_nobody(stored, tmp_path):
    _, ref = stored
    signers = tmp_path / "signers"
    signers.write_text(signature.new_key(tmp_path / "key", "nightly") + "\n")
    signature.sign(store.path(ref) / "manifest.json", tmp_path / "key")
    assert serve(ref, settings.load(signers=signers)).ref == ref
    signers.chmod(0o666)
    with pytest.raises(RefusedError, match=r"^the signers' file signers can be written by every user"):
        serve(ref, settings.load(signers=signers))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_model_that_belongs_to_another_user_is_refused_unless_he_is_named(stored):
    _, ref = stored
    os.chown(store.path(ref) / "card.json", 54321, -1)
    with pytest.raises(RefusedError, match="belongs to user 54321"):
        serve(ref, settings.load())
    assert serve(ref, settings.load(writers="54321")).ref == ref
