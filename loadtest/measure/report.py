"""Writes the table of a comparison as Markdown."""

import datetime
import platform
from statistics import median

# Rounds of one proxy that differ by more than this were disturbed by something else.
DISTURBED = 1.15


class Table:
    """The samples so far, by row and proxy."""

    def __init__(self, arguments, versions: list[str]):
        self.arguments = arguments
        self.versions = versions
        self.rows = {}
        self.notes = []

    def add(self, name: str, row, proxy: str, sample):
        self.rows.setdefault(name, (row, {}))[1].setdefault(proxy, []).append(row.value(sample))

    def note(self, text: str):
        self.notes.append(text)

    def markdown(self) -> str:
        """Returns the table: the first proxy's figures, and those of the others with their ratios to it."""
        names = list(self.arguments.proxies)
        first = names[0]
        lines = [
            f"{datetime.date.today()}, {', '.join(self.versions)}, {platform.system()} {platform.release()}, "
            f"{self.arguments.rounds} rounds of {self.arguments.seconds:g} s, one core for each proxy. CPU time of the "
            f"process for each request unless said otherwise; ratios to {first}: the median of the rounds, and their range.",
            "",
            f"| What | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
        ]
        disturbed = []
        for name, (row, samples) in self.rows.items():
            base = samples.get(row.proxies[0] if "forwarded" in row.proxies[0] else first)
            cells = []
            for proxy in names:
                values = samples.get(proxy)
                cells.append(cell(values, base, row.unit) if values else "")
                if values and min(values) > 0 and max(values) > DISTURBED * min(values):
                    disturbed.append(f"{name} ({proxy})")
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
        lines += ["", *self.notes] if self.notes else []
        if disturbed:
            lines += [
                "",
                f"Rounds that differ by more than 15 %, since something else ran beside them: {', '.join(disturbed)}.",
            ]
        return "\n".join(lines)


def cell(values: list[float], base: list[float] | None, unit: str) -> str:
    """Returns a proxy's median, with its ratio to another's, round by round."""
    text = f"{figure(median(values))} {unit}"
    if base is None or base is values or not all(base):
        return text
    ratios = [value / other for value, other in zip(values, base)]
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"**{median(ratios):.2f}**{spread}, {text}"


def figure(value: float) -> str:
    """Returns a number with three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
