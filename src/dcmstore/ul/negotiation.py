"""A-ASSOCIATE-RQ + policy -> A-ASSOCIATE-AC or -RJ: a pure function (PS3.8 9.3, PS3.7 annex D)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, uids
from dcmstore.ul.items import (
    ContextResult,
    NegotiatedContext,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from dcmstore.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ

# PS3.8 table 9-21: result (1 permanent, 2 transient), source, reason
NO_REASON_GIVEN = AAssociateRJ(1, 1, 1)
APPLICATION_CONTEXT_NAME_NOT_SUPPORTED = AAssociateRJ(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED = AAssociateRJ(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = AAssociateRJ(1, 1, 7)
USER_NOT_RECOGNIZED = AAssociateRJ(1, 2, 1)  # no reason given: there is no number for it (PS3.7 D.3.3.7)
PROTOCOL_VERSION_NOT_SUPPORTED = AAssociateRJ(1, 2, 2)
LOCAL_LIMIT_EXCEEDED = AAssociateRJ(2, 3, 2)

REJECT_REASONS = {
    NO_REASON_GIVEN: "no-reason-given",
    USER_NOT_RECOGNIZED: "no-reason-given",
    APPLICATION_CONTEXT_NAME_NOT_SUPPORTED: "application-context-name-not-supported",
    CALLING_AE_TITLE_NOT_RECOGNIZED: "calling-AE-title-not-recognized",
    CALLED_AE_TITLE_NOT_RECOGNIZED: "called-AE-title-not-recognized",
    PROTOCOL_VERSION_NOT_SUPPORTED: "protocol-version-not-supported",
    LOCAL_LIMIT_EXCEEDED: "local-limit-exceeded",
}

_IDENTITY_KINDS_ANSWERED = (1, 2)  # name, name and passcode; tokens would need a token back (PS3.7 D.3.3.7.2)

# What a context with several transfer syntaxes is answered with, by `prefer-syntax`. The data set is stored as
# it travels, so this is the encoding that lands on disk. Every sender can send uncompressed unless it has nothing
# but a lossy form, and then it proposes nothing else (PS3.5 10.1); and no sender is made to compress, which may
# lose something. Explicit VR comes first since it keeps the VR of private elements.
_UNCOMPRESSED = (
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.IMPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_BIG_ENDIAN,
    uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


def _prefer_sender(proposed: tuple[str, ...]) -> str:
    return proposed[0]


def _prefer_uncompressed(proposed: tuple[str, ...]) -> str:
    return next((syntax for syntax in _UNCOMPRESSED if syntax in proposed), proposed[0])


def _prefer_compressed(proposed: tuple[str, ...]) -> str:
    return next((syntax for syntax in proposed if syntax not in _UNCOMPRESSED), proposed[0])


PREFERENCES: dict[str, Callable[[tuple[str, ...]], str]] = {
    "uncompressed": _prefer_uncompressed,
    "sender": _prefer_sender,
    "compressed": _prefer_compressed,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What this acceptor agrees to. `max_length_received` is in bytes; 0 means unlimited."""

    ae_title: str
    max_length_received: int
    check_called_ae_title: bool = False
    accept_unknown: bool = True  # SOP classes that the standard does not list
    prefer_syntax: str = "uncompressed"  # a key of PREFERENCES
    # SOP class -> transfer syntaxes, the preferred one first. The two fields above count only without it.
    profile: Mapping[str, tuple[str, ...]] | None = None
    # The same for what is no storage, Verification aside; counts whatever the three fields above say
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def negotiate(request: AAssociateRQ, policy: Policy) -> AAssociateAC | AAssociateRJ:
    """Answer an association request where nobody else has a say in it."""
    return rejection(request, policy) or acceptance(request, policy)


def acceptance(request: AAssociateRQ, policy: Policy) -> AAssociateAC:
    """Accept a request against which `rejection` has nothing."""
    stored_by_negotiation = _storage_by_negotiation(request.user_information)
    contexts = tuple(_negotiate_context(c, policy, stored_by_negotiation) for c in request.presentation_contexts)
    return AAssociateAC(
        request.called_ae_title,
        request.calling_ae_title,
        contexts,
        UserInformation(
            max_length_received=policy.max_length_received,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            async_operations_window=_answer_window(request.user_information.async_operations_window),
            role_selections=_answer_roles(request, contexts),
            user_identity_response=_answer_identity(request.user_information.user_identity),
        ),
        repeated=request.repeated,
    )


