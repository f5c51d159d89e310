"""Who promoted what, when and why: verdicts that outlive runs, reasons for going against them, ways back."""

import json
import multiprocessing
import re
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import toy

from flows.cli.app import main
from flows.health import growth, tidying
from flows.health.retention import Keep, plan
from models.bundle.bundle import BundleError
from models.records import Verdict
from serving import aliases, challengers, roles, store, verdicts
from serving.refs import ModelRef, StoreError

WHO = re.compile(r"[^@\s]+@\S+")


@pytest.fixture
def three(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ModelRef]:
    """toy@v1, v2 and v3, stored; nobody serves."""
    assert not home.exists()
    monkeypatch.setenv("TRAINSERVE_PORT", "9")
    return [store.save(toy.bundle(tmp_path / name, version=name)) for name in ("v1", "v2", "v3")]


def given(*, promoted: bool, reason: str = "Kept toy@v1: 3 points worse.") -> Verdict:
    relation = "better" if promoted else "worse"
    return Verdict(promoted=promoted, relation=relation, reason=reason, n=100, challenger_accuracy=0.9)


def command(capsys: pytest.CaptureFixture[str], *tokens: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    status = 0
    try:
        main([str(token) for token in tokens])
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_verdicts_are_kept_with_the_store_the_last_one_last(three):
    assert verdicts.given(three[0]) == ()
    verdicts.keep(three[0], given(promoted=False))
    verdicts.keep(three[0], given(promoted=True, reason="Better by 2 points."))
    assert [one.verdict.reason for one in verdicts.given(three[0])] == [
        "Kept toy@v1: 3 points worse.",
        "Better by 2 points.",
    ]
    assert verdicts.word(three[0]) == "promoted"
    assert verdicts.word(three[1]) == "none"


def keep_many(home: str, start: int) -> None:
    import os

    os.environ["BENTOML_HOME"] = home
    for number in range(20):
        verdicts.keep(ModelRef(name="toy", version="v1"), given(promoted=False, reason=f"{start + number}"))


@pytest.mark.slow
@pytest.mark.usefixtures("three")
def test_of_two_that_judge_at_once_no_verdict_is_lost(home):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=keep_many, args=(str(home), start)) for start in (0, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    kept = {one.verdict.reason for one in verdicts.given(ModelRef(name="toy", version="v1"))}
    assert kept == {str(number) for number in (*range(20), *range(100, 120))}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 2, "given": []}'])
def test_a_damaged_verdict_is_a_sentence_and_no_reason_not_to_go_back(three, content):
    store.promote(three[0], reason="")
    store.promote(three[1], reason="")
    verdicts.keep(three[0], given(promoted=True))
    verdicts.file_of(three[0]).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged or of a newer version; restore it, or remove it"):
        verdicts.given(three[0])
    assert "cannot be read" in (verdicts.objection(three[0]) or "")
    assert store.rollback("toy", reason="") == three[0]
    assert store.aliases("toy").history[-1].verdict is None


def test_verdicts_that_cannot_be_read_are_a_sentence(three):
    verdicts.file_of(three[0]).mkdir(parents=True)
    for asked in (lambda: verdicts.given(three[0]), lambda: verdicts.keep(three[0], given(promoted=True))):
        with pytest.raises(StoreError, match=r"v1\.json cannot be read \(Is a directory\); make it readable"):
            asked()
    assert "cannot be read" in (verdicts.objection(three[0]) or "")
    assert verdicts.word(three[0]) is None


def test_the_history_says_who_did_what_why_and_what_the_verdict_was(three):
    first, second, _ = three
    verdicts.keep(first, given(promoted=True, reason="The first."))
    store.promote(first, reason="The first.")
    verdicts.keep(second, given(promoted=False))
    store.promote(second, reason="it knows tulips", because="it knows tulips")
    by_run, by_hand = store.aliases("toy").history
    assert (by_run.verdict, by_run.because, by_run.reason) == ("promoted", None, "The first.")
    assert (by_hand.verdict, by_hand.because, by_hand.replaced) == ("refused", "it knows tulips", "v1")
    assert WHO.fullmatch(by_run.by)


