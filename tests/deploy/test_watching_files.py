"""The board and the alerts speak only of metrics that there are, in expressions that can be read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from messaging.relay.doctor_report import DOCTOR_METRICS
from messaging.relay.metrics_server import metric_names

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD, ALERTS = DEPLOY / "grafana" / "subrosa.json", DEPLOY / "prometheus" / "alerts.yml"
BUILT_IN = {"up"}
FUNCTIONS = {
    *("rate", "increase", "delta", "sum", "max", "min", "avg", "count", "topk", "histogram_quantile", "time"),
    *("by", "on", "without", "group_left", "or", "and", "unless"),
}
_STRINGS, _LABELS, _RANGES = re.compile(r'"[^"]*"'), re.compile(r"\{[^}]*\}"), re.compile(r"\[[^\]]*\]")
_GROUPINGS = re.compile(r"\b(?:by|on|without|group_left)\s*\([^)]*\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression of Prometheus names.

    Raises:
        ValueError: brackets that do not match, or a word that is neither a function nor a metric.
    """
    bare = _STRINGS.sub('""', expression)
    for one, other in ("()", "[]", "{}"):
        if bare.count(one) != bare.count(other):
            raise ValueError("brackets that do not match")
    for part in (_LABELS, _RANGES, _GROUPINGS):
        bare = part.sub(" ", bare)
    names = {name for name in _NAME.findall(bare) if name not in FUNCTIONS}
    if unknown := {name for name in names if name not in BUILT_IN and not name.startswith("subrosa_")}:
        raise ValueError(f"neither a function nor a metric: {sorted(unknown)}")
    return names - BUILT_IN


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def board_expressions() -> list[str]:
    panels = json.loads(BOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_metrics_are_found_in_an_expression() -> None:
    expression = 'sum by (le) (rate(subrosa_a_bucket{status="5xx"}[5m])) / subrosa_b > 0.1 or up{job="subrosa"} == 0'
    assert metrics_in(expression) == {"subrosa_a_bucket", "subrosa_b"}


@pytest.mark.parametrize("expression", ["sum(rate(subrosa_a[5m])", "smu(subrosa_a)", "process_cpu_seconds > 1"])
def test_what_cannot_be_read_is_noticed(expression: str) -> None:
    with pytest.raises(ValueError, match=r"brackets|neither"):
        metrics_in(expression)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_speaks_of_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert metrics_in(rule["expr"]) <= metric_names() | DOCTOR_METRICS
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("expression", board_expressions())
def test_the_board_speaks_of_metrics_that_there_are(expression: str) -> None:
    assert metrics_in(expression.replace("$__rate_interval", "5m")) <= metric_names()


def test_panels_of_the_board_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_every_failure_that_is_counted_is_on_the_board_or_an_alert() -> None:
    used = set().union(*(metrics_in(text.replace("$__rate_interval", "5m")) for text in board_expressions()))
    used |= set().union(*(metrics_in(rule["expr"]) for rule in rules()))
    assert {name for name in metric_names() if name.endswith("_failures_total")} <= used
