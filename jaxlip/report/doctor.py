"""All rules about a run in one table: what is wrong with it, the evidence, and what to try next."""

from collections.abc import Callable, Iterable

from jaxlip.report.doctor_curves import CURVE_RULES
from jaxlip.report.doctor_scores import SCORE_RULES
from jaxlip.report.finding import Finding, worst_first
from jaxlip.report.record import Record

Rule = Callable[[Record], Iterable[Finding]]

RULES: tuple[Rule, ...] = (*CURVE_RULES, *SCORE_RULES)


def diagnose(record: Record) -> list[Finding]:
    """What is wrong, worst first; nothing for a healthy run."""
    return worst_first(finding for rule in RULES for finding in rule(record))


def preflight_findings(record: Record) -> list[Finding]:
    """What preflight had against the run before it began, as it was saved with its config."""
    severities = {"fail": "bad", "warn": "warn"}
    return worst_first(
        Finding(
            kind=check["name"],
            severity=severities[check["verdict"]],
            text=f"{check['name']}: {check['saw']}; {check['advice']}",
        )
        for check in record.checks
        if check["verdict"] in severities
    )
