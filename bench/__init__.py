"""objects -> clients -> receivers -> measurements -> Markdown: how fast this receiver is beside the others.

Run `python -m bench` (all of it, about an hour) or `python -m bench --short` (under two minutes; asks only
whether everything arrives). The modules in the order in which a measurement is made:

    sets.py        numbers -> data sets -> PS3.10 files       what is sent
    wire.py        PS3.10 file -> PDUs                        as it goes over the wire
    load.py        PDUs -> responses -> objects a second      the raw load generator, a program
    clients.py     files -> command line -> seconds           the generator and DCMTK's dcmsend
    bare.py        socket -> file                             the least a receiver in Python can do, a program too
    receivers.py   folder + port -> command line              who is compared, and what they are started with
    processes.py   command line -> process -> memory and CPU  start, watch and stop by process ID
    ground.py      folder -> calm folder                      what deleted files do to new ones, and fresh memory
    measure.py     receiver + client + files -> measurement   one run, verified
    plan.py        choice -> runs in rounds
    report.py      measurements -> Markdown

    footprint.py   receiver -> start time and memory          a program of its own
    growth.py      many objects -> speed at the start and at the end    a program of its own
    distance.py    a delay -> objects a second beside what it allows    a program of its own

It reads /proc, so it runs on Linux only.
"""
