"""Puts load on a proxy, and tells what it cost: wrk, h2load, and the loadtest binary."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from measure.process import fail
from measure.world import HOST


@dataclass
class Sample:
    """What one load found: so many units (requests) in so many seconds, and the proxy's CPU time for them."""

    units: int
    seconds: float
    cpu_seconds: float = 0.0
    p99_ms: float = 0.0
    kib: float = 0.0

    @property
    def cost(self) -> float:
        """Microseconds of CPU time for each unit."""
        return self.cpu_seconds / self.units * 1e6


# With two cores the proxy has one to itself, and the generator and the origin share the other.
PROXY_CORE = ["taskset", "-c", "0"]
GENERATOR_CORE = ["taskset", "-c", "1"]


def wrk(
    url: str, seconds: float, connections: int, clients: list[str], directory: Path, statuses: bool = True
) -> Sample:
    """Sends requests of these clients in turn over kept connections, each after the answer to the one before."""
    script = directory / "wrk.lua"
    (directory / "clients").write_text("\n".join(clients) + "\n")
    path = "/" + url.split("/", 3)[3]
    script.write_text(WRK.replace("CLIENTS", str(directory / "clients")).replace("HOST", HOST).replace("PATH", path))
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--timeout", "5s", "-s", script, url]
    out = run(command, seconds)
    found = re.search(r"^result (\d+) (\d+) (\d+) (\d+)$", out, re.M)
    requests, failed, refused, microseconds = map(int, found.groups())
    if statuses and refused or failed or not requests:
        fail(f"{failed} of {requests} requests failed at {url}, {refused} were refused\n{out}")
    if not statuses and refused != requests:
        fail(f"{requests - refused} of {requests} requests were not refused at {url}")
    return Sample(requests, microseconds / 1e6)


def h2load(
    url: str, seconds: float, clients: list[str], streams: int, fields: list[str], body: Path | None = None
) -> Sample:
    """Sends requests over HTTP/2, `streams` at once on each of 4 connections for each client."""
    started = []
    for client in clients:
        command = ["h2load", "-t", "1", "-c", "4", "-m", str(streams), "-D", f"{max(1, round(seconds))}"]
        command += ["-H", f":authority: {HOST}", "-H", f"X-Forwarded-For: {client}"]
        for field in fields:
            command += ["-H", field]
        command += ["-d", body] if body else []
        started.append(
            subprocess.Popen(
                [*GENERATOR_CORE, *command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    requests, longest = 0, 0.0
    for process in started:
        out = process.communicate(timeout=seconds + 30)[0]
        found = re.search(r"finished in ([\d.]+)(m?s)", out)
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
        if not found or not counts:
            fail(f"h2load {url}: {out}")
        done, succeeded, failed, errored, timeout = map(int, counts.groups())
        if not succeeded or failed or errored or timeout:
            fail(f"{failed} of {done} requests failed at {url}\n{out}")
        requests += succeeded
        longest = max(longest, float(found[1]) / (1000 if found[2] == "ms" else 1))
    return Sample(requests, longest)


def open_loop(loadtest: Path, url: str, seconds: float, rate: float, *options: str) -> Sample:
    """Sends requests at a fixed rate, whatever the answers do; latencies count from the intended time."""
    command = [loadtest, "http", "--url", url, "--host", HOST, "--rate", f"{rate:g}", "--duration", f"{seconds:g}s"]
    out = run([*command, "--format", "json", "--fail-on-error", *options], seconds)
    report = json.loads(out)
    return Sample(report["answered"], report["duration_s"], p99_ms=report["latency_ms"]["p99"])


def run(command: list, seconds: float) -> str:
    result = subprocess.run([*GENERATOR_CORE, *command], capture_output=True, text=True, timeout=seconds + 60)
    if result.returncode != 0:
        fail(f"{Path(command[0]).name}: {result.stdout[-1000:]}{result.stderr[-1000:]}")
    return result.stdout


def cpu_seconds(pids: list[int]) -> float:
    """Returns the CPU time so far of processes, with all their threads, to the nanosecond."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_kib(pids: list[int]) -> int:
    """Returns the memory of processes that is resident and their own, counted page by page."""
    total = 0
    for pid in pids:
        pages = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Anonymous:\s+(\d+) kB", pages, re.M)[1])
    return total


WRK = """\
local requests, turn = {}, 0

function init()
    for client in io.lines("CLIENTS") do
        requests[#requests + 1] = wrk.format("GET", "PATH", {
            ["Host"] = "HOST", ["User-Agent"] = "wrk", ["Accept"] = "*/*", ["X-Forwarded-For"] = client,
        })
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout
    io.write(string.format("result %d %d %d %d\\n", summary.requests, failed, errors.status, summary.duration))
end
"""
