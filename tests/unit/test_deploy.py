"""The files under deploy/ are valid, and agree with what the worker does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from drakkar_flow import load_config
from drakkar_flow.config.root import DrakkarConfig

DEPLOY = Path(__file__).parents[2] / "deploy"
STOP_S = DrakkarConfig().drain_timeout_s + DrakkarConfig().runtime.close_timeout_s


def manifests() -> dict[str, Any]:
    """The documents of kubernetes.yaml by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def test_the_kubernetes_manifests_are_valid() -> None:
    """Against the API's own schemas, with no unknown field."""
    assert set(manifests()) == {"ConfigMap", "Deployment", "PodDisruptionBudget"}
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_the_manifests_of_a_cluster_are_valid(tmp_path: Path) -> None:
    """The store is on the volume, and each process has a port for its metrics."""
    found = {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes-cluster.yaml").read_text())}
    for manifest in found.values():
        kubernetes_validate.validate(manifest, "1.32", strict=True)
    file = tmp_path / "pipeline.yaml"
    file.write_text(found["ConfigMap"]["data"]["pipeline.yaml"])
    config = load_config(file)
    assert config.notices == ()
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > STOP_S
    (container,) = pod["containers"]
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert config.runtime.recovery is not None
    assert config.runtime.recovery.dir is not None
    assert config.runtime.recovery.dir.parent in mounts
    assert [port["containerPort"] for port in container["ports"]] == list(config.metrics.ports)
    assert container["args"][2:4] == ["-n", str(len(container["ports"]))]


def test_the_configuration_in_the_configmap_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It loads with the variables that the deployment sets, and no key of it is without effect."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    for variable in pod["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], "postgresql://user:word@host/db")
    file = tmp_path / "pipeline.yaml"
    file.write_text(manifests()["ConfigMap"]["data"]["pipeline.yaml"])
    config = load_config(file)
    assert config.notices == ()
    assert pod["terminationGracePeriodSeconds"] > STOP_S
    port = pod["containers"][0]["ports"][0]
    assert (port["name"], port["containerPort"]) == ("metrics", config.metrics.port)


def test_the_probes_ask_for_pages_that_there_are() -> None:
    """By the named port."""
    container = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    pages = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness", "startup")}
    assert pages == {"liveness": "/healthz", "readiness": "/readyz", "startup": "/healthz"}


def test_the_systemd_unit_spares_programs_and_leaves_time_to_drain() -> None:
    """SIGTERM to the worker alone, more time than a stop takes, no restart for a wrong configuration."""
    unit = (DEPLOY / "drakkar-flow.service").read_text()
    assert "KillMode=mixed" in unit
    assert "RestartPreventExitStatus=2" in unit
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > STOP_S


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No unknown key, no bad value; the program need not be installed here."""
    unit = (DEPLOY / "drakkar-flow.service").read_text()
    file = tmp_path / "drakkar-flow.service"
    file.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "drakkar-flow.service" in line]
    assert said == []


def test_the_image_is_pinned_and_has_an_init() -> None:
    """An exact version of the base, and tini as process 1."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.12\.\d+-slim-\w+$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--"]' in text
