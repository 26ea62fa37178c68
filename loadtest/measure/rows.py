"""The rows of the comparison: what each asks of the proxies, and how it loads them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure.client import Http1, Http2
from measure.load import Sample, cpu_seconds, h2load, open_loop, resident_kib, wrk
from measure.proxies import Job, Running
from measure.world import World


@dataclass
class Settings:
    """How long each load lasts, and what makes it."""

    world: World
    loadtest: Path
    seconds: float
    connections: int


@dataclass
class Row:
    """A row of the table: a job, and a load that returns a sample of a proxy."""

    title: str
    load: Callable[[Running, Settings], Sample]
    # What is compared, of a sample, and its unit.
    value: Callable[[Sample], float] = lambda sample: sample.cost
    unit: str = "us"
    job: Job = field(default_factory=Job)
    # Some rows make no sense beside others: refusals are compared with the same proxy's forwarded requests.
    proxies: tuple[str, ...] = ("nginx", "haproxy", "envoy", "meridian")
    # Some values change only with the proxy, and one round tells them.
    rounds: int | None = None


def costed(load: Callable[[Running, Settings], Sample]) -> Callable[[Running, Settings], Sample]:
    """Adds to a load's sample the CPU time that the proxy took for it."""

    def measured(proxy: Running, settings: Settings) -> Sample:
        before = cpu_seconds(proxy.pids)
        sample = load(proxy, settings)
        sample.cpu_seconds = cpu_seconds(proxy.pids) - before
        return sample

    return measured


def http1(path: str = "/v3/x", tls: bool = False, most: int = 4096):
    def load(proxy: Running, settings: Settings) -> Sample:
        url = f"https://127.0.0.1:{proxy.tls}{path}" if tls else f"http://127.0.0.1:{proxy.plain}{path}"
        clients = [address for address, _ in settings.world.clients]
        return wrk(url, settings.seconds, min(settings.connections, most), clients, settings.world.directory)

    return costed(load)


def http2(tls: bool):
    def load(proxy: Running, settings: Settings) -> Sample:
        url = f"https://127.0.0.1:{proxy.tls}/v3/x" if tls else f"http://127.0.0.1:{proxy.h2c}/v3/x"
        return h2load(url, settings.seconds, two_clients(settings.world), 16, [])

    return costed(load)


@costed
def grpc(proxy: Running, settings: Settings) -> Sample:
    body = settings.world.directory / "message"
    body.write_bytes(b"\0\0\0\0\x40" + b"x" * 64)
    fields = ["content-type: application/grpc", "te: trailers"]
    url = f"http://127.0.0.1:{proxy.h2c}/grpc/x"
    return h2load(url, settings.seconds, two_clients(settings.world), 16, fields, body)


@costed
def handshake(proxy: Running, settings: Settings) -> Sample:
    url = f"https://127.0.0.1:{proxy.tls}/v3/x"
    client = settings.world.clients[0][0]
    options = [
        "--new-connections",
        "--insecure",
        "--x25519",
        "--header",
        f"X-Forwarded-For: {client}",
        "--connections",
        "64",
    ]
    return open_loop(settings.loadtest, url, settings.seconds, HANDSHAKES_PER_SECOND, *options)


def idle(tls: bool, h2: bool):
    """Measures by how much a proxy's memory grows with each connection that was answered and then does nothing."""

    def load(proxy: Running, settings: Settings) -> Sample:
        def connect():
            connection = Http2(proxy.tls, 1, tls) if h2 else Http1(proxy.tls if tls else proxy.plain, tls)
            connection.send([settings.world.clients[0][0]])
            return connection.connection

        few = [connect() for _ in range(IDLE_BEFORE)]
        time.sleep(IDLE_SECONDS)
        before = resident_kib(proxy.pids)
        many = [connect() for _ in range(IDLE_CONNECTIONS)]
        time.sleep(IDLE_SECONDS)
        grown = resident_kib(proxy.pids) - before
        for connection in few + many:
            connection.close()
        return Sample(IDLE_CONNECTIONS, IDLE_SECONDS, kib=grown / IDLE_CONNECTIONS)

    return load