@pytest.mark.slow
def test_a_version_that_was_refused_is_promoted_by_hand_only_with_a_reason(three, capsys):
    store.promote(three[0], reason="first")
    verdicts.keep(three[1], given(promoted=False))
    assert command(capsys, "models", "promote", "toy@v2") == (
        2,
        "",
        "trainserve: toy@v2 was refused (Kept toy@v1: 3 points worse); "
        'say why it is to serve all the same with --because "..."\n',
    )
    assert command(capsys, "models", "promote", "toy@v2", "--because", "  ")[0] == 2
    assert store.aliases("toy").champion == three[0]
    status, out, _ = command(capsys, "models", "promote", "toy@v2", "--because", "it knows\ntulips")
    assert (status, out.partition(";")[0]) == (0, "toy@v2 is now the champion of toy")
    assert store.aliases("toy").history[-1].because == "it knows tulips"


@pytest.mark.slow
@pytest.mark.usefixtures("three")
def test_a_version_without_a_verdict_needs_a_reason_under_either_name_of_the_option(capsys):
    status, _, err = command(capsys, "models", "promote", "toy@v1")
    assert status == 2
    assert "toy@v1 has no verdict: no run has compared it with the champion here; say why" in err
    assert command(capsys, "models", "promote", "toy@v1", "--reason", "the first")[0] == 0


def test_what_its_run_promoted_needs_no_reason(three, capsys):
    verdicts.keep(three[0], given(promoted=False))
    verdicts.keep(three[0], given(promoted=True))  # judged again
    assert command(capsys, "models", "promote", "toy@v1")[0] == 0
    last = store.aliases("toy").history[-1]
    assert (last.reason, last.because, last.verdict) == ("by hand", None, "promoted")


@pytest.mark.usefixtures("three")
def test_on_trial_a_canary_needs_a_reason_and_a_shadow_which_answers_nobody_needs_none(three, capsys):
    store.promote(three[0], reason="first")
    status, _, err = command(capsys, "models", "promote", "toy@v2", "--canary", "10%")
    assert (status, "no verdict" in err) == (2, True)
    assert command(capsys, "models", "promote", "toy@v2", "--canary", "10%", "--because", "too few pictures")[0] == 0
    assert command(capsys, "models", "promote", "toy@v2", "--shadow", "10%")[0] == 0
    canary, shadow = store.aliases("toy").history[-2:]
    assert (canary.what, canary.because, canary.verdict) == ("canary", "too few pictures", "none")
    assert (shadow.what, shadow.because) == ("shadow", None)


@pytest.mark.slow
def test_every_version_that_was_champion_once_can_be_gone_back_to(three, capsys):
    for ref in three:
        store.promote(ref, reason="")
    status, out, _ = command(capsys, "models", "rollback", "toy", "--to", "v1", "--because", "tulips again")
    assert (status, out.partition(";")[0]) == (0, "toy@v1 is now the champion of toy")
    held = store.aliases("toy")
    assert (held.champion, held.previous) == (three[0], three[2])  # the previous one is what was left
    assert (held.history[-1].what, held.history[-1].replaced, held.history[-1].because) == (
        "rollback",
        "v3",
        "tulips again",
    )
    assert command(capsys, "models", "rollback", "toy", "--to", "toy@v2")[0] == 0
    assert command(capsys, "models", "rollback", "toy")[0] == 0
    assert store.aliases("toy").champion == three[0]


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("v3", "toy@v3 was never the champion of toy, so there is no way back to it; `trainserve models history toy`"),
        ("v2", "toy@v2 is the champion already"),
        ("v9", "toy@v9 was never the champion"),
        ("../v1", "cannot be stored"),
        ("roses@v1", "roses@v1 is no version of toy"),
    ],
)
def test_a_version_that_never_was_champion_is_no_way_back(three, capsys, to, sentence):
    store.promote(three[0], reason="")
    store.promote(three[1], reason="")
    status, _, err = command(capsys, "models", "rollback", "toy", "--to", to)
    assert status == 2
    assert sentence in err
    assert len(store.aliases("toy").history) == 2


