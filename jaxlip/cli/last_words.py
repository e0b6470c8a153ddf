"""Reads what a host's C++ libraries write to stderr, and makes one line of how the host's cluster fell apart.

Where another host is gone, JAX ends the process from a thread of its own, with a page of log and no way for Python to
say anything. So this runs beside it, as a process that imports nothing; whatever is not about the cluster is passed on.
"""

import re
import sys
from collections.abc import Iterable, Iterator

LOGGED = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w.]+):\d+\] ")
"""The beginning of a line of log, with its source file."""
ABOUT_HOSTS = ("coordination_service", "coordination_service_agent", "distributed", "client", "service")
SILENT = re.compile(r"unhealthy \(stopped sending heartbeats\):\n((?:.*\d+\n)+)")


def heard(lines: Iterable[str], heartbeat: str) -> Iterator[str]:
    """The lines that are passed on; at the end what became of the cluster, if it fell apart."""
    kept: list[str] = []
    ours = fatal = False
    for line in lines:
        if begins := LOGGED.match(line):
            ours = begins[1].rpartition(".")[0] in ABOUT_HOSTS
            fatal = fatal or (ours and line.startswith("F"))
        if ours or fatal:
            kept.append(line)
        elif not line.startswith("[Gloo] Rank"):
            yield line
    if fatal:
        yield f"jaxlip: {verdict(''.join(kept), heartbeat)}\n"


def verdict(log: str, heartbeat: str) -> str:
    """Who is gone and what to do, from a log."""
    if "RegisterTask" in log:
        return "the hosts did not come together in time; look whether all were started, with the same --coordinator."
    return f"{_gone(log, heartbeat)}; continue with --resume on all hosts."


def _gone(log: str, heartbeat: str) -> str:
    if silent := SILENT.search(log):
        hosts = sorted({int(number) for number in re.findall(r"(\d+)\n", silent[1])})
        named = ", ".join(map(str, hosts))
        are = f"host {named} is" if len(hosts) == 1 else f"hosts {named} are"
        return f"{are} gone (no heartbeat for {heartbeat} s)"
    if re.search(r"Socket closed|failed to connect|UNAVAILABLE|Connection re(set|fused)|heartbeat", log):
        return "host 0, which coordinates, is gone"
    return "another host is gone"


if __name__ == "__main__":
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    for said in heard(sys.stdin, sys.argv[1]):
        sys.stderr.write(said)
        sys.stderr.flush()
