"""results -> tables: on the console, and of the campaigns that are told in docs/fuzzing.md."""

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from fuzz import corpus
from fuzz.campaign import Result
from fuzz.targets import TARGETS
from tools import pages

RECORD = corpus.HERE / "campaigns.json"
PAGE = corpus.HERE.parent / "docs/fuzzing.md"
BEGIN, END = "<!-- written by python -m fuzz --record -->", "<!-- end -->"


@dataclass(frozen=True)
class Campaign:
    """A run of all that was asked for."""

    date: str
    command: str
    seed: int
    python: str
    results: tuple[Result, ...]

    @property
    def inputs(self) -> int:
        return sum(result.inputs for result in self.results)

    @property
    def findings(self) -> int:
        return sum(len(result.findings) for result in self.results)


def campaign(command: str, seed: int, results: Sequence[Result]) -> Campaign:
    return Campaign(f"{datetime.now():%Y-%m-%d}", command, seed, platform.python_version(), tuple(results))


def table(results: Sequence[Result]) -> str:
    """A row a target, and their sum."""
    rows = [_row(f"`{r.target}`", TARGETS[r.target].about, r.inputs, r.seconds, r) for r in results]
    inputs, seconds = sum(r.inputs for r in results), sum(r.seconds for r in results)
    rows.append(_row("all", "", inputs, seconds, None, findings=sum(len(r.findings) for r in results)))
    head = "| target | what | inputs | inputs/s | edges | corpus | findings |\n|---|---|--:|--:|--:|--:|--:|\n"
    return head + "\n".join(rows) + "\n"


def _row(name: str, about: str, inputs: int, seconds: float, result: Result | None, findings: int = 0) -> str:
    edges, kept = (str(result.edges), str(result.kept)) if result else ("", "")
    findings = len(result.findings) if result else findings
    return (
        f"| {name} | {about} | {inputs:,} | {inputs / seconds if seconds else 0:,.0f} | {edges} | {kept} | {findings} |"
    )


def record(done: Campaign) -> None:
    """Add a campaign to the record, and write the page anew."""
    campaigns = [*recorded(), done]
    RECORD.write_text(json.dumps([asdict(one) for one in campaigns], indent=1) + "\n", encoding="utf-8")
    write_page(campaigns)


def recorded() -> list[Campaign]:
    if not RECORD.exists():
        return []
    said = json.loads(RECORD.read_text(encoding="utf-8"))
    return [
        Campaign(**{**one, "results": tuple(Result(**{**r, "findings": tuple(r["findings"])}) for r in one["results"])})
        for one in said
    ]


def write_page(campaigns: Sequence[Campaign], page: Path = PAGE) -> None:
    pages.replace_part(page, BEGIN, END, "\n".join(_sections(campaigns)))


def _sections(campaigns: Sequence[Campaign]) -> Iterator[str]:
    inputs, findings = sum(one.inputs for one in campaigns), sum(one.findings for one in campaigns)
    runs = "campaign" if len(campaigns) == 1 else "campaigns"
    yield f"**{inputs:,} inputs** over {len(campaigns)} {runs}, {findings} violations.\n"
    yield "| date | command | seed | Python | inputs | findings |\n|---|---|--:|---|--:|--:|"
    for one in campaigns:
        yield f"| {one.date} | `{one.command}` | {one.seed} | {one.python} | {one.inputs:,} | {one.findings} |"
    if campaigns:
        yield f"\nThe last one, target by target:\n\n{table(campaigns[-1].results)}"
