"""`trainserve models ...` and `predict --bundle` over a store of toy models."""

import json
from pathlib import Path

import pytest
import toy

from flows.cli import in_service
from flows.cli.app import main
from serving import store


def said(capsys: pytest.CaptureFixture[str], *tokens: object) -> str:
    main([str(token) for token in tokens])
    return capsys.readouterr().out


@pytest.fixture
def champion(home: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> store.ModelRef:
    """toy@v1 in the store at `home`; nobody serves."""
    assert not home.exists()
    monkeypatch.setenv("TRAINSERVE_PORT", "9")
    ref = store.save(toy_bundle)
    store.promote(ref, reason="first")
    return ref


@pytest.mark.usefixtures("champion")
def test_a_promotion_says_that_nobody_serves_and_how_to(capsys):
    assert said(capsys, "models", "promote", "toy@v1", "--because", "once more") == (
        "toy@v1 is now the champion of toy; "
        "no service answers at http://127.0.0.1:9: `trainserve serve --model toy` starts one with it\n"
    )


def test_a_promotion_of_another_name_than_the_running_service_answers_with_says_so(service):
    other = store.ModelRef(name="flowers", version="7")
    assert in_service.reached(other, service.url) == (
        f"the service at {service.url} goes on answering with toy@v1: "
        "stop it and start `trainserve serve --model flowers`, or give that another --port"
    )


def test_a_promotion_that_the_running_service_has_taken_is_told_as_that(service):
    assert in_service.reached(store.ModelRef(name="toy", version="v1"), service.url) == (
        f"the service at {service.url} answers with it"
    )


@pytest.mark.parametrize("share", ["0", "0%", "150%", "10", "x", "%", "nan"])
def test_a_share_that_is_none_is_a_sentence_and_tries_nothing(champion, tmp_path, capsys, share):
    store.save(toy.bundle(tmp_path / "v2", version="v2"))
    with pytest.raises(SystemExit) as caught:
        main(["models", "promote", "toy@v2", "--canary", share])
    assert caught.value.code == 2
    assert f"the share '{share}' is not above 0 and at most 100 %" in capsys.readouterr().err
    assert (store.aliases("toy").trial, store.aliases("toy").champion) == (None, champion)


@pytest.mark.usefixtures("home")
def test_nothing_is_tried_beside_nobody(toy_bundle, capsys):
    store.save(toy_bundle)
    with pytest.raises(SystemExit) as caught:
        main(["models", "promote", "toy@v1", "--shadow", "10%"])
    assert caught.value.code == 2
    assert "model 'toy' has no champion to try toy@v1 beside; promote it without a share" in capsys.readouterr().err


@pytest.mark.usefixtures("champion")
def test_a_rollback_of_a_name_that_is_not_there_names_those_that_are(capsys):
    with pytest.raises(SystemExit):
        main(["models", "rollback", "flowers"])
    assert "'flowers' has no previous champion to go back to; models in service: toy" in capsys.readouterr().err


@pytest.mark.usefixtures("home")
def test_models_are_listed_whole_where_no_terminal_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    version = "20261121-115121-" + "long" * 9
    store.promote(store.save(toy.bundle(tmp_path / "long", name="flowers", version=version)), reason="")
    assert f"\nflowers@{version}   champion  " in said(capsys, "models", "list").replace("\n ", "\n")


@pytest.mark.usefixtures("champion")
def test_the_listing_for_scripts_is_one_object(capsys):
    listed = json.loads(said(capsys, "models", "list", "--json"))
    assert [(one["model"], one["roles"]) for one in listed["models"]] == [("toy@v1", ["champion"])]


@pytest.mark.usefixtures("champion")
def test_an_exported_folder_is_verified_like_a_stored_model(tmp_path, capsys):
    said(capsys, "models", "export", "toy", tmp_path / "out")
    assert f"toy@v1 in {tmp_path / 'out'} is whole" in said(capsys, "models", "verify", tmp_path / "out")
    assert said(capsys, "models", "verify", "toy").startswith("toy@v1 is whole")
    (tmp_path / "out" / "card.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["models", "verify", str(tmp_path / "out")])


@pytest.mark.usefixtures("champion")
def test_what_lies_there_decides_whether_a_name_is_a_folder_or_a_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(toy.picture(250))
    asked = ("predict", "a.png", "--json", "--bundle")
    (tmp_path / "toy").mkdir()  # pictures, say
    assert json.loads(said(capsys, *asked, "toy"))["model"] == "toy@v1"
    (tmp_path / "toy").rmdir()
    toy.bundle(tmp_path / "toy", version="v9")
    main([*asked, "toy"])
    both = capsys.readouterr()
    assert json.loads(both.out)["model"] == "toy@v9"
    assert "write toy@champion for the other" in both.err
    assert json.loads(said(capsys, *asked, "toy@champion"))["model"] == "toy@v1"
    (tmp_path / "tulips").mkdir()
    with pytest.raises(SystemExit):
        main([*asked, "tulips"])
    assert "the folder 'tulips' holds no bundle, having no manifest.json, and model" in capsys.readouterr().err