def test_a_version_that_is_damaged_or_gone_is_not_gone_back_to(three, capsys):
    for ref in three:
        store.promote(ref, reason="")
    (store.path(three[1]) / "card.json").write_text("{}")
    tidying.remove(store.home() / "models/toy/v1", by_way_of=store.home())
    assert "v1 is not in the store" in command(capsys, "models", "rollback", "toy", "--to", "v1")[2]
    status, _, err = command(capsys, "models", "rollback", "toy")  # to v2
    assert (status, "card.json" in err) == (2, True)
    assert store.aliases("toy").champion == three[2]


@pytest.mark.slow
def test_an_explicit_way_back_ends_a_trial_too(three, capsys):
    store.promote(three[0], reason="")
    store.promote(three[1], reason="")
    challengers.try_out(three[2], share=0.5, shadow=True, reason="")
    assert command(capsys, "models", "rollback", "toy", "--to", "v1")[0] == 0
    assert (store.aliases("toy").champion, store.aliases("toy").trial) == (three[0], None)


def test_the_history_is_shown_to_people_and_to_scripts(three, capsys):
    verdicts.keep(three[0], given(promoted=True))
    store.promote(three[0], reason="better by 3 points")
    store.promote(three[1], reason="it knows tulips", because="it knows tulips")
    _, shown, _ = command(capsys, "models", "history", "toy")
    lines = [line for line in shown.splitlines() if "promote" in line]
    assert re.search(r"UTC\s+promote\s+v1\s+\S+@\S+\s+promoted\s+better by 3 points", lines[0])
    assert re.search(r"UTC\s+promote\s+v2\s+v1\s+\S+@\S+\s+none\s+it knows tulips", lines[1])
    told = json.loads(command(capsys, "models", "history", "toy@v1", "--json")[1])
    assert (told["name"], told["champion"], told["previous"]) == ("toy", "toy@v2", "toy@v1")
    assert [(one["model"], one["verdict"], one["because"]) for one in told["history"]] == [
        ("toy@v1", "promoted", None),
        ("toy@v2", "none", "it knows tulips"),
    ]
    status, _, err = command(capsys, "models", "history", "roses")
    assert (status, "model 'roses' has no history; names that have one: toy" in err) == (2, True)


def test_what_is_shown_of_a_model_answers_where_it_comes_from_and_what_was_found(three, capsys):
    verdicts.keep(three[1], given(promoted=False))
    store.promote(three[1], reason="it knows tulips", because="it knows tulips")
    shown = command(capsys, "models", "show", "toy@v2")[1]
    for words in ("0" * 64, "toy@v2  (champion)", "run          v2", "commit       unknown", "Prefect run  not kept"):
        assert words in shown
    assert re.search(r"verdict      refused at \S+ \S+ UTC: Kept toy@v1: 3 points worse\.", shown)
    assert re.search(r"promote by \S+@\S+: it knows tulips", shown)
    assert "settings     all by default" in shown
    told = json.loads(command(capsys, "models", "show", "toy", "--json")[1])
    assert (told["model"], told["roles"], told["name"]) == ("toy@v2", ["champion"], "toy")
    assert told["verdicts"][0]["verdict"]["reason"] == "Kept toy@v1: 3 points worse."
    assert told["history"][0]["because"] == "it knows tulips"
    assert "verdict      none" in command(capsys, "models", "show", "toy@v1")[1]


def test_the_settings_that_differ_are_shown_as_they_are_typed():
    from flows.cli import showing
    from flows.settings.overrides import experiment

    typed = ["--model.kind", "vit", "--train.epochs", "7", "--dataset.source", "my flowers", "--augment.flip", "false"]
    card = store_card(experiment=experiment(typed).model_dump(mode="json"))
    assert sorted(showing.chosen(card)) == [
        "--augment.flip false",
        "--dataset.source 'my flowers'",
        "--model.kind vit",
        "--train.epochs 7",
    ]
    assert showing.chosen(store_card(experiment={"from": "another time"})) == [
        "of another version of trainserve; --json has them as they were written"
    ]


def store_card(**changes: object):
    from models.records import ModelCard

    golden = Path(__file__).parents[1] / "golden/bundle-v1/card.json"
    return ModelCard.model_validate_json(golden.read_bytes()).model_copy(update=changes)


