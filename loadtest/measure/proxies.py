"""Starts nginx, HAProxy, Envoy and Meridian with the same work, each with one worker on the same core."""

import getpass
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure.load import GENERATOR_CORE, PROXY_CORE
from measure.process import Process, fail, free_ports
from measure.world import BODY, EU_COUNTRIES, HOST, World, region_of

CONFIGURATIONS = Path(__file__).parent


@dataclass
class Job:
    """What a row asks of all proxies alike."""

    access_log: bool = True
    grpc: bool = False
    # Whether nginx sets each field that Meridian sets, instead of the four that its users set.
    every_field: bool = False
    # Of MERIDIAN_BIN alone: all that failover and health can do.
    everything: bool = False


@dataclass
class Running:
    """A proxy, its processes, and the ports of its listeners."""

    name: str
    process: Process
    plain: int
    tls: int
    h2c: int
    pids: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.process.await_port(self.plain, 20)
        self.pids = [self.process.pid, *children(self.process.pid)]


class Origin:
    """What is behind all proxies: an nginx with two regions, and for gRPC an origin of our own for each of them."""

    def __init__(self, world: World, loadtest: Path):
        self.eu, self.us, self.eu_h2c, self.us_h2c = free_ports(4)
        files = world.directory / "origin/v3"
        files.mkdir(parents=True)
        (files / "64k").write_bytes(b"x" * 65_536)
        (files / "1m").write_bytes(b"x" * 1_048_576)
        path = fill(world, "origin.conf", BODY=BODY.decode(), EU_PORT=self.eu, US_PORT=self.us)
        command = ["nginx", "-p", world.directory, "-e", world.directory / "origin.log", "-c", path]
        self.process = Process("the origin", [*GENERATOR_CORE, *command], world.directory / "origin.out")
        self.process.await_port(self.us, 10)
        for port in (self.eu_h2c, self.us_h2c):
            command = [loadtest, "origin", "--address", f"127.0.0.1:{port}", "--h2", "--behaviour", "grpc"]
            process = Process("the origin of gRPC", [*GENERATOR_CORE, *command], world.directory / f"origin-{port}.out")
            process.await_port(port, 10)


def start(name: str, binary: str | Path, job: Job, world: World, origin: Origin) -> Running:
    """Starts a proxy: nginx, haproxy and envoy by their names, and nodes by any other."""
    plain, tls, h2c, admin = free_ports(4)
    ports = {"PLAIN_PORT": plain, "TLS_PORT": tls, "H2C_PORT": h2c, "ADMIN_PORT": admin}
    eu, us = (origin.eu_h2c, origin.us_h2c) if job.grpc else (origin.eu, origin.us)
    ports |= {"EU_PORT": eu, "US_PORT": us}
    log = world.directory / f"{name}.log"
    if name.startswith("nginx"):
        command, options = nginx(name, job, world, ports), {}
    elif name == "haproxy":
        command, options = haproxy(job, world, ports), {}
    elif name == "envoy":
        command, options = envoy(binary, job, world, ports), {}
        plain, h2c = plain, plain
    else:
        command, options, h2c = *node(name, binary, job, world, ports), plain
    options["stdout"] = (world.directory / f"{name}.access.log").open("wb")
    process = Process(name, [*PROXY_CORE, *command], log, **options)
    options["stdout"].close()
    return Running(name, process, plain, tls, h2c)


def nginx(name: str, job: Job, world: World, ports: dict) -> list:
    fields = (CONFIGURATIONS / f"nginx_{'every_field' if job.every_field else 'usual_fields'}.conf").read_text()
    countries = "\n".join(f"        {country} eu-central-1;" for country in EU_COUNTRIES)
    log = f"{world.directory}/nginx.access.log json buffer=64k flush=1s" if job.access_log else "off"
    path = fill(world, "nginx.conf", ACCESS_LOG=log, EU_COUNTRIES=countries, FIELDS=fields.rstrip(), **ports)
    return ["nginx", "-p", world.directory, "-e", world.directory / f"{name}.log", "-c", path]


def haproxy(job: Job, world: World, ports: dict) -> list:
    directory = world.directory
    (directory / "both.pem").write_text(
        (directory / "certificate.pem").read_text() + (directory / "key.pem").read_text()
    )
    (directory / "countries.map").write_text("".join(f"{network} {country}\n" for network, country in world.networks))
    (directory / "regions.map").write_text("".join(f"{country} eu-central-1\n" for country in EU_COUNTRIES))
    names = {"LOG": "log global" if job.access_log else "no log", "PROTOCOL": "proto h2" if job.grpc else ""}
    return ["haproxy", "-db", "-f", fill(world, "haproxy.cfg", **names, **ports)]


