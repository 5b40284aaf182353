"""Whatever comes in whatever order, over crashes too: the tracker tells what a simple model tells, and each once."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dcmstore.index.entries import Entry
from dcmstore.index.indexer import Arrival
from dcmstore.studies import rows
from dcmstore.studies.completeness import GRACE, SETTLE
from tests.studies.support import QUIET, Kept, entry

STUDIES = ("1.1", "1.2", "1.3")
ASSOCIATIONS = (1, 2, 3)
COUNTS = st.sampled_from((None, None, None, 1, 2, 3))


@dataclass
class Model:
    """A study as a person would keep it on paper."""

    uid: str
    instances: set[str] = field(default_factory=set)
    waited: float = 0.0  # since the newest instance
    carriers: set[int] = field(default_factory=set)
    announced: int = 0
    asked: set[str] = field(default_factory=set)
    is_complete: bool = False

    def came(self, uid: str, association: int, announced: int | None) -> list[str]:
        events = [f"study-reopened {self.uid}"] if self.is_complete else []
        self.instances.add(uid)
        self.asked.discard(uid)
        self.waited, self.is_complete = 0.0, False
        self.announced = max(self.announced, announced or 0)
        if association:
            self.carriers.add(association)
        return [*events, f"stored {uid}"]

    def looked_at(self) -> list[str]:
        if self.is_complete or self.carriers or not self.instances:
            return []
        if len(self.instances) == self.announced:
            reason, wait = "counted", SETTLE
        elif self.instances == self.asked:
            reason, wait = "committed", SETTLE
        else:
            reason, wait = "quiet", QUIET
        if self.waited < wait:
            return []
        self.is_complete = True
        return [f"study-complete {self.uid} {reason}"]


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.kept = Kept(Path(self.folder.name, "DcmStore.queue"))
        self.models = {uid: Model(uid) for uid in STUDIES}
        self.open: set[int] = set()
        self.made: list[tuple[str, int, Entry]] = []

    def teardown(self) -> None:
        if hasattr(self, "kept"):
            self.kept.close()
            self.folder.cleanup()

    def _entry(self, study: str, announced: int | None) -> Entry:
        uid = f"{study}.{len(self.made) + 1}"
        return entry(uid, study=study, stored=self.kept.wall, announced=announced)

    # --- associations and what they bring --------------------------------------------------------

    @rule(association=st.sampled_from(ASSOCIATIONS))
    def associate(self, association: int) -> None:
        if association not in self.open:
            self.open.add(association)
            self.kept.associations.began(association)

    @rule(association=st.sampled_from(ASSOCIATIONS))
    def release(self, association: int) -> None:
        if association in self.open:
            self.open.remove(association)
            self.kept.associations.ended(association)
            for model in self.models.values():
                model.carriers.discard(association)
            self.pass_(0.5)

    @rule(studies=st.lists(st.sampled_from(STUDIES), min_size=1, max_size=5), data=st.data())
    def store(self, studies: list[str], data: st.DataObject) -> None:
        """Interleaved, in one batch; over an open association, or as `dcmstore import` does it."""
        over = data.draw(st.sampled_from((0, *sorted(self.open))))
        batch: list[Entry] = []
        expected: list[str] = []
        for study in studies:
            announced = data.draw(COUNTS)
            one = self._entry(study, announced)
            self.made.append((study, over, one))
            batch.append(one)
            expected += self.models[study].came(one.sop_instance_uid, over, announced)
        told_now = self.kept.came(*batch, over=over)
        for study in STUDIES:
            assert _of(study, told_now) == _of(study, expected)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """The same note after a failure of the index, or an identical instance that the index has lost."""
        _, over, one = data.draw(st.sampled_from(self.made))
        again = one if data.draw(st.booleans()) else entry(one.sop_instance_uid, study=one.study[0], is_new=False)
        assert self.kept.came(again, over=over if over in self.open else 0) == []

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        study, _, one = data.draw(st.sampled_from(self.made))
        uid = one.sop_instance_uid
        content = f"{len(self.made)} {self.kept.wall}"
        expected = self.models[study].came(uid, 0, None)
        assert self.kept.came(entry(uid, study=study, content=content, stored=self.kept.wall)) == expected
        self.pass_(0.5)  # so that no two of these are the same

    @precondition(lambda self: self.made)
    @rule(study=st.sampled_from(STUDIES), data=st.data())
    def commit(self, study: str, data: st.DataObject) -> None:
        model = self.models[study]
        if not model.instances:
            return
        asked = data.draw(st.sets(st.sampled_from(sorted(model.instances))) | st.just(set(model.instances)))
        with self.kept.file.transaction() as connection:
            rows.committed(connection, (study, "PAT1"), asked)
        if not model.is_complete:
            model.asked |= asked
        self._look()  # what another thread has changed, is seen within seconds

    # --- time and crashes ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.5, SETTLE, 20.0, QUIET)))
    def pass_(self, seconds: float) -> None:
        self.kept.pass_(seconds)
        for model in self.models.values():
            model.waited += seconds

    @rule(hours=st.sampled_from((-5, 5)))
    def set_clock(self, hours: int) -> None:
        """Nothing that is told in one run depends on it. Somebody looks before the next crash."""
        self.kept.wall += hours * 3600
        self._look()

    @rule(study=st.sampled_from(STUDIES))
    def crash_while_entering(self, study: str) -> None:
        one = self._entry(study, None)
        with self.kept.killed() as connection:
            self.kept.tracker.entered(connection, [Arrival(one, self.kept.clock)])
        self.restart(0.0)
        found = entry(one.sop_instance_uid, study=study, stored=self.kept.wall, is_new=False)
        self.made.append((study, 0, found))
        assert self.kept.came(found) == self.models[study].came(one.sop_instance_uid, 0, None)

    @rule()
    def crash_while_completing(self) -> None:
        with self.kept.killed() as connection:
            self.kept.tracker.due(connection, self.kept.clock)
        self.restart(0.0)

    @rule(off=st.sampled_from((0.0, 20.0, 3600.0, -3600.0)))
    def restart(self, off: float) -> None:
        seen = self._seen()
        self.kept.restart(off=off)
        self.open.clear()
        for model in self.models.values():
            model.carriers.clear()
            if model.instances and not model.is_complete:
                model.waited = min(max(self.kept.wall - seen[model.uid], 0.0), QUIET - GRACE)

    def _seen(self) -> dict[str, float]:
        """When the newest instances came, on the system's clock."""
        with self.kept.file.transaction() as connection:
            found = connection.exec_driver_sql("SELECT study_instance_uid, seen FROM studies")
            return {row[0]: row[1] for row in found}

    # --- what is told ----------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        self._look()

    @precondition(lambda self: hasattr(self, "kept"))
    @invariant()
    def whatever_is_due_is_known_to_be(self) -> None:
        is_complete = [model for model in self.models.values() if _copy(model).looked_at()]
        assert not is_complete or self.kept.tracker.is_due(self.kept.clock)

    def _look(self) -> None:
        told_now = self.kept.due()
        for uid, model in self.models.items():
            assert _of(uid, told_now) == model.looked_at()


def _of(study: str, events: list[str]) -> list[str]:
    return [event for event in events if event.split()[1].startswith(study)]


def _copy(model: Model) -> Model:
    return Model(
        model.uid, model.instances, model.waited, model.carriers, model.announced, model.asked, model.is_complete
    )


TestAnyOrder = Machine.TestCase
TestAnyOrder.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
