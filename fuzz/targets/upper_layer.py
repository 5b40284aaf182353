"""bytes -> PDUs, fragments, events: ul/ against PS3.8 (invariants 1, 2, 3 and 5)."""

from typing import Any

from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.association import Association, State
from dcmstore.ul.framing import TOLERATED_LENGTH, Fragment, Framing
from dcmstore.ul.items import ContextResult
from dcmstore.ul.negotiation import Policy
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ
from fuzz import reference
from fuzz.oracle import bytes_held, cuttings, received, require
from fuzz.reference import PDV, Malformed, Stream

MAX_LENGTH_RECEIVED = 131_072
LONG_ITEMS = 60_000  # bytes of an input from which on an item encoded again may come out over 65535

_CODES = {AAssociateRJ: 3, AReleaseRQ: 5, AReleaseRP: 6, AAbort: 7}


def framing(data: bytes) -> None:
    """What comes out is what the standard reads in the stream, and nothing is held that could be handed on."""
    stream = reference.read_stream(data, TOLERATED_LENGTH)
    expected, is_wrong = _expected(stream)
    for pieces in cuttings(data):
        frames = Framing(MAX_LENGTH_RECEIVED)
        events, error = _gather(frames, pieces)
        require(events == expected, "other events than the stream has", events, expected)
        require((error is not None) is is_wrong, "an error where the stream has none, or none where it has", error)
        if error is None:
            held = bytes_held(frames)
            require(held <= stream.pending, "held bytes that could be handed on", held, stream.pending)
            require(frames.is_between_pdus is stream.is_between_pdus, "is_between_pdus is wrong")


def _gather(frames: Framing, pieces: list[memoryview]) -> tuple[list[Any], ProtocolError | None]:
    events: list[Any] = []
    try:
        for piece in received(pieces):
            for event in frames.receive(piece):
                if isinstance(event, Fragment):
                    _append_pdv(events, *event[:3], bytes(event.data))
                else:
                    _check_round_trip(event, sum(map(len, pieces)))
                    events.append(_shown(event))
    except ProtocolError as error:
        return events, error
    return events, None


def _append_pdv(events: list[Any], context_id: int, is_command: bool, is_last: bool, data: bytes) -> None:
    """Neighbouring parts of one command or data set count as one, for where they are cut says nothing."""
    last = events[-1] if events else None
    if last and last[0] == 4 and last[1:3] == [context_id, is_command] and not last[3]:
        last[3], last[4] = is_last, last[4] + data
    else:
        events.append([4, context_id, is_command, is_last, data])


def _expected(stream: Stream) -> tuple[list[Any], bool]:
    """What the stream must give, and whether it must end in an error."""
    events: list[Any] = []
    for part in stream.read:
        if isinstance(part, PDV):
            _append_pdv(events, part.context_id, part.is_command, part.is_last, part.data)
            continue
        try:
            events.append(said(*part))
        except Malformed:
            return events, True
    return events, stream.is_malformed


def said(kind: int, body: bytes) -> list[Any]:
    """What a PDU says, as the standard reads it. Raises Malformed."""
    if kind not in (1, 2):
        return [kind, *{3: body[1:4], 7: body[2:4]}.get(kind, b"")]
    a = reference.associate(kind, body)
    return [kind, a.version, a.called, a.calling, a.application_context, a.contexts, a.max_length, a.implementation,
            a.roles, a.identity]  # fmt: skip


