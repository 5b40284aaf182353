"""bytes -> targets -> findings: what must hold whatever a peer, a disk or an ini sends.

The invariants. They come from the standard and from what the documentation promises, never from what the code does:

1. Any bytes give values, events or the documented error of that layer (`ProtocolError`, `CannotUnderstand`,
   `ConfigurationError`), and nothing else.
2. Any chunking gives the same.
3. What was decoded and is encoded again decodes to the same, and what a well-formed encoding says is what is read.
4. No path leaves its root, every name is legal on Windows and Linux, and two values never share a name.
5. Memory stays under its limits: what is held between two chunks is bounded, however much was received.
6. Time grows no faster than the input.
7. Whoever was answered with success finds the object on disk, byte for byte; nobody is answered twice or not at all.

Run `python -m fuzz` (an hour) or `python -m fuzz --short` (75 seconds). The modules in the order of an input:

    seeds.py       real senders -> first inputs              run once, the result is in seeds/
    corpus.py      seeds/ and corpus/ <-> folders             what is kept between runs
    mutators.py    input -> another one that is nearly right  lengths that fit, so that what stands inside is reached
    words.py       the words of the standard -> a dictionary for the fuzzer
    targets/       input -> nothing, or a Violation           one module an area, each check a function of bytes
    reference.py   input -> what the standard reads in it     naive, whole, and none of the product's code
    oracle.py      what the checks share
    one.py         one target under atheris, a program
    campaign.py    targets -> processes -> results
    report.py      results -> tables, in docs/fuzzing.md too
    lines.py       corpus -> lines of the product that no input reaches
    flaws.py       flaws put in on purpose -> seconds until they are found
"""
