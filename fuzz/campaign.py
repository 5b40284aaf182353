"""targets -> processes -> results: each target under atheris for its share of the time, then its corpus made small."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuzz import corpus, words
from fuzz.targets import Target

FINDINGS = corpus.HERE / "findings"  # not committed: a finding becomes a test
LONGEST_INPUT = 60  # seconds of one input before it counts as a hang, on a machine that has other things to do
MOST_MEMORY = 1024  # MB of a process, the fuzzer's own tables included
_FLAGS = (f"-timeout={LONGEST_INPUT}", f"-rss_limit_mb={MOST_MEMORY}", "-print_final_stats=1", "-detect_leaks=0")


@dataclass(frozen=True)
class Plan:
    """How long, with which seed, and what is done with the inputs that were found."""

    seconds: float
    seed: int
    processes: int = 1
    keeps_corpus: bool = False


@dataclass(frozen=True)
class Result:
    """What one target did."""

    target: str
    inputs: int
    seconds: float
    edges: int
    kept: int  # inputs in the corpus, each of which reaches something that no other does
    findings: tuple[str, ...]  # names of files, or how the fuzzer ended where it left none


def run(targets: Sequence[Target], plan: Plan) -> Iterator[Result]:
    """Yield the result of each target when it is there."""
    shares = sum(target.share for target in targets)

    def one(target: Target) -> Result:
        seconds = plan.seconds * plan.processes * target.share / shares
        return _run_one(target, max(int(seconds), 1), plan)

    with ThreadPoolExecutor(plan.processes) as threads:
        yield from threads.map(one, targets)


def _run_one(target: Target, seconds: int, plan: Plan) -> Result:
    with tempfile.TemporaryDirectory(prefix="dcmstore-fuzz-") as name:
        folder = Path(name)
        known, found, dictionary = folder / "known", folder / "found", folder / "words"
        known.mkdir()
        found.mkdir()
        corpus.unpack(target.name, known)
        dictionary.write_text(words.dictionary(of_files=target.words_of_files))
        flags = [*_FLAGS, f"-max_len={target.longest}", f"-seed={plan.seed}", f"-max_total_time={seconds}",
                 f"-dict={dictionary}", f"-artifact_prefix={found}/{target.name}-"]  # fmt: skip
        started = time.monotonic()
        exit_code, output = _fuzz(target, known, *flags)
        spent = time.monotonic() - started
        findings = _keep_findings(found)
        if exit_code and not findings:
            findings = (f"exit code {exit_code}",)
        if findings:
            print(output[-6000:], file=sys.stderr, flush=True)
        if plan.keeps_corpus and not findings:
            _keep_small(target, known, folder / "small")
        return Result(target.name, _figure(r"number_of_executed_units: *(\d+)", output), spent,
                      _figure(r"cov: (\d+)", output), len(corpus.load(target.name)), findings)  # fmt: skip


def _fuzz(target: Target, *arguments: object) -> tuple[int, str]:
    """Its exit code, 0 when it found nothing, and what it said."""
    with tempfile.TemporaryDirectory(prefix="dcmstore-fuzz-") as folder:
        # libFuzzer starts itself again by the name of its program, which must be one that the system can run.
        program = Path(folder) / "again"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fuzz.one {target.name} "$@"\n')
        program.chmod(0o700)
        done = subprocess.run(
            [program, *map(str, arguments)], cwd=corpus.HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env={**os.environ, "PYTHONHASHSEED": "0", "FUZZ_PROGRAM": str(program)},
        )  # fmt: skip
    if not done.returncode and "number_of_executed_units" not in done.stdout and "MERGE-OUTER" not in done.stdout:
        raise SystemExit(f"fuzz: {target.name} did not run:\n{done.stdout[-3000:]}")
    return done.returncode, done.stdout


def _keep_small(target: Target, known: Path, small: Path) -> None:
    """Of all inputs the fewest that reach as much."""
    small.mkdir()
    flags = ("-merge=1", f"-max_len={target.longest}", f"-rss_limit_mb={MOST_MEMORY}")
    exit_code, output = _fuzz(target, *flags, small, known)
    if exit_code:
        raise SystemExit(f"fuzz: the corpus of {target.name} is left as it was:\n{output[-3000:]}")
    corpus.keep((path.read_bytes() for path in small.iterdir()), corpus.GROWN / f"{target.name}.zip")


def _keep_findings(found: Path) -> tuple[str, ...]:
    FINDINGS.mkdir(exist_ok=True)
    paths = sorted(found.iterdir())
    for path in paths:
        shutil.move(path, FINDINGS / path.name)
    return tuple(path.name for path in paths)


def _figure(pattern: str, output: str) -> int:
    """The last one that the fuzzer printed."""
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0