def _shown(event: Any) -> list[Any]:
    """The same of a value of ul/pdu.py."""
    if not isinstance(event, AAssociateRQ | AAssociateAC):
        fields = {AAssociateRJ: ("result", "source", "reason"), AAbort: ("source", "reason")}.get(type(event), ())
        return [_CODES[type(event)], *(getattr(event, name) for name in fields)]
    info = event.user_information
    contexts: list[Any]
    if isinstance(event, AAssociateRQ):
        proposed = event.presentation_contexts
        contexts = [(c.context_id, 0, c.abstract_syntax, list(c.transfer_syntaxes)) for c in proposed]
    else:
        contexts = [(c.context_id, c.result, "", _SyntaxOf(c.transfer_syntax)) for c in event.presentation_contexts]
    identity = info.user_identity
    return [
        1 if isinstance(event, AAssociateRQ) else 2,
        event.protocol_version,
        event.called_ae_title,
        event.calling_ae_title,
        event.application_context_name,
        contexts,
        info.max_length_received,
        (info.implementation_class_uid, info.implementation_version_name),
        [(role.sop_class_uid, role.scu_role, role.scp_role) for role in info.role_selections],
        identity and (identity.kind, identity.response_requested, identity.primary, identity.secondary),
    ]


class _SyntaxOf:
    """One transfer syntax where the standard wants one: of several the first, of none an empty name."""

    def __init__(self, syntax: str) -> None:
        self._syntax = syntax

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and self._syntax == (other[0] if other else "")


def _check_round_trip(value: Any, size: int) -> None:
    try:
        encoded = pdu.encode(value)
    except ProtocolError:
        require(size > LONG_ITEMS, "what was decoded can't be encoded", value)
        return
    again = list(Framing(0).receive(memoryview(encoded)))
    require(again == [value], "encoded and decoded again, it is another", value, again)


# --- the association -----------------------------------------------------------------------------

