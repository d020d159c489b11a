"""The responses to mutated calls that are problems, and the report of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from bench.answers import INTERNAL, UNAVAILABLE, UNKNOWN
from bench.fuzz.calls import LOST, Outcome

_DATA_LOSS = 15
# Codes that are never the caller's fault, UNAVAILABLE too, as all parts run.
WRONG_CODES = frozenset((UNKNOWN, INTERNAL, UNAVAILABLE, _DATA_LOSS))
SLOW_SECONDS = 2.0
_SERVER_ERRORS = range(500, 600)
# How much a part may grow in the second half of the calls: caches fill, and the allocator keeps memory.
GROWTH_MOST_BYTES = 48 << 20
_MEBIBYTE = 1 << 20
_TEXT_MOST, _REQUEST_MOST = 160, 1_000


@dataclass
class Findings:
    """The responses of a run, counted, with those that are problems."""

    responses: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    wrong: list[Outcome] = field(default_factory=list)
    slow: list[Outcome] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    memory: list[Mapping[str, int]] = field(default_factory=list)
    """Bytes of each part: before, and after equal parts of the calls."""

    def add(self, outcome: Outcome) -> None:
        """Count one response."""
        self.responses[outcome.method.rpartition("/")[2], outcome.code, outcome.status] += 1
        if is_wrong(outcome):
            self.wrong.append(outcome)
        if outcome.seconds > SLOW_SECONDS:
            self.slow.append(outcome)

    @property
    def grown(self) -> list[str]:
        """Parts whose memory does not level out."""
        if len(self.memory) < 3:  # noqa: PLR2004  # before, half, end
            return []
        half, end = self.memory[len(self.memory) // 2], self.memory[-1]
        return [
            f"{part}: {half[part] // _MEBIBYTE} MB after half of the calls, {end[part] // _MEBIBYTE} MB at the end"
            for part in end
            if end[part] - half.get(part, 0) > GROWTH_MOST_BYTES
        ]

    @property
    def problems(self) -> list[str]:
        """Everything that must not happen, a line each."""
        calls = [f"{_line(outcome)}\n    {outcome.request[:_REQUEST_MOST]}" for outcome in (*self.wrong, *self.slow)]
        return [*calls, *self.unreadable, *self.grown]


def is_wrong(outcome: Outcome) -> bool:
    """Return whether a mutated call must not have this outcome."""
    if outcome.code in WRONG_CODES:
        return True
    return outcome.status == LOST or (outcome.status in _SERVER_ERRORS and outcome.status != HTTPStatus.NOT_IMPLEMENTED)


def report(findings: Findings, seed: int) -> str:
    """Return a summary for people."""
    codes: Counter[tuple[int, int]] = Counter()
    for (_, code, status), number in findings.responses.items():
        codes[code, status] += number
    parts: Sequence[str] = sorted(findings.memory[-1]) if findings.memory else []
    lines = [
        f"seed {seed}: {sum(codes.values())} calls of {len({method for method, _, _ in findings.responses})} methods",
        *(f"  code {code:2} HTTP {status or '-'}: {number}" for (code, status), number in sorted(codes.items())),
        *(
            f"  {part}: {' '.join(str(each.get(part, 0) // _MEBIBYTE) for each in findings.memory)} MB"
            for part in parts
        ),
        f"{len(findings.problems)} problems",
        *(f"  {problem}" for problem in findings.problems),
    ]
    return "\n".join(lines) + "\n"


def _line(outcome: Outcome) -> str:
    how = f"HTTP {outcome.status}" if outcome.status else "gRPC"
    text = outcome.text[:_TEXT_MOST].replace("\n", " ")
    return f"{outcome.method.rpartition('/')[2]} by {how}: code {outcome.code} after {outcome.seconds:.2f} s: {text}"
