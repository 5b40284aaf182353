"""words -> plan -> measurements -> report -> exit code.

0: everything that was sent is stored. 1: an object was lost or a receiver crashed. 2: an option is wrong.
No figure of time decides anything.
"""

import argparse
import signal
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from bench import plan, report
from bench.measure import Measurement
from bench.plan import ChoiceError

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    options = _parser().parse_args()
    try:
        chosen = plan.choose(options)
    except ChoiceError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    measurements: list[Measurement] = []
    try:
        for measurement in plan.run(chosen):
            measurements.append(measurement)
            print(_line(measurement), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("bench: interrupted; the report holds what was measured", file=sys.stderr)
    _write(report.markdown(chosen, measurements), options)
    if options.record:
        report.record(chosen, measurements)
    faults = [measurement for measurement in measurements if measurement.fault]
    print(f"{len(measurements) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults or not measurements else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this receiver beside others.")
    parser.add_argument("--short", action="store_true", help="few objects, one round: does everything arrive?")
    parser.add_argument("--receivers", default="", metavar="A,B", help="(default: all)")
    parser.add_argument("--clients", default="", metavar="A,B", help="(default: the usual ones of each set)")
    parser.add_argument("--sets", default="", metavar="A,B", help="(default: all)")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"(default: {plan.FULL_ROUNDS}; with --short 1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="(default: a new file in bench/results)")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {report.PAGE.name} too")
    about = "where the temporary folder is made (default: the system's); measures that disk"
    parser.add_argument("--folder", type=Path, metavar="DIR", default=Path(tempfile.gettempdir()), help=about)
    return parser


def _line(one: Measurement) -> str:
    outcome = f"{one.rate:9.1f} objects/s" if not one.fault else f"FAILED {one.fault}"
    return f"round {one.round}  {one.object_set:6} {one.client:16} {one.receiver:14} {outcome}"


def _write(text: str, options: argparse.Namespace) -> None:
    form = "short" if options.short else "full"
    output: Path = options.output or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M%S}-{form}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"report: {output}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
