"""What the suites share: pinned packages, a real node, and cases that are counted."""

import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import traceback
import venv

# Beside the build, so that a second run has what the first has fetched.
CACHE = pathlib.Path(__file__).resolve().parents[3] / "target" / "conformance"


def with_packages(name, *packages):
    """Goes on only in a Python that has these packages, NAME==VERSION each; makes it first, if need be."""
    home = CACHE / name
    python = home / "bin" / "python"
    if pathlib.Path(sys.prefix) == home:
        return
    wanted, known = "\n".join(packages), home / "packages"
    if not known.exists() or known.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)
        known.write_text(wanted)
    os.execv(python, [str(python), *sys.argv])


def debian_packages(*names):
    """Unpacks Debian packages and what they need, without installing them; gives the folder."""
    home = CACHE / "-".join(names)
    if not (home / "complete").exists():
        archives = home / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "install", "--quiet=2", "--yes", "--download-only", "--reinstall", "--no-install-recommends"]
        command += ["-o", f"Dir::Cache::archives={archives}", "-o", "APT::Sandbox::User=root", *names]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for archive in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, home], check=True)
            archive.unlink()
        (home / "complete").touch()
    return home


class Node:
    """A running node of MERIDIAN_BIN in a region of a table, with one plain listener that has more keys if `listener` says
    so, and `more` in its node file."""

    def __init__(self, region, table, more="", listener=""):
        self.directory = tempfile.TemporaryDirectory()
        here = pathlib.Path(self.directory.name)
        (here / "routes.toml").write_text(table)
        (here / "node.toml").write_text(
            f'[node]\nname = "test"\nregion = "{region}"\nthreads = 1\n'
            f'[[listeners]]\naddress = "127.0.0.1:0"\n{listener}'
            f'[admin]\naddress = "127.0.0.1:0"\n[routing]\nfile = "routes.toml"\n{more}'
        )
        command = [os.environ["MERIDIAN_BIN"], "run", "--log-format", "json", "--config", str(here / "node.toml")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addresses = {}
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        while not self.http:
            line = lines.get(timeout=30)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("message") == "listening":
                self.addresses[event["kind"]] = event["address"]

    def _read(self, lines):
        for line in self.process.stderr:
            lines.put(line)

    @property
    def http(self):
        """The address of its listener, with TLS or without."""
        return self.addresses.get("http", self.addresses.get("https"))

    @property
    def port(self):
        return int(self.http.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.directory.cleanup()


CASES = []


def case(function):
    """Counts a function among the suite's cases."""
    CASES.append(function)
    return function


def one_region(port, scheme=""):
    """The table of one region with one endpoint on this machine, which stays in use whatever it answers."""
    return (
        'version = "1"\n[regions.here]\ncountry = "US"\nhealth = { kind = "tcp", interval = "1h" }\n'
        f'endpoints = ["{scheme}127.0.0.1:{port}"]\n[residency_defaults]\nunlisted_jurisdiction = "allow"\n'
        "[failover]\noutlier = { consecutive_errors = 1000000 }\n"
        '[[routes]]\nname = "all"\ndata_class = "public"\nretry = { attempts = 1 }\n'
    )


def report(suite, faults, beside="", beside_passed=0):
    """Ends a suite whose cases are a table: `faults` has what is wrong with each case, by its name, or None. Beside it may
    stand how many of them another server passes, or the same without a node between."""
    for name, fault in faults.items():
        if fault:
            print(f"{suite}: {name}: {fault}", file=sys.stderr)
    passed = sum(fault is None for fault in faults.values())
    print(suite, len(faults), passed, *([beside, beside_passed] if beside else []), flush=True)
    sys.exit(passed != len(faults))


def wanted(names):
    """Those of the names that the command line asks for, or all."""
    return [name for name in names if not sys.argv[1:] or name in sys.argv[1:]]


def run(suite, *arguments):
    """Runs all cases; the last line on stdout is `suite cases passed`, and what failed is on stderr."""
    asked = [function for function in CASES if not sys.argv[1:] or function.__name__ in sys.argv[1:]]
    passed = 0
    for function in asked:
        try:
            function(*arguments)
            passed += 1
        except Exception:
            print(f"{suite}: {function.__name__} failed", file=sys.stderr)
            traceback.print_exc()
    print(suite, len(asked), passed, flush=True)
    sys.exit(passed != len(asked))
