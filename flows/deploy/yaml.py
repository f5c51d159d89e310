"""`prefect.yaml`, for `prefect deploy` and pools of one's own: from the same definitions as `trainserve deploy`.

Write it anew with `python -m flows.deploy.yaml`; a test says when that is due.
"""

import sys
from typing import Any

import yaml

from flows.deploy.definitions import POOL, ROOT, Definition, definitions
from models.config import Experiment

FILE = ROOT / "prefect.yaml"

HEAD = """\
# Written by `python -m flows.deploy.yaml` from flows/deploy/definitions.py: change that one, not this one.
#
# `trainserve deploy` registers these deployments by itself, with the settings that it is given. This file is for those
# who keep their own pools and workers: `prefect deploy --all` from this folder. Another kind of pool takes the job
# variables `docker` or `kubernetes` below in place of `process`; a pool of Kubernetes has to be told about volumes and
# GPUs first (docs/operations.md).
"""

# How each kind of pool starts a run. The image has this package installed, so nothing has to be pulled, and says itself
# that runs are kept in /work and models in /models.
PROCESS: dict[str, Any] = {
    "command": "python -m flows.deploy.engine",
    "working_dir": "{{ $PWD }}",
    "stream_output": False,
}
DOCKER: dict[str, Any] = {
    "command": "python -m flows.deploy.engine",
    "image": "trainserve-train:latest",
    "image_pull_policy": "Never",
    "volumes": ["trainserve-work:/work", "trainserve-models:/models"],
    "container_create_kwargs": {"device_requests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]},
}
# The last three are not among the variables of a Kubernetes pool as Prefect makes it, which would ignore them.
KUBERNETES: dict[str, Any] = {
    "command": "python -m flows.deploy.engine",
    "image": "trainserve-train:latest",
    "volumes": [
        {"name": "work", "persistentVolumeClaim": {"claimName": "trainserve-work"}},
        {"name": "models", "persistentVolumeClaim": {"claimName": "trainserve-models"}},
    ],
    "volume_mounts": [{"name": "work", "mountPath": "/work"}, {"name": "models", "mountPath": "/models"}],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
}


class _Dumper(yaml.SafeDumper):
    """Names what is written once and meant in several places by what it is."""

    def generate_anchor(self, node: yaml.Node) -> str:
        first = node.value[0][0].value if isinstance(node, yaml.MappingNode) and node.value else ""
        return {"name": "experiment", "command": "process"}.get(first) or super().generate_anchor(node)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's name
        super().increase_indent(flow, indentless=False)


def text() -> str:
    """The whole file, for the defaults of `Experiment`."""
    wanted = definitions(Experiment())
    tree = {
        "name": POOL,
        "pull": [],
        "definitions": {"process": PROCESS, "docker": DOCKER, "kubernetes": KUBERNETES},
        "deployments": [_deployment(one) for one in wanted],
    }
    body = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return HEAD + body


def _deployment(one: Definition) -> dict[str, Any]:
    schedules = [] if one.cron is None else [{"cron": one.cron, "timezone": one.timezone, "active": True}]
    return {
        "name": one.name,
        "description": one.description,
        "entrypoint": one.flow,
        "enforce_parameter_schema": True,
        "tags": list(one.tags),
        "parameters": one.parameters,
        "work_pool": {"name": POOL, "work_queue_name": one.queue, "job_variables": PROCESS},
        "schedules": schedules,
        "triggers": one.triggers,
    }


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