def rejection(request: AAssociateRQ, policy: Policy) -> AAssociateRJ | None:
    """The first reason against the whole association, in the order in which a sender can mend them."""
    if not request.protocol_version & 1:  # PS3.8 9.3.2: bit 0 is version 1, other bits are not tested
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != uids.APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NAME_NOT_SUPPORTED
    if policy.check_called_ae_title and request.called_ae_title != policy.ae_title:
        return CALLED_AE_TITLE_NOT_RECOGNIZED
    return None


def _storage_by_negotiation(info: UserInformation) -> frozenset[str]:
    """SOP classes of which the sender says that their service is Storage (PS3.7 D.3.3.6)."""
    return frozenset(
        common.sop_class_uid
        for common in info.common_extended_negotiations
        if common.service_class_uid == uids.STORAGE_SERVICE_CLASS
    )


def _negotiate_context(
    context: ProposedContext, policy: Policy, stored_by_negotiation: frozenset[str]
) -> NegotiatedContext:
    if not is_supported(context.abstract_syntax, policy, stored_by_negotiation):
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
        return NegotiatedContext(context.context_id, result, uids.IMPLICIT_VR_LITTLE_ENDIAN)
    chosen = _choose_transfer_syntax(context, policy)
    if not chosen:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
        return NegotiatedContext(context.context_id, result, uids.IMPLICIT_VR_LITTLE_ENDIAN)
    return NegotiatedContext(context.context_id, ContextResult.ACCEPTANCE, chosen)


def is_supported(abstract_syntax: str, policy: Policy, stored_by_negotiation: frozenset[str] = frozenset()) -> bool:
    """Other services, what the profile lists; without one storage, and what nobody registered but somebody sends."""
    if not uids.is_uid(abstract_syntax):  # it would stand in every file of this context
        return False
    if abstract_syntax == uids.VERIFICATION or abstract_syntax in policy.others:
        return True
    if policy.profile is not None:
        return abstract_syntax in policy.profile
    if abstract_syntax in uids.STORAGE_SOP_CLASSES:
        return True
    if abstract_syntax in uids.OTHER_SOP_CLASSES:
        return False
    return policy.accept_unknown or abstract_syntax in stored_by_negotiation


def _choose_transfer_syntax(context: ProposedContext, policy: Policy) -> str:
    """The first of what is listed that is proposed, or nothing; without a profile the preference decides.

    What is no UID does not count as proposed. Verification has no data set, so none of its transfer syntaxes is
    refused: a C-ECHO works whatever the profile says.
    """
    proposed = tuple(syntax for syntax in context.transfer_syntaxes if uids.is_uid(syntax))
    listed = policy.others.get(context.abstract_syntax)
    if listed is None and policy.profile is not None:
        listed = policy.profile.get(context.abstract_syntax, ())
    if listed is not None:
        chosen = next((syntax for syntax in listed if syntax in proposed), "")
        if chosen or context.abstract_syntax != uids.VERIFICATION:
            return chosen
    return PREFERENCES[policy.prefer_syntax](proposed) if proposed else ""


def _answer_window(proposed: tuple[int, int] | None) -> tuple[int, int] | None:
    """The requestor may send as far ahead as it likes: what is not read yet waits in the network (PS3.7 D.3.3.3).

    Messages are served in the order in which they come, and nothing is asked of the requestor: it performs one at most.
    """
    return (proposed[0], 1) if proposed else None


def _answer_roles(request: AAssociateRQ, contexts: tuple[NegotiatedContext, ...]) -> tuple[RoleSelection, ...]:
    """The requestor may be SCU of what was accepted, and never SCP: nothing is sent from here (PS3.7 D.3.3.4)."""
    accepted = {
        proposed.abstract_syntax
        for proposed, answer in zip(request.presentation_contexts, contexts, strict=True)
        if answer.result is ContextResult.ACCEPTANCE
    }
    return tuple(
        RoleSelection(role.sop_class_uid, role.scu_role, False)
        for role in request.user_information.role_selections
        if role.sop_class_uid in accepted
    )


def _answer_identity(identity: UserIdentity | None) -> bytes | None:
    """A name is acknowledged with an empty response when the requestor asks for one (PS3.7 D.3.3.7.2)."""
    if identity is None or not identity.response_requested or identity.kind not in _IDENTITY_KINDS_ANSWERED:
        return None
    return b""