def half_rate(proxy: Running, settings: Settings) -> Sample:
    """Measures latency at half of the rate at which nginx is saturated."""
    rate = settings.saturation / 2
    url = f"http://127.0.0.1:{proxy.plain}/v3/x"
    network = next(network for network, country in settings.world.networks if country == "US")
    options = ["--vary-client", network, "--connections", str(settings.connections)]
    return open_loop(settings.loadtest, url, settings.seconds, rate, *options)


def refusals(proxy: Running, settings: Settings) -> Sample:
    """Sends clients of the European Union what they may not have, or to the proxy's twin what they may."""
    clients = [address for address, country in settings.world.clients if country == "DE"]
    forwarded = proxy.name.endswith("forwarded")
    url = f"http://127.0.0.1:{proxy.plain}/v3/{'x' if forwarded else 'withheld/x'}"
    return wrk(url, settings.seconds, settings.connections, clients, settings.world.directory, statuses=forwarded)


def two_clients(world: World) -> list[str]:
    """Returns a client of each region."""
    return [next(address for address, country in world.clients if country == wanted) for wanted in ("DE", "US")]


# More than any of them makes, so that all are saturated: the 64 connections at once are what limits it.
HANDSHAKES_PER_SECOND = 3000
IDLE_BEFORE, IDLE_CONNECTIONS = 200, 2000
# Long enough for a proxy to give back what it keeps for the next request.
IDLE_SECONDS = 4.0
NO_LOG = Job(access_log=False)
KIB = {"value": lambda sample: sample.kib, "unit": "KiB", "rounds": 1}

ROWS = {
    "http1": Row("HTTP/1.1 keep-alive, 1 KiB", http1()),
    "http1-no-log": Row("the same, no access log", http1(), job=NO_LOG),
    "http1-every-field": Row(
        "the same, no access log, nginx sets every field that Meridian sets", http1(),
        job=Job(access_log=False, every_field=True), proxies=("nginx", "meridian"),
    ),
    "tls": Row("TLS 1.3 keep-alive, 1 KiB", http1(tls=True)),
    "tls-no-log": Row("the same, no access log", http1(tls=True), job=NO_LOG),
    "http2": Row("HTTP/2 in (16 streams), HTTP/1.1 out", http2(tls=False)),
    "http2-no-log": Row("the same, no access log", http2(tls=False), job=NO_LOG),
    "http2-tls": Row("HTTP/2 over TLS 1.3 in (16 streams), HTTP/1.1 out", http2(tls=True)),
    "grpc": Row("gRPC unary, HTTP/2 in (16 streams) and out", grpc, job=Job(grpc=True)),
    "handshake": Row("full TLS 1.3 handshake (X25519, P-256) and one request", handshake),
    "body-64k": Row("64 KiB bodies over TLS 1.3", http1("/v3/64k", tls=True, most=8)),
    "body-1m": Row("1 MiB bodies over TLS 1.3", http1("/v3/1m", tls=True, most=8)),
    "p99": Row("p99 latency, HTTP/1.1, at half of nginx's saturation rate", half_rate,
               value=lambda sample: sample.p99_ms, unit="ms"),
    "idle-tls": Row("idle connection, TLS HTTP/1.1", idle(tls=True, h2=False), **KIB),
    "idle-tls-h2": Row("idle connection, TLS HTTP/2", idle(tls=True, h2=True), **KIB),
    "idle-plain": Row("idle connection, plain HTTP/1.1", idle(tls=False, h2=False), **KIB),
    "refusal": Row("a refusal (451), to a request that Meridian forwards", costed(refusals),
                   proxies=("meridian-forwarded", "meridian")),
}  # fmt: skip
