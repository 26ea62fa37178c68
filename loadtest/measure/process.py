"""Installs, starts, awaits and ends processes, by their ids."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# So that whoever is asked to end does what is left to do: processes of ours do not outlive us.
signal.signal(signal.SIGTERM, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[2]


def fail(message: str, code: int = 1):
    """Says what went wrong, and exits."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(code)


def install(commands: dict[str, str]):
    """Installs Debian's package of each command, or file, that is missing."""
    missing = sorted({package for name, package in commands.items() if not (shutil.which(name) or Path(name).exists())})
    if not missing:
        return
    as_root = [] if os.getuid() == 0 else ["sudo"]
    if as_root and not shutil.which("sudo"):
        fail(f"needs root, or sudo, to install: {' '.join(missing)}")
    print(f"installing {' '.join(missing)}", file=sys.stderr)
    # RUNLEVEL=1 keeps Debian from starting servers as services.
    apt = [*as_root, "env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    subprocess.run([*apt, "update"], check=True, stdout=sys.stderr)
    subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL)


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback that are free now.

    They are below those that connections are given (ip_local_port_range), whoever's: one of these could take a port
    before its listener does.
    """
    ports = []
    for port in random.sample(range(12_000, 32_000), 1000):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    fail("no free ports from 12000 to 32000")


class Process:
    """A process of ours, with its log in a file. It is ended when the block that it was started for is left."""

    running: list["Process"] = []

    def __init__(self, name: str, command: list, log: Path, stdout=None, **options):
        self.name, self.log = name, log
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout if stdout is not None else file, stderr=file, **options
            )
        self.pid = self.child.pid
        Process.running.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Asks the process to end, and kills it after ten seconds."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()
        if self in Process.running:
            Process.running.remove(self)

    @staticmethod
    def end_all():
        """Ends whatever still runs."""
        for process in list(Process.running):
            process.end()

    def await_port(self, port: int, seconds: float):
        """Waits until the process listens on a port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        log = self.log.read_text(errors="replace")[-2000:]
        fail(f"{self.name} does not listen on port {port} after {seconds} s\n{log}")
