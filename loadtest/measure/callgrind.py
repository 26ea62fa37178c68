"""Counts the instructions of a process with valgrind's callgrind, between two moments."""

import re
import subprocess
from collections import Counter
from pathlib import Path

from measure.process import Process, fail


class Callgrind(Process):
    """A process under callgrind, which counts from `zero` to `dump`; what goes before is not counted."""

    def __init__(self, command: list, directory: Path, log: Path, **options):
        self.directory = directory
        self.prefix = directory / "vgdb"
        self.dumps = 0
        valgrind = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--dump-line=no",
            f"--callgrind-out-file={directory}/counts", f"--vgdb-prefix={self.prefix}", "--error-limit=no",
        ]  # fmt: skip
        super().__init__("the proxy under callgrind", [*valgrind, *command], log, **options)

    def monitor(self, *words: str):
        """Gives callgrind a command."""
        result = subprocess.run(
            ["vgdb", f"--pid={self.pid}", f"--vgdb-prefix={self.prefix}", "--wait=60", *words],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if result.returncode != 0:
            fail(f"vgdb {' '.join(words)}: {result.stderr.strip()[-500:]}")

    def zero(self):
        self.monitor("zero")

    def dump(self) -> dict[str, Counter]:
        """Returns the instructions since `zero` of each function, for each thread."""
        self.dumps += 1
        self.monitor("dump", f"part{self.dumps}")
        threads = {}
        for path in sorted(self.directory.glob("counts.*-*")):
            text = path.read_text(errors="replace")
            if f"part{self.dumps}" in text[:2000]:
                threads[path.name.rsplit("-")[-1]] = functions(text)
            path.unlink()
        return threads


def functions(text: str) -> Counter:
    """Returns the instructions of each function itself, of a dump in callgrind's format (with names compressed)."""
    names, counts = {}, Counter()
    current, skip = "?", False
    for line in text.splitlines():
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            current = names.setdefault(number, HASH.sub("", name)) if name else names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].partition(" ")
            if name:
                names.setdefault(number, HASH.sub("", name))
        elif line.startswith("calls="):
            # The next line is what the called function cost, with all that it calls.
            skip = True
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            if not skip:
                counts[current] += int(line.split()[-1])
            skip = False
    return counts


# What the compiler puts behind a name, and differs with each build; and callgrind's mark of recursion.
HASH = re.compile(r"(::h[0-9a-f]{16}|'\d+)\b")
