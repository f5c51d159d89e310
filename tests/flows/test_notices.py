"""Who is told of a failure, a refusal, a promotion: by Prefect's own blocks, to sinks on this machine."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployed import Deployed
from lamps import SMALL, Command, environment, wait_for
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from servers import PrefectServer
from sinks import MailSink, WebSink

from data.errors import InputError
from flows.deploy import notices
from flows.events import PROMOTED, REFUSED

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]

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
    began: float

    def team(self) -> list[tuple[str, str]]:
        return [(body["title"], body["message"]) for body in self.web.to(f"/team/{SECRET}")]

    def own(self) -> list[tuple[str, str]]:
        return [(body["title"], body["text"]) for body in self.web.to("/own")]

    def plain(self) -> list[tuple[str, str]]:
        """What is sent there has no subject of its own: the first line."""
        return [(text.partition("\n")[0], text.partition("\n")[2]) for text in self.web.to("/plain")]

    def told(self, known: Callable[[str], bool]) -> list[str]:
        """The texts of the message whose subject is known by this, once it has come to all. Prefect sends it again
        where its SQLite was taken while it noted that it had."""

        def come() -> list[list[str]]:
            everybody = (self.team(), self.own(), self.mail.mails, self.plain())
            return [[text for subject, text in messages if known(subject)] for messages in everybody]

        wait_for(lambda: all(come()), timeout_s=180)
        assert [len(set(texts)) for texts in come()] == [1, 1, 1, 1]
        return [text for text, *_ in come()]


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
            timeout=300,
        )
        assert made.returncode == 0, made.stderr
        told = [word for block in NOTIFY for word in ("--notify", block)]
        soon_missed = {"PREFECT_WORKER_HEARTBEAT_SECONDS": "5"}
        with Deployed(home, quick_server.api, "--dataset.source", pictures, *GOOD, *told, **soon_missed) as deployed:
            yield Night(deployed, web, mail, began=time.monotonic())


def test_a_run_that_fails_is_told_of_with_its_reason(night: Night):
    server = night.deployed.server
    run = server.begin("train-by-hand", changes=["dataset.source=/nowhere"])
    server.wait_until(run, "Failed", timeout_s=300)
    name = server.get(f"flow_runs/{run}")["name"]
    texts = night.told(lambda subject: subject == f"{name}: Failed")
    assert all("/nowhere" in text for text in texts)
    assert all(f"/runs/flow-run/{run}" in text for text in texts)


def test_a_promotion_and_a_refusal_are_told_of_and_the_links_lead_from_one_run_to_the_other(night: Night):
    server = night.deployed.server
    first = server.begin("train-by-hand", reason="the first one")
    server.wait_until(first, "Completed", timeout_s=300)
    (folder,) = night.deployed.runs_at.glob("[0-9]*")
    text, *_ = night.told(lambda subject: subject == f"lamps@{folder.name} is in service as lamps")
    assert '"reason": "the first one"' in (folder / "run.json").read_text()
    assert text in (folder / "verdict.json").read_text()

    worse = server.begin("train-by-hand", changes=["optimizer.lr=1e-9", "train.ema=none", "train.epochs=1"])
    server.wait_until(worse, "Completed", timeout_s=300)
    assert all("lamps@" in text for text in night.told(lambda subject: subject.endswith("was not promoted")))

    chosen = {"flow_runs": {"id": {"any_": [worse]}}, "artifacts": {"key": {"any_": ["links"]}}}
    links = server.post("artifacts/filter", **chosen, sort="UPDATED_DESC")
    assert "report.html" in links[0]["data"]
    assert f"/flow-run/{first}" in links[0]["data"]


def test_what_went_well_is_no_news_and_everything_happens_once(night: Night):
    subjects = {subject for subject, _ in night.own()}
    for end in (": Failed", " is in service as lamps", " was not promoted"):
        assert sum(subject.endswith(end) for subject in subjects) == 1
    assert not [subject for subject in subjects if "Completed" in subject]
    for event in ("prefect.flow-run.Failed", PROMOTED, REFUSED):
        happened = {"event": {"name": [event]}, "occurred": {"since": "2020-01-01T00:00:00Z"}}
        assert night.deployed.server.post("events/filter", filter=happened, limit=50)["total"] == 1


def test_the_address_of_a_block_is_in_no_log_and_no_artifact(night: Night, quick_server: PrefectServer):
    said = [night.deployed.said(), (quick_server.home / "server.log").read_text(errors="replace")]
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
def test_a_block_that_cannot_be_told_is_refused(night: Night, block: str, says: str):
    chosen = temporary_settings({PREFECT_API_URL: night.deployed.server.api})
    with chosen, get_client(sync_client=True) as client, pytest.raises(InputError) as refused:
        notices.receiver(client, block)
    assert says in str(refused.value)


def test_such_a_block_ends_the_command_before_it_registers_anything(night: Night, tmp_path: Path):
    def versions() -> dict[str, str]:
        return {name: one["version"] for name, one in night.deployed.server.deployments().items()}

    before = versions()
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=night.deployed.server.api))
    done = command("deploy", "--notify", "slack-webhook/nobody")
    assert done.returncode == 2
    assert "'slack-webhook/nobody' names no block" in done.stderr.strip().splitlines()[-1]
    assert versions() == before


def test_a_worker_that_is_gone_is_told_of_by_the_server_itself(night: Night):
    time.sleep(max(0.0, night.began + notices.MISSED_S - time.monotonic()))  # a sooner silence is not seen
    night.deployed.stop()
    missed = "nobody fetches the runs of trainserve"
    wait_for(lambda: all(missed in dict(there()) for there in (night.team, night.own)), timeout_s=400)
    assert "until `trainserve deploy` runs again" in dict(night.own())[missed]


def test_without_notify_nobody_is_told_any_more(night: Night):
    night.deployed.stop()
    night.deployed.tokens = night.deployed.tokens[: -2 * len(NOTIFY)]
    night.deployed.start()
    assert not [name for name in night.deployed.server.automations() if name.endswith("told")]
