"""Counts the instructions of a process with valgrind's callgrind, between two moments."""

import os
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
        # Of the last dump: see `functions`.
        self.calls = Counter()
        valgrind = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--dump-line=no",
            f"--callgrind-out-file={directory}/counts", f"--vgdb-prefix={self.prefix}", "--error-limit=no",
        ]  # fmt: skip
        environment = {**os.environ, "GLIBC_TUNABLES": NO_REPEATED_MOVES}
        super().__init__("the proxy under callgrind", [*valgrind, *command], log, env=environment, **options)

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
        self.calls = Counter()
        for path in sorted(self.directory.glob("counts.*-*")):
            text = path.read_text(errors="replace")
            if f"part{self.dumps}" in text[:2000]:
                threads[path.name.rsplit("-")[-1]] = functions(text, self.calls)
            path.unlink()
        return threads


def functions(text: str, calls: Counter) -> Counter:
    """Returns the instructions of each function itself, of a dump in callgrind's format (with names compressed), and
    adds to `calls` those that each function (caller, called) spent in another, with all that it calls."""
    names, counts = {}, Counter()
    current, called = "?", None

    def name_of(text: str) -> str:
        number, _, name = text.partition(" ")
        return names.setdefault(number, HASH.sub("", name)) if name else names[number]

    for line in text.splitlines():
        if line.startswith("fn="):
            current, called = name_of(line[3:]), None
        elif line.startswith("cfn="):
            called = name_of(line[4:])
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            # The line after `calls=` is what the called function cost.
            if called:
                calls[current, called] += int(line.split()[-1])
            else:
                counts[current] += int(line.split()[-1])
            called = None
    return counts


# callgrind counts an instruction for each byte that one `rep movsb` moves, which the processor moves 32 at a time: without
# it, memcpy's loops are counted as what they cost.
NO_REPEATED_MOVES = "glibc.cpu.hwcaps=-ERMS,-FSRM"
# What the compiler puts behind a name, and differs with each build; and callgrind's mark of recursion.
HASH = re.compile(r"(::h[0-9a-f]{16}|'\d+)\b")
