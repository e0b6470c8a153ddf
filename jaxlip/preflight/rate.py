"""Whether the learning rate is one at which the loss falls: on request, since it takes a short training."""

import pathlib

from jaxlip.engine.lr_range import lr_range
from jaxlip.preflight.check import Check, passed, warned
from jaxlip.preflight.probe import Probe
from jaxlip.report.plots import plot_rates

USUAL = 10.0
"""A usual rate is so many times lower than that at which the loss of the short training is lowest."""
TIMID = 30.0
"""How many times lower than the usual one a rate is called low."""


def check_rate(probe: Probe, picture: pathlib.Path) -> Check:
    """Draws the loss over the rate to `picture`."""
    rate = probe.experiment.optim.lr
    found = lr_range(probe.experiment, probe.corpus)
    plot_rates(found.rates_S, found.losses_S, found.smooth_S, rate, picture)
    ends = "" if found.rates_S[-1] > 0.5 else f", and diverges at {found.rates_S[-1]:.1e}"
    saw = f"the loss falls fastest at a rate of {found.steepest:.1e}, is lowest at {found.lowest:.1e}{ends}"
    saw += f"; optim.lr is {rate:g} ({picture})"
    usual = found.lowest / USUAL
    if rate > found.lowest:
        return warned("rate.range", saw, f"too high: try --optim.lr {usual:.1g}")
    if rate * TIMID < usual:
        return warned("rate.range", saw, f"low: try --optim.lr {usual:.1g}")
    return passed("rate.range", saw)
