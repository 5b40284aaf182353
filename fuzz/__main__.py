"""words -> campaign -> table -> exit code: 0 nothing was found, 1 an invariant does not hold, 2 an option is wrong."""

import argparse
import random
import sys
from importlib.util import find_spec

from fuzz import campaign, report
from fuzz.campaign import Plan
from fuzz.targets import TARGETS

SHORT_SECONDS = 75


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Feed every decoder what no sender would send.")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="in all (default: 60)")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SECONDS} seconds on two processors")
    parser.add_argument("--targets", default="", metavar="A,B", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000), metavar="N")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="targets at a time (default: 1)")
    parser.add_argument("--keep", action="store_true", help="keep what the fuzzer found in fuzz/corpus")
    parser.add_argument("--record", action="store_true", help="write the result into docs/fuzzing.md; keeps, too")
    options = parser.parse_args()
    names = options.targets.split(",") if options.targets else list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"--targets: {', '.join(unknown)}: allowed are {', '.join(TARGETS)}")
    if find_spec("atheris") is None:
        parser.error("the Python package atheris is missing; `python -m pip install -e '.[fuzz]'` installs it")
    plan = Plan(
        seconds=SHORT_SECONDS if options.short else options.minutes * 60,
        seed=options.seed,
        processes=2 if options.short else options.processes,
        keeps_corpus=options.keep or options.record,
    )
    print(f"seed {plan.seed}", flush=True)
    results = []
    for result in campaign.run([TARGETS[name] for name in names], plan):
        results.append(result)
        words = f"FOUND {', '.join(result.findings)}" if result.findings else f"{result.edges} edges"
        print(f"{result.target:12} {result.inputs:>10,} inputs in {result.seconds:5.0f} s  {words}", flush=True)
    print(report.table(results))
    command = " ".join(["python", "-m", "fuzz", *sys.argv[1:]])
    if options.record:
        report.record(report.campaign(command, plan.seed, results))
    failed = sum(bool(result.findings) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
