"""All checks in order, and what they come to."""

from collections.abc import Callable, Iterable, Iterator

from jaxlip.config import Experiment
from jaxlip.data.batches import Corpus
from jaxlip.errors import UserError
from jaxlip.preflight.capacity import check_capacity
from jaxlip.preflight.check import Check
from jaxlip.preflight.codes import check_codes
from jaxlip.preflight.faces import check_faces
from jaxlip.preflight.inputs import check_inputs
from jaxlip.preflight.labels import check_labels
from jaxlip.preflight.leaks import check_leaks
from jaxlip.preflight.probe import Probe
from jaxlip.preflight.signs import check_signs
from jaxlip.preflight.texts import check_texts
from jaxlip.preflight.use import check_use

CHECKS: tuple[Callable[[Probe], Iterable[Check]], ...] = (
    check_inputs,
    check_faces,
    check_signs,
    check_codes,
    check_labels,
    check_leaks,
    check_texts,
    check_use,
    check_capacity,
)


class PreflightFailed(UserError):
    """The run would be worthless."""


def preflight(experiment: Experiment, corpus: Corpus) -> Iterator[Check]:
    """Every check, as it is done. Nothing that is compiled or allocated here outlives the iterator."""
    probe = Probe(experiment, corpus)
    for check in CHECKS:
        yield from check(probe)


def stop_if_failed(checks: Iterable[Check]) -> None:
    """Raises PreflightFailed naming the checks that failed."""
    if names := [check.name for check in checks if check.verdict == "fail"]:
        raise PreflightFailed(
            f"preflight failed: {', '.join(names)} (lines above); --no-preflight trains all the same."
        )
