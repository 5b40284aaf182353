"""hooks and the facts of an event -> jobs."""

from collections.abc import Iterable

from dcmstore.hooks import STUDY_COMPLETE
from dcmstore.hooks.lines import Hook
from dcmstore.jobs.work import Facts, Job

# What makes an event this one and no other: the same again gives the same jobs, and a change gives new ones.
_IDENTITY = ("event", "sop_instance_uid", "sha256")
_IDENTITY_OF_STUDY = ("event", "study_instance_uid", "instances", "stored_at", "patient_id")


def jobs_for(hooks: Iterable[Hook], facts: Facts) -> list[Job]:
    """A job for each hook whose rule lets this pass; those of a study are done in the order of its events."""
    identity = _IDENTITY_OF_STUDY if facts["event"] == STUDY_COMPLETE else _IDENTITY
    key = " ".join(str(facts.get(name, "")) for name in identity)
    order = str(facts.get("study_instance_uid") or facts.get("sop_instance_uid", ""))
    return [Job(hook.action.kind, hook.action.target, key, order, facts) for hook in hooks if hook.rule.matches(facts)]
