"""Every rule about a TensorRT release: a graph that breaks it, and a near miss."""

from __future__ import annotations

import pytest

from sr_edge.export.checks.findings import Finding, Severity
from sr_edge.export.checks.rules import RULES, check_graph
from sr_edge.export.checks.targets import TARGET_NAMES, TargetLibrary
from sr_edge.export.checks.tensorrt_releases import TENSORRT_RELEASES
from tests.export.checks.cases import BUILT_EVERYWHERE, RTX_CASES, TENSORRT_CASES, Case, graph, two_sums

RELEASES = [release.name for release in TENSORRT_RELEASES]
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]

cases = pytest.mark.parametrize("case", TENSORRT_CASES, ids=lambda case: case.name)


def errors(findings: tuple[Finding, ...], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR and finding.rule == rule]


@cases
def test_a_graph_that_breaks_a_rule_is_refused_by_the_releases_that_the_rule_is_about(case: Case) -> None:
    newest = case.newest_refusing or NEWEST
    refusing = RELEASES[: RELEASES.index(newest) + 1] + (["tensorrt-rtx"] if case.rtx else [])
    broken = [finding for finding in check_graph(case.bad_graph, static=False) if finding.rule == case.rule]
    assert {finding.op for finding in broken} >= {case.op}
    assert all(finding.node and finding.why and finding.remedy for finding in broken)
    assert {name for finding in broken for name in finding.targets} == set(refusing)
    for name in (*RELEASES, "tensorrt-rtx"):
        assert bool(errors(check_graph(case.bad_graph, [name], static=False), case.rule)) == (name in refusing), name


@cases
def test_a_near_miss_is_refused_by_nobody_who_refuses_the_other(case: Case) -> None:
    if case.bad_graph == case.good_graph:
        pytest.skip("the opset is the difference")
    assert [finding for finding in check_graph(case.good_graph, static=False) if finding.rule == case.rule] == []


@pytest.mark.parametrize("case", RTX_CASES, ids=lambda case: case.name)
def test_what_tensorrt_for_rtx_lacks_is_an_error_for_it_alone(case: Case) -> None:
    assert errors(check_graph(case.bad_graph, ["tensorrt-rtx"], static=False), case.rule)
    assert not errors(check_graph(case.bad_graph, [NEWEST], static=False), case.rule)


@pytest.mark.parametrize("text", BUILT_EVERYWHERE)
def test_what_compilers_take_is_a_warning_for_every_target(text: str) -> None:
    findings = check_graph(graph(text), TARGET_NAMES)
    assert findings
    assert {finding.severity for finding in findings} == {Severity.WARNING}


def test_cumulative_sums_of_one_kind_are_right_and_of_several_wrong_since_10_8() -> None:
    rule = "differing cumulative sums"
    for alike in (two_sums("1|0", "-1|0"), two_sums("0|1", "0|1")):
        assert errors(check_graph(graph(alike), TARGET_NAMES), rule) == []
    for different in (two_sums("0|0", "1|0"), two_sums("1|0", "1|1")):
        assert len(errors(check_graph(graph(different), [NEWEST]), rule)) == 2
        assert errors(check_graph(graph(different), [OLDEST]), rule) == []


def test_a_plugin_of_another_domain_is_named() -> None:
    model = graph("(float[2] a) => (float[2] y) { y = com.example.Relu(a) }")
    named = {name for finding in check_graph(model) if "com.example" in finding.why for name in finding.targets}
    assert named == set(TARGET_NAMES)


def test_every_rule_about_tensorrt_has_a_case() -> None:
    tried = {case.rule for case in (*TENSORRT_CASES, *RTX_CASES)} | {"differing cumulative sums", "float64"}
    about = {rule.name for rule in RULES if {TargetLibrary.TENSORRT, TargetLibrary.TENSORRT_RTX} & set(rule.severities)}
    assert about <= tried
