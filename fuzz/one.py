"""One target under atheris: `python -m fuzz.one NAME [FOLDER…] [-flag=value…]`, flags as libFuzzer has them."""

import os
import sys

import atheris  # type: ignore[import-untyped, unused-ignore]

with atheris.instrument_imports(include=["dcmstore"]):
    from fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv[1]]
    arguments = [os.environ.get("FUZZ_PROGRAM", sys.argv[0]), *sys.argv[2:]]
    if target.mutate is None:
        atheris.Setup(arguments, target.check)
    else:
        mutate = target.mutate

        def mutated(data: bytes, longest: int, seed: int) -> bytes:
            return mutate(atheris.Mutate, data, longest, seed)

        atheris.Setup(arguments, target.check, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
