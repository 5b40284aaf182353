"""facts of a stored object -> jobs: to whom it is to be sent."""

from collections.abc import Iterable

from dcmstore.forwarding.peers import Forward
from dcmstore.hosts import address_of
from dcmstore.jobs import patience
from dcmstore.jobs.work import Facts, Job

KIND = patience.FORWARD


def jobs_for(forwards: Iterable[Forward], facts: Facts) -> list[Job]:
    """A job for each peer that a line names for this object, once, unless the object came from there."""
    if facts["event"] != "stored":
        return []
    wanted = (forward for forward in forwards if forward.rule.matches(facts))
    targets = {one.peer: one.target for one in wanted if not came_from(facts, one.peer.ae_title, one.peer.host)}
    # A file is one job: where its content is replaced while it waits, it is sent once, as it is then.
    # Objects need not come in their order, but for several under one UID.
    return [Job(KIND, target, str(facts["path"]), str(facts["sop_instance_uid"]), facts) for target in targets.values()]


def came_from(facts: Facts, ae_title: str, host: str) -> bool:
    """True where the object came from this AE at this address; a host that is a name is not looked up here."""
    came = address_of(str(facts["host"]))
    return facts["calling_ae_title"] == ae_title and came is not None and came == address_of(host)
