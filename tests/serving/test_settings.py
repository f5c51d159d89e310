"""What an operator sets, and what becomes of nonsense."""

import pytest
import toy

from data.errors import InputError
from serving import served, settings, start, store
from tests.ports import free_port


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_PORT", "8080")
    monkeypatch.setenv("TRAINSERVE_MODEL", "flowers")
    assert (settings.load().port, settings.load().model) == (8080, "flowers")


def test_what_is_given_wins_over_the_environment_and_none_does_not(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_PORT", "8080")
    assert settings.load(port=9090).port == 9090
    assert settings.load(port=None).port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("PORT", "http"), ("MODEL", "../x"), ("MAX_BATCH", "0"), ("POLL_S", "-1"), ("THREADS", "many")],
)
def test_a_bad_value_is_one_sentence_with_the_name_and_the_value(monkeypatch, name, value):
    monkeypatch.setenv(f"TRAINSERVE_{name}", value)
    with pytest.raises(InputError) as caught:
        settings.load()
    assert f"TRAINSERVE_{name}" in str(caught.value)
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_request_that_could_never_fit_the_queue_is_refused_at_start():
    with pytest.raises(InputError, match="use at most 5"):
        settings.load(max_queue=5, max_pictures=6)


def test_a_root_of_trust_for_signatures_that_nobody_asks_for_is_refused(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_SIGSTORE_ROOT", "/somewhere/root.json")
    with pytest.raises(
        InputError, match=r"TRAINSERVE_SIGSTORE_ROOT /somewhere/root\.json alone verifies nothing; say in"
    ):
        settings.load()
    monkeypatch.setenv("TRAINSERVE_SIGSTORE", "me@example.com https://accounts.example.com")
    assert settings.load().sigstore_root is not None


def test_the_graph_that_is_wanted_is_asked_for_when_a_model_is_opened(tmp_path, monkeypatch):
    folder = toy.bundle(tmp_path / "bundle", version="v1")
    monkeypatch.setenv("TRAINSERVE_VARIANT", "int8")
    bundle = served.opened(folder, settings.load())
    assert (bundle.variant, bundle.why) == ("float", "the bundle has no int8 graph")
    monkeypatch.setenv("TRAINSERVE_VARIANT", "int4")
    with pytest.raises(InputError, match="TRAINSERVE_VARIANT is 'int4'"):
        settings.load()


def test_a_host_by_name_becomes_an_address():
    assert start.numeric("localhost") == "127.0.0.1"
    assert start.numeric("::1") == "::1"


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", ""])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(InputError):
        start.numeric(host)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InputError, match="cannot listen"):
        start.require_free("192.0.2.1", 3000)


def test_the_service_inherits_the_settings_as_they_were_resolved():
    environment = start.environment(settings.load(port=4321, model="flowers"))
    assert environment["TRAINSERVE_PORT"] == "4321"
    assert environment["TRAINSERVE_MODEL"] == "flowers"
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"


def test_of_several_promoted_models_the_last_is_taken_and_the_others_are_named(home, tmp_path, capsys):
    assert start.chosen(settings.load()).model is None
    assert not home.exists()
    for name in ("digits", "flowers", "lamps"):
        store.promote(store.save(toy.bundle(tmp_path / name, name=name, version="1")), reason="")
        assert start.chosen(settings.load()).model == name
        said = capsys.readouterr().err
        assert (said == "") == (name == "digits")
    assert said == (
        "taking lamps, the model promoted last; also there: digits, flowers (`trainserve serve --model digits`)\n"
    )


def test_a_model_chosen_by_name_is_no_surprise_unless_it_is_not_there(home, tmp_path, capsys):
    assert not home.exists()
    store.promote(store.save(toy.bundle(tmp_path / "x", name="digits", version="1")), reason="")
    assert start.chosen(settings.load(model="digits")).model == "digits"
    assert capsys.readouterr().err == ""
    assert start.chosen(settings.load(model="digist")).model == "digist"
    said = "no model 'digist' has been promoted yet; also there: digits (`trainserve serve --model digits`)\n"
    assert capsys.readouterr().err == said


def test_a_damaged_alias_file_does_not_keep_the_service_from_starting(home):
    store.alias_path("digits").parent.mkdir(parents=True)
    store.alias_path("digits").write_text("{")
    assert home.exists()
    assert start.chosen(settings.load(model="flowers")).model == "flowers"


def test_files_are_named_from_where_the_service_is_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINSERVE_SIGNERS", "signers.txt")
    monkeypatch.setenv("TRAINSERVE_KEYS", "keys.txt")
    loaded = settings.load()
    assert (loaded.signers, loaded.keys) == (tmp_path / "signers.txt", tmp_path / "keys.txt")
    monkeypatch.delenv("TRAINSERVE_KEYS")
    with pytest.raises(InputError, match=r"there is no signers' file .*signers.txt"):
        start.serve(port=free_port())
