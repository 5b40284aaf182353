"""corpus -> lines of the product that no input reaches: `python -m fuzz.lines`, without atheris."""

import sys

import coverage

from fuzz import corpus

# The modules that the targets are for
AIM = (
    "ul/framing", "ul/association", "ul/decoding", "ul/items", "ul/pdu", "ul/negotiation", "dimse/command",
    "dimse/message", "services/provider", "services/storage", "services/operation", "storage/header",
    "storage/names", "storage/text", "storage/filing", "storage/part10", "storage/examine", "config", "values",
    "profile",
)  # fmt: skip


def main() -> int:
    root = corpus.HERE.parent / "src/dcmstore"
    measured = coverage.Coverage(include=[str(root / f"{name}.py") for name in AIM], data_file=None, branch=True)
    measured.start()
    from fuzz.targets import TARGETS  # imported here, for the lines of the import count too

    inputs = 0
    for target in TARGETS.values():
        for data in corpus.load(target.name):
            target.check(data)
            inputs += 1
    measured.stop()
    print(f"{inputs} inputs of the corpus")
    measured.report(show_missing=True, file=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
