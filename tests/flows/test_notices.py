"""Who is told of a failure, a refusal, a promotion: by Prefect's own blocks, to sinks on this machine."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from deployed import Deployed
from lamps import SMALL, Command, environment, wait_for
from servers import PrefectServer
from sinks import MailSink, WebSink

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(400)]

SECRET = "hush-4711"
BLOCKS = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
web, mail, secret = sys.argv[1:]
SlackWebhook(url=f"json://127.0.0.1:{web}/team/{secret}").save("team")
SlackWebhook(url=f"mailto://127.0.0.1:{mail}?from=night@example.com&to=ops@example.com&mode=insecure").save("mail")
CustomWebhookNotificationBlock(
    name="own", url=f"http://127.0.0.1:{web}/own", json_data={"title": "{{subject}}", "text": "{{body}}"}
).save("own")
Webhook(url=f"http://127.0.0.1:{web}/plain").save("plain")
Secret(value="x").save("mute")
"""
GOOD = [*SMALL, "--train.epochs", "8", "--train.batch_size", "8", "--release.confidence", "0.51"]
NOTIFY = ["slack-webhook/team", "slack-webhook/mail", "custom-webhook/own", "webhook/plain"]


@dataclass(frozen=True)
class Night:
    """A deployment, and where its messages arrive."""

    deployed: Deployed
    web: WebSink
    mail: MailSink

    def team(self) -> list[tuple[str, str]]:
        return [(body["title"], body["message"]) for body in self.web.to(f"/team/{SECRET}")]

    def own(self) -> list[tuple[str, str]]:
        return [(body["title"], body["text"]) for body in self.web.to("/own")]


@pytest.fixture(scope="module")
def night(quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    home = tmp_path_factory.mktemp("notices")
    with WebSink() as web, MailSink() as mail:
        command = [sys.executable, "-c", BLOCKS, str(web.port), str(mail.port), SECRET]
        made = subprocess.run(
            command,
            env=environment(home, PREFECT_API_URL=quick_server.api),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        told = [word for block in NOTIFY for word in ("--notify", block)]
        soon_missed = {"PREFECT_WORKER_HEARTBEAT_SECONDS": "20"}  # and no sooner than `MISSED_S` after it has begun
        with Deployed(home, quick_server.api, "--dataset.source", pictures, *GOOD, *told, **soon_missed) as deployed:
            yield Night(deployed, web, mail)


def test_a_run_that_fails_is_told_of_with_its_reason(night: Night):
    server = night.deployed.server
    run = server.begin("train-by-hand", changes=["dataset.source=/nowhere"])
    server.wait_until(run, "Failed")
    arrived = (night.team, night.own, lambda: night.mail.mails, lambda: night.web.to("/plain"))
    wait_for(lambda: all(len(there()) == 1 for there in arrived), timeout_s=20)
    name = server.get(f"flow_runs/{run}")["name"]
    for subject, body in (*night.team(), *night.own(), *night.mail.mails):
        assert subject == f"{name}: Failed"
        assert "/nowhere" in body
    (subject, body), *_ = night.own()
    assert f"/runs/flow-run/{run}" in body
    (plain,) = night.web.to("/plain")
    assert plain.startswith(f"{name}: Failed\n")


def test_a_promotion_and_a_refusal_are_told_of_and_nothing_else_is(night: Night):
    server = night.deployed.server
    first = server.begin("train-by-hand", reason="the first one")
    server.wait_until(first, "Completed")
    wait_for(lambda: len(night.team()) == len(night.mail.mails) == 2, timeout_s=20)
    (folder,) = night.deployed.runs_at.glob("[0-9]*")
    subject, body = night.team()[-1]
    assert subject == f"lamps@{folder.name} is in service as lamps"
    assert '"reason": "the first one"' in (folder / "run.json").read_text()
    assert night.mail.mails[-1][0] == subject
    assert body in (folder / "verdict.json").read_text()

    worse = server.begin("train-by-hand", changes=["optimizer.lr=1e-9", "train.ema=none", "train.epochs=1"])
    server.wait_until(worse, "Completed")
    wait_for(lambda: len(night.team()) == len(night.mail.mails) == 3, timeout_s=20)
    subject, body = night.team()[-1]
    assert subject.endswith("was not promoted")
    assert "lamps@" in body
    assert len(night.own()) == len(night.web.to("/plain")) == 3  # each once


def test_the_links_lead_from_a_run_to_the_one_that_it_was_compared_with(night: Night):
    server = night.deployed.server
    links = server.post("artifacts/filter", artifacts={"key": {"any_": ["links"]}}, sort="UPDATED_DESC")
    assert len(links) == 2
    assert "report.html" in links[0]["data"]
    assert "/flow-run/" in links[0]["data"]


def test_the_address_of_a_block_is_in_no_log_and_no_artifact(night: Night, quick_server: PrefectServer):
    said = [night.deployed.said(), (quick_server.home / "server.log").read_text()]
    said += [
        file.read_text(errors="replace") for file in night.deployed.home.rglob("*") if file.suffix in {".log", ".json"}
    ]
    said += [str(night.deployed.server.post(f"{kind}/filter")) for kind in ("artifacts", "logs", "flow_runs")]
    assert not [text for text in said if SECRET in text]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("slack-webhook/nobody", "those that can send: custom-webhook/own, slack-webhook/mail"),
        ("team", "names no block of this server"),
        ("secret/mute", "is a block that cannot send"),
    ],
)
def test_a_block_that_cannot_be_told_is_refused(night: Night, tmp_path: Path, block: str, says: str):
    done = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=night.deployed.server.api))(
        "deploy", "--notify", block
    )
    assert done.returncode == 2
    assert says in done.stderr


def test_a_worker_that_is_gone_is_told_of_by_the_server_itself(night: Night):
    night.deployed.stop()
    missed = "nobody fetches the runs of trainserve"
    wait_for(lambda: all(missed in dict(there()) for there in (night.team, night.own)), timeout_s=180)
    assert "until `trainserve deploy` runs again" in night.own()[-1][1]
    night.deployed.start()


def test_without_notify_nobody_is_told_any_more(night: Night):
    night.deployed.stop()
    night.deployed.tokens = night.deployed.tokens[: -2 * len(NOTIFY)]
    night.deployed.start()
    assert not [name for name in night.deployed.server.automations() if name.endswith("are told")]
    assert httpx.get(f"{night.deployed.server.api}/health").is_success