def envoy(binary: str | Path, job: Job, world: World, ports: dict) -> list:
    names = {
        "LOG": ENVOY_LOG if job.access_log else "",
        "PROTOCOL": ENVOY_HTTP2 if job.grpc else "",
        "EU_COUNTRIES": "|".join(EU_COUNTRIES),
    }
    path = fill(world, "envoy.yaml", **names, **ports)
    return [binary, "-c", path, "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]


def node(name: str, binary: str | Path, job: Job, world: World, ports: dict) -> tuple[list, dict]:
    scheme = "h2c://" if job.grpc else ""
    endpoints = {"eu": f"{scheme}127.0.0.1:{ports['EU_PORT']}", "us": f"{scheme}127.0.0.1:{ports['US_PORT']}"}
    listeners = [(ports["PLAIN_PORT"], False), (ports["TLS_PORT"], True)]
    everything = f"{scheme}127.0.0.2:{ports['US_PORT']}" if job.everything else ""
    directory = world.write_node(name, listeners, ports["ADMIN_PORT"], **endpoints, everything=everything)
    options = [] if job.access_log else ["--no-access-log"]
    return [Path(binary).resolve(), "run", "--config", "node.toml", *options], {"cwd": directory}


def fill(world: World, name: str, **names) -> Path:
    """Writes a configuration with its names filled in."""
    text = (CONFIGURATIONS / name).read_text()
    names |= {"DIR": world.directory, "USER": getpass.getuser()}
    text = re.sub("@([A-Z0-9_]+)@", lambda found: str(names[found[1]]), text)
    path = world.directory / name
    path.write_text(text)
    return path


def check_answers(proxy: Running, job: Job, world: World):
    """Fails unless the proxy chooses by country, whichever way it is asked: else the comparison says nothing."""
    for country in ("DE", "US"):
        client = next(address for address, of in world.clients if of == country)
        if job.grpc:
            url, fields = f"http://127.0.0.1:{proxy.h2c}/grpc/x", ["te: trailers", f":authority: {HOST}"]
            answer = ask("nghttp", "-v", "-d", world.directory / "key.pem", url, client=client, fields=fields)
            check(proxy, country, url, answer, ["grpc-status: 0"])
            continue
        for way in (
            [f"http://{HOST}:{proxy.plain}/v3/x"],
            ["--http1.1", f"https://{HOST}:{proxy.tls}/v3/x"],
            ["--http2", f"https://{HOST}:{proxy.tls}/v3/x"],
            ["--http2-prior-knowledge", f"http://{HOST}:{proxy.h2c}/v3/x"],
        ):
            answer = ask("curl", "-sk", "-D", "-", "-m", "5", "--connect-to", "::127.0.0.1:", *way, client=client)
            check(proxy, country, " ".join(way), answer, [])


def ask(*command, client: str, fields: Sequence[str] = ()) -> str:
    for line in [f"X-Forwarded-For: {client}", *fields]:
        command += ("-H", line)
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout


def check(proxy: Running, country: str, url: str, answer: str, wanted: list[str]):
    region = re.search(r"(?im)\bx-(meridian-)?region: (.*?)\s*$", answer)
    body = "x" * len(BODY)
    if (
        not region
        or region[2] != region_of(country)
        or body not in answer
        or any(text not in answer for text in wanted)
    ):
        log = proxy.process.log.read_text(errors="replace")[-500:]
        answer = answer.replace(body, "(the body)")[:1000]
        fail(f"{proxy.name} did not take a client from {country} to {region_of(country)} by {url}:\n{answer}\n{log}")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def versions(proxies: dict) -> list[str]:
    """Returns the names and versions of the proxies."""
    found = []
    for name, binary in proxies.items():
        command = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "envoy": [binary, "--version"]}
        result = subprocess.run(command.get(name, [binary, "--version"]), capture_output=True, text=True)
        version = re.search(r"\d+\.\d+\.\d+", result.stdout + result.stderr)
        found.append(f"{name} {version[0] if version else '?'}")
    return found


ENVOY_LOG = """\
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  time: "%START_TIME%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                  country: "%REQ(X-CLIENT-COUNTRY)%"
                  protocol: "%PROTOCOL%"
                  method: "%REQ(:METHOD)%"
                  host: "%REQ(:AUTHORITY)%"
                  path: "%REQ(:PATH)%"
                  status: "%RESPONSE_CODE%"
                  region: "%UPSTREAM_CLUSTER%"
                  upstream: "%UPSTREAM_HOST%"
                  duration: "%DURATION%"
                  upstream_duration: "%RESPONSE_DURATION%"
                  response_bytes: "%BYTES_SENT%"
                  complete: "%RESPONSE_FLAGS%"
"""
ENVOY_HTTP2 = """\
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
"""
