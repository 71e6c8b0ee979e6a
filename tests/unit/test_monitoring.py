"""Dashboards and alerts under deploy/ ask for series that a worker serves, and each alert has a runbook entry."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.monitoring.files import generated
from scripts.monitoring.promtool import find
from support.promql import SERVED, TARGET, names_in, plain

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
PAGE = (ROOT / "docs" / "observability.md").read_text()
needs_promtool = pytest.mark.skipif(
    find("promtool") is None,
    reason="there is no promtool; put it on PATH, or run: python -m scripts.monitoring.promtool",
)


def rules() -> list[dict[str, Any]]:
    """The rules of all groups, in their order."""
    loaded = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*arguments: str | Path) -> str:
    """Run promtool; gives its output if it succeeds."""
    program = find("promtool")
    assert program is not None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, also those in collapsed rows; rows as well."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """Every query of a dashboard: of panels, annotations and variables."""
    for panel in panels_of(dashboard):
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in dashboard["annotations"]["list"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]


def known(*records: str) -> dict[str, set[str]]:
    """The series that an expression may use, each with its labels."""
    return {name: labels | TARGET for name, labels in SERVED.items()} | {
        name: {"job", "consumer_group"} for name in records
    }


def check_names(expr: str, series: dict[str, set[str]]) -> None:
    """Check that metrics and labels of an expression exist."""
    metrics, grouping = names_in(expr)
    assert metrics, expr
    for name, labels in metrics.items():
        assert name in series, f"{name} in {expr}"
        assert labels <= series[name], f"{labels - series[name]} of {name} in {expr}"
    everywhere = set().union(*(series[name] for name in metrics))
    assert grouping <= everywhere, f"{grouping - everywhere} in {expr}"


def test_generated_files_are_up_to_date() -> None:
    """Otherwise run: python -m scripts.monitoring."""
    for name, text in generated(ROOT).items():
        assert (ROOT / name).read_text() == text, f"{name}: run python -m scripts.monitoring"
    assert {path.relative_to(ROOT).as_posix() for path in DASHBOARDS} <= generated(ROOT).keys()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_asks_for_series_and_labels_that_a_worker_serves(file: Path) -> None:
    """In panels, annotations and variables; a legend names labels that the query keeps."""
    dashboard = json.loads(file.read_text())
    for expr in expressions(dashboard):
        check_names(expr, known())
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= names_in(target["expr"]).grouping, target


def test_the_overview_and_the_worker_show_every_metric() -> None:
    """A metric that no panel shows is one that is missed when it matters."""
    shown = {
        name
        for file in DASHBOARDS
        for expr in expressions(json.loads(file.read_text()))
        for name in names_in(expr).metrics
    }
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    wanted = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERVED if name.startswith("drakkar_")}
    assert wanted - families == set()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_panel_has_a_unit_and_says_what_a_healthy_value_is(file: Path) -> None:
    """Rows apart."""
    for panel in panels_of(json.loads(file.read_text())):
        if panel["type"] != "row":
            assert "Healthy: " in panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["targets"], panel["title"]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_well_formed(file: Path) -> None:
    """Ids differ, panels lie within 24 columns and do not overlap, each query goes to the chosen data source."""
    dashboard = json.loads(file.read_text())
    assert dashboard["uid"] == file.stem
    panels = list(panels_of(dashboard))
    assert len({panel["id"] for panel in panels}) == len(panels)
    for group in (dashboard["panels"], *(panel["panels"] for panel in panels if panel.get("panels"))):
        cells = [panel["gridPos"] for panel in group]
        assert all(cell["x"] >= 0 and cell["x"] + cell["w"] <= 24 for cell in cells)
        for one, other in combinations(cells, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above, (one, other)
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables == ["datasource", "job", "group", "worker", "instance"]
    for panel in panels:
        for target in panel.get("targets", ()):
            assert target["datasource"] == chosen
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*variables, "__rate_interval"}


@needs_promtool
def test_promtool_takes_every_query_of_the_dashboards(tmp_path: Path) -> None:
    """As a recording rule, with values in place of Grafana's variables."""
    found = [plain(expr) for file in DASHBOARDS for expr in expressions(json.loads(file.read_text()))]
    named = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(found)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": named}]}))
    assert f"SUCCESS: {len(found)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_and_labels_that_a_worker_serves(rule: dict[str, Any]) -> None:
    """Or for those that another rule records; texts name labels of the alert."""
    records = [each["record"] for each in rules() if "record" in each]
    check_names(rule["expr"], known(*records))
    texts = " ".join(rule.get("annotations", {}).values())
    labels = set().union(*(known(*records)[name] for name in names_in(rule["expr"]).metrics))
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


@pytest.mark.parametrize("name", alerts())
def test_an_alert_waits_and_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    """`for`, a severity, a summary and a description that name the group or the worker, and its runbook entry."""
    alert = alerts()[name]
    assert re.fullmatch(r"\d+m", alert["for"])
    assert alert["labels"]["severity"] in {"critical", "warning"}
    texts = alert["annotations"]
    assert "$labels." in texts["summary"]
    assert "$labels.consumer_group" in texts["description"]
    assert texts["runbook_url"].endswith(f"/observability.md#{name.lower()}")


def test_each_alert_has_a_runbook_entry_and_each_entry_an_alert() -> None:
    """With meaning, cause and action, in the order of the rules."""
    runbook = PAGE.partition("\n## Runbook\n")[2].partition("\n## ")[0]
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", runbook, re.MULTILINE | re.DOTALL))
    assert list(entries) == list(alerts())
    for title, text in entries.items():
        for part in ("**Means:**", "**See:**", "**Do:**"):
            assert part in text, title


def test_each_alert_is_tested_with_series_that_fire_it_and_series_that_do_not() -> None:
    """In the format of promtool test rules."""
    expected: dict[str, set[bool]] = {}
    for file in (PROMETHEUS / "tests").glob("*.yaml"):
        for case in yaml.safe_load(file.read_text())["tests"]:
            for each in case["alert_rule_test"]:
                expected.setdefault(each["alertname"], set()).add(bool(each.get("exp_alerts")))
    assert expected == {name: {True, False} for name in alerts()}


@needs_promtool
def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    """Each alert fires for its series, with its labels and texts, and for no others."""
    assert "SUCCESS" in promtool("check", "rules", PROMETHEUS / "alerts.yaml")
    for file in (PROMETHEUS / "tests").glob("*.yaml"):
        promtool("test", "rules", file)


@needs_promtool
def test_promtool_takes_the_scrape_example(tmp_path: Path) -> None:
    """With the files that it names."""
    promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_the_prometheus_operator_gets_the_same_alerts() -> None:
    """As a PrometheusRule, and a PodMonitor that selects the pods and the port of kubernetes.yaml."""
    found = {
        each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy" / "kubernetes-monitoring.yaml").read_text())
    }
    assert found["PrometheusRule"]["spec"] == yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    deployment = {each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())}[
        "Deployment"
    ]
    pod = deployment["spec"]["template"]
    (expression,) = found["PodMonitor"]["spec"]["selector"]["matchExpressions"]
    assert pod["metadata"]["labels"][expression["key"]] in expression["values"]
    (endpoint,) = found["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}


def test_the_provisioning_of_grafana_names_its_files() -> None:
    """A data source of type prometheus, and the directory of the dashboards."""
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    providers = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "drakkar-flow.yaml").read_text())
    (provider,) = providers["providers"]
    assert provider["type"] == "file"
    assert Path(provider["options"]["path"]).name == (GRAFANA / "dashboards").name