_CT = "1.2.840.10008.5.1.4.1.1.2"
_PROFILE = {_CT: ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1"), "1.2.840.10008.1.1": ("1.2.840.10008.1.2",)}
POLICIES = (
    Policy("DCMSTORE", MAX_LENGTH_RECEIVED),
    Policy("DCMSTORE", 0, accept_unknown=False, prefer_syntax="compressed"),
    Policy("ANY-SCP", MAX_LENGTH_RECEIVED, check_called_ae_title=True, prefer_syntax="sender"),
    Policy("DCMSTORE", MAX_LENGTH_RECEIVED, profile=_PROFILE),
)

# PS3.8 table 9-21: which reasons each (result, source) may give; the transient and the permanent ones alike
_REJECTIONS = {1: (1, 2, 3, 7), 2: (1, 2), 3: (1, 2)}
# PS3.8 table 9-10 for an acceptor: what may come in each state. An A-ABORT may always come.
_MAY_COME = {State.AWAITING_ASSOCIATE_RQ: (1,), State.ESTABLISHED: (4, 5)}


def association(data: bytes) -> None:
    """The state table of the standard, whatever comes and however it is cut; every answer is a legal one."""
    policy, stream = POLICIES[data[0] % len(POLICIES)] if data else POLICIES[0], data[1:]
    for pieces in cuttings(stream):
        talk = Talk(policy)
        talk.run(pieces)
        longest = max(policy.max_length_received, TOLERATED_LENGTH) if policy.max_length_received else 0xFFFF_FFFF
        talk.check(reference.read_stream(stream, longest))


class Talk:
    """One association, driven as connection.py does."""

    def __init__(self, policy: Policy) -> None:
        self.association = Association(policy.max_length_received)
        self.policy = policy
        self._events: list[Any] = []
        self._sent: list[bytes] = []
        self._is_aborted = False

    def run(self, pieces: list[memoryview]) -> None:
        try:
            for piece in received(pieces):
                for event in self.association.receive(piece):
                    self.take(event)
        except ProtocolError as error:
            require(error.reason in AbortReason, "an abort without a reason of PS3.8 table 9-26", error)
            self._sent.append(self.association.abort(pdu.abort_for(error)))
            self._is_aborted = True

    def take(self, event: Any) -> None:
        if isinstance(event, Fragment):
            _append_pdv(self._events, *event[:3], bytes(event.data))
            return
        self._events.append(_shown(event))
        if isinstance(event, AAssociateRQ):
            answer = negotiation.negotiate(event, self.policy)
            if isinstance(answer, AAssociateRJ):
                self._sent.append(self.association.reject(answer))
            else:
                _check_acceptance(event, answer, self.policy)
                self._sent.append(self.association.accept(answer, event.user_information.max_length_received))
        elif isinstance(event, AReleaseRQ):
            self._sent.append(self.association.release())

    def check(self, stream: Stream) -> None:
        """Hold what happened to what PS3.8 table 9-10 says of this stream."""
        expected, is_aborted, kinds = self._walk(stream)
        require(self._events == expected, "other events than the state table has", self._events, expected)
        require(self._is_aborted is is_aborted, "aborted where nothing was wrong, or not where it was")
        answers = [reference.read_stream(sent, 0xFFFF_FFFF).read for sent in self._sent]
        require(all(len(answer) == 1 for answer in answers), "what was sent is not a PDU each", self._sent)
        got = [answer[0][0] for answer in answers if not isinstance(answer[0], PDV)]
        require(got == kinds, "answered with other PDUs than the state table has", got, kinds)
        for answer in answers:
            _check_answer(*answer[0])  # type: ignore[misc]

    def _walk(self, stream: Stream) -> tuple[list[Any], bool, list[int]]:
        """The events, whether it ends in our abort, and the types of the PDUs that we send."""
        events: list[Any] = []
        kinds: list[int] = []
        state = State.AWAITING_ASSOCIATE_RQ
        for part in stream.read:
            kind = 4 if isinstance(part, PDV) else part[0]
            try:
                values = [] if isinstance(part, PDV) else said(*part)
            except Malformed:
                return events, True, [*kinds, 7]
            if kind == 7:
                return [*events, values], False, kinds
            if kind not in _MAY_COME[state]:
                return events, True, [*kinds, 7]
            if isinstance(part, PDV):
                _append_pdv(events, part.context_id, part.is_command, part.is_last, part.data)
                continue
            events.append(values)
            if kind == 5:
                return events, False, [*kinds, 6]
            kinds.append(self._sent[0][0] if self._sent else 0)
            if kinds[-1] == 3:
                return events, False, kinds
            state = State.ESTABLISHED
        return events, stream.is_malformed, [*kinds, 7] if stream.is_malformed else kinds


def _check_answer(kind: int, body: bytes) -> None:
    if kind == 3:
        _, result, source, reason = body
        require(result in (1, 2) and reason in _REJECTIONS.get(source, ()), "a rejection that PS3.8 has not", body)
    elif kind == 7:
        # PS3.8 table 9-26: only the provider gives a reason, and 3 is reserved
        require(body[2] in (0, 2) and body[3] in (0, 1, 2, 4, 5, 6), "an abort that PS3.8 has not", body)
        require(body[2] == 2 or body[3] == 0, "a user's abort with a reason", body)
    elif kind == 2:
        reference.associate(2, body)


def _check_acceptance(request: AAssociateRQ, answer: AAssociateAC, policy: Policy) -> None:
    """PS3.8 9.3.3.2: an answer to each context under its ID, and of its transfer syntaxes one."""
    proposed, answered = request.presentation_contexts, answer.presentation_contexts
    ids = [context.context_id for context in proposed]
    require([context.context_id for context in answered] == ids, "other contexts are answered than were proposed")
    for context, result in zip(proposed, answered, strict=True):
        if result.result is ContextResult.ACCEPTANCE:
            require(result.transfer_syntax in context.transfer_syntaxes, "a transfer syntax nobody proposed", result)
            names = (context.abstract_syntax, result.transfer_syntax)
            require(all(map(reference.is_uid, names)), "accepted under a name that is no UID", names)
    accepted = {c.abstract_syntax for c, r in zip(proposed, answered, strict=True) if r.result == 0}
    for role in answer.user_information.role_selections:
        require(role.sop_class_uid in accepted and not role.scp_role, "a role that can't be meant", role)
    require(answer.user_information.max_length_received == policy.max_length_received, "another maximum length")
    _check_round_trip(answer, 0)