OLD = {
    "format": 1,
    "champion": "v1",
    "challenger": None,
    "previous": None,
    "trial": None,
    "history": [
        {
            "when": "2026-11-20T03:00:00.000000+00:00",
            "what": "promote",
            "version": "v1",
            "replaced": None,
            "reason": "x",
        }
    ],
}


def test_a_file_of_before_is_read_and_is_written_in_the_new_form(three, home):
    file = home / "trainserve/aliases/toy.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(OLD))
    assert store.aliases("toy").champion == three[0]
    store.promote(three[1], reason="")
    written = json.loads(file.read_text())
    assert written["format"] == aliases.FORMAT
    assert written["history"][0] == OLD["history"][0] | {"by": None, "because": None, "verdict": None, "relation": None}
    assert store.rollback("toy", reason="", to="v1") == three[0]


@pytest.mark.usefixtures("three")
def test_a_file_of_later_is_told_as_that(home):
    file = home / "trainserve/aliases/toy.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(OLD | {"format": 3, "regions": {}}))
    with pytest.raises(StoreError, match="is of a newer version; upgrade trainserve"):
        store.aliases("toy")


@pytest.mark.slow
def test_retention_takes_verdicts_with_the_version_and_never_one_that_has_a_role_or_is_tried(three, home, tmp_path):
    fourth = store.save(toy.bundle(tmp_path / "v4", version="v4"))
    for ref in (*three, fourth):
        verdicts.keep(ref, given(promoted=True))
    store.promote(three[0], reason="")
    store.promote(three[1], reason="")
    challengers.try_out(three[2], share=0.5, shadow=True, reason="")
    challengers.challenge(fourth, reason="")  # v3 is still on trial, and no challenger any more
    assert [one.held for one in growth.things(home) if one.kind == "model"] == [
        "it is the previous",
        "it is the champion",
        "it is the one on trial",
        "it is the challenger",
    ]
    for ref in (*three, fourth):
        tidying.remove_version(ref)
    assert len(store.listing()) == 4
    challengers.withdraw(three[2], reason="")
    everything = plan(datetime.now(UTC) + timedelta(days=999), Keep(versions=0), things=growth.things(home), runs=[])
    tidying.carry_out(home, everything, None)
    assert [str(one.ref) for one in store.listing()] == ["toy@v1", "toy@v2", "toy@v4"]
    assert verdicts.given(three[2]) == ()
    assert len(verdicts.given(three[0])) == 1


@pytest.mark.parametrize(
    "given_a_role",
    [store.promote, challengers.challenge, partial(challengers.try_out, share=0.5, shadow=False)],
    ids=["champion", "challenger", "trial"],
)
def test_nobody_is_given_a_role_while_his_version_is_deleted(three, given_a_role):
    """Either the role comes first and the version stays, or it is found that there is none."""
    before = store.promote(three[1], reason="")
    with ThreadPoolExecutor(1) as pool:
        with roles.still("toy") as held:
            assert not held.holds(three[0])
            role = pool.submit(given_a_role, three[0], reason="")
            assert not wait([role], timeout=0.2).done  # it waits
            tidying.remove(store.home() / "models/toy/v1", by_way_of=store.home())
        with pytest.raises(StoreError, match="is not in the store"):
            role.result(60)
    assert store.aliases("toy") == before


@pytest.mark.slow
def test_with_signers_named_what_they_did_not_sign_is_not_put_into_service(three, tmp_path, monkeypatch, capsys):
    from models.bundle import manifest, signature

    line = signature.new_key(tmp_path / "key", "nightly")
    (tmp_path / "signers").write_text(line + "\n")
    monkeypatch.setenv("TRAINSERVE_SIGNERS", str(tmp_path / "signers"))
    status, _, err = command(capsys, "models", "promote", "toy@v1", "--because", "x")
    assert (status, "it is not signed" in err) == (2, True)
    with pytest.raises(BundleError):
        store.verify(three[0], signers=signature.load_signers(tmp_path / "signers"))
    signature.sign(store.path(three[0]) / manifest.NAME, tmp_path / "key")
    assert command(capsys, "models", "promote", "toy@v1", "--because", "x")[0] == 0
