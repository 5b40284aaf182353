"""this checkout and another one, in turn -> how many times as fast this one is: is a change worth keeping?

    git worktree add ../before HEAD~1
    python -m bench.versus ../before [--set ct] [--client raw1] [--durable 0] [--rounds 15] [--folder DIR]
    python -m bench.versus . --key max-pdu=1048576          is a value of a key worth it?

The machines are noisy: two checkouts that are the same differ by a tenth in a single round, and quartiles that do not
enclose 1 are the least that says something. The processor's time is steadier where other machines share the processor.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

from bench import ground, plan, sets
from bench.clients import CLIENTS
from bench.measure import Measurement
from bench.plan import ChoiceError, Plan
from bench.receivers import ROOT, Receiver, dcmstore


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("checkout", type=Path, help="of another state of this project")
    parser.add_argument("--set", default="ct", metavar="A", help="(default: ct)")
    parser.add_argument("--client", default="raw1", metavar="A", help="(default: raw1)")
    parser.add_argument("--durable", type=int, choices=(0, 1), default=0, help="(default: 0)")
    parser.add_argument("--key", type=_key, action="append", default=[], metavar="KEY=N", help="in this one's ini only")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="(default: 15)")
    parser.add_argument("--folder", type=Path, metavar="DIR", default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    try:
        chosen = _plan(options)
    except ChoiceError as error:
        print(f"bench.versus: {error}", file=sys.stderr)
        return 2
    measurements = list(plan.run(chosen))
    if faults := [f"{one.receiver}: {one.fault}" for one in measurements if one.fault]:
        print("\n".join(faults), file=sys.stderr)
        return 1
    print(f"{options.set}, {options.client}, durable= {options.durable}, {options.rounds} rounds:")
    print(f"this is {_middle(measurements, lambda one: one.rate)} times as fast as {options.checkout}")
    print(f"and takes {_middle(measurements, lambda one: one.usage.cpu)} times the processor's time")
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    """Raises ChoiceError."""
    if not (options.checkout / "src" / "dcmstore").is_dir():
        raise ChoiceError(f"{options.checkout}: has no src/dcmstore; a checkout of this project is needed")
    if options.rounds < 2:
        raise ChoiceError(f"--rounds {options.rounds}: at least 2 are needed")
    return Plan(
        plan.pick("--set", sets.full(), options.set),
        plan.pick("--client", CLIENTS, options.client),
        (
            _of(ROOT, "this", dcmstore(options.durable, **dict(options.key))),
            _of(options.checkout.resolve(), "other", dcmstore(options.durable)),
        ),
        options.rounds,
        options.folder,
        ground.PATIENCE,
        is_usual=False,
    )


def _key(text: str) -> tuple[str, int]:
    key, _, value = text.partition("=")
    return key, int(value)


def _of(checkout: Path, name: str, command: Callable[[Path, int], list[str]]) -> Receiver:
    return Receiver(name, name, True, command, "*/**/*.dcm", {"PYTHONPATH": str(checkout / "src")}, is_exact=True)


def _middle(measurements: Sequence[Measurement], value: Callable[[Measurement], float]) -> str:
    """The median of this one's value by the other one's, round by round, and the middle half of them."""
    values = {name: [value(one) for one in measurements if one.receiver == name] for name in ("this", "other")}
    ratios = [this / other for this, other in zip(values["this"], values["other"], strict=True)]
    low, _, high = quantiles(ratios)
    return f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
