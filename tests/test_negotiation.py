"""A-ASSOCIATE-RQ + policy -> A-ASSOCIATE-AC or -RJ: every answer and every refusal."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, uids
from dcmstore.ul import pdu
from dcmstore.ul.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    NegotiatedContext,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from dcmstore.ul.negotiation import PREFERENCES, REJECT_REASONS, Policy, negotiate
from dcmstore.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ
from tests.wire import NO_UIDS, UIDS, associate_requests

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root Query/Retrieve - FIND: listed, and not storage
PRIVATE = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image Storage: not listed

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
PRIVATE_SYNTAX = "1.2.3.4.5"

ACCEPTED = ContextResult.ACCEPTANCE
NO_CLASS = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
NO_SYNTAX = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED

POLICY = Policy("DCMSTORE", 65536)


def request_for(*abstract_syntaxes: str, information: UserInformation | None = None) -> AAssociateRQ:
    """A request with one context each, with the IDs 1, 3, 5 …"""
    contexts = tuple(ProposedContext(2 * n + 1, uid, (EXPLICIT,)) for n, uid in enumerate(abstract_syntaxes))
    return AAssociateRQ("DCMSTORE", "CT1", contexts, information or UserInformation(16384, "1.2.3"))


def accepted(request: AAssociateRQ, policy: Policy = POLICY) -> AAssociateAC:
    answer = negotiate(request, policy)
    assert isinstance(answer, AAssociateAC)
    return answer


def results(request: AAssociateRQ, policy: Policy = POLICY) -> list[ContextResult]:
    return [context.result for context in accepted(request, policy).presentation_contexts]


# --- rejections ------------------------------------------------------------------------------------


def test_another_protocol_version_is_rejected() -> None:
    request = replace(request_for(CT), protocol_version=2)
    # permanent, service provider (ACSE), protocol-version-not-supported
    assert negotiate(request, POLICY) == AAssociateRJ(1, 2, 2)


@pytest.mark.parametrize("version", [1, 3, 0x8001, 0xFFFF])
def test_other_bits_of_the_protocol_version_are_not_tested(version: int) -> None:
    assert isinstance(negotiate(replace(request_for(CT), protocol_version=version), POLICY), AAssociateAC)


@pytest.mark.parametrize("name", ["", "1.2.840.10008.3.1.1.2"])
def test_another_application_context_is_rejected(name: str) -> None:
    request = replace(request_for(CT), application_context_name=name)
    # permanent, service user, application-context-name-not-supported
    assert negotiate(request, POLICY) == AAssociateRJ(1, 1, 2)


@pytest.mark.parametrize("called", ["", "dcmstore", "DCMSTORE1", "OTHER"])
def test_a_request_for_another_ae_title_is_rejected_when_the_title_is_checked(called: str) -> None:
    request = replace(request_for(CT), called_ae_title=called)
    # permanent, service user, called-AE-title-not-recognized
    assert negotiate(request, replace(POLICY, check_called_ae_title=True)) == AAssociateRJ(1, 1, 7)


def test_a_request_for_our_ae_title_is_accepted_when_the_title_is_checked() -> None:
    assert isinstance(negotiate(request_for(CT), replace(POLICY, check_called_ae_title=True)), AAssociateAC)


def test_any_called_ae_title_is_accepted_when_it_is_not_checked() -> None:
    assert isinstance(negotiate(replace(request_for(CT), called_ae_title="OTHER"), POLICY), AAssociateAC)


def test_any_calling_ae_title_is_accepted() -> None:
    assert isinstance(negotiate(replace(request_for(CT), calling_ae_title=""), POLICY), AAssociateAC)


def test_the_protocol_version_goes_before_all_that_it_defines() -> None:
    request = AAssociateRQ("OTHER", "OTHER", application_context_name="1.2", protocol_version=0)
    policy = Policy("DCMSTORE", 0, check_called_ae_title=True)
    assert negotiate(request, policy) == AAssociateRJ(1, 2, 2)


# PS3.8 table 9-21
@pytest.mark.parametrize(
    ("rejection", "reason"),
    [
        (AAssociateRJ(1, 1, 1), "no-reason-given"),
        (AAssociateRJ(1, 2, 1), "no-reason-given"),
        (AAssociateRJ(1, 1, 2), "application-context-name-not-supported"),
        (AAssociateRJ(1, 1, 3), "calling-AE-title-not-recognized"),
        (AAssociateRJ(1, 1, 7), "called-AE-title-not-recognized"),
        (AAssociateRJ(1, 2, 2), "protocol-version-not-supported"),
        (AAssociateRJ(2, 3, 2), "local-limit-exceeded"),
    ],
)
def test_every_rejection_has_the_standards_words(rejection: AAssociateRJ, reason: str) -> None:
    assert REJECT_REASONS[rejection] == reason
    assert len(REJECT_REASONS) == 7


# --- which classes ---------------------------------------------------------------------------------

each_accept_unknown = pytest.mark.parametrize("accept_unknown", [False, True])


@each_accept_unknown
@pytest.mark.parametrize("abstract_syntax", [VERIFICATION, CT])
def test_verification_and_storage_are_always_accepted(accept_unknown: bool, abstract_syntax: str) -> None:
    assert results(request_for(abstract_syntax), replace(POLICY, accept_unknown=accept_unknown)) == [ACCEPTED]


@each_accept_unknown
def test_every_storage_class_is_accepted(accept_unknown: bool) -> None:
    policy = replace(POLICY, accept_unknown=accept_unknown)
    assert {results(request_for(uid), policy)[0] for uid in uids.STORAGE_SOP_CLASSES} == {ACCEPTED}


@each_accept_unknown
def test_listed_classes_of_other_services_are_never_accepted(accept_unknown: bool) -> None:
    policy = replace(POLICY, accept_unknown=accept_unknown)
    others = set(uids.OTHER_SOP_CLASSES) - {VERIFICATION}
    assert FIND in others
    assert {results(request_for(uid), policy)[0] for uid in others} == {NO_CLASS}


@each_accept_unknown
def test_a_context_without_abstract_syntax_is_never_accepted(accept_unknown: bool) -> None:
    assert results(request_for(""), replace(POLICY, accept_unknown=accept_unknown)) == [NO_CLASS]


def test_an_unknown_class_is_accepted_with_accept_unknown() -> None:
    assert results(request_for(PRIVATE), replace(POLICY, accept_unknown=True)) == [ACCEPTED]


def test_an_unknown_class_is_refused_without_accept_unknown() -> None:
    assert results(request_for(PRIVATE), replace(POLICY, accept_unknown=False)) == [NO_CLASS]


@pytest.mark.parametrize("policy", [POLICY, replace(POLICY, accept_unknown=False)])
@pytest.mark.parametrize("abstract_syntax", NO_UIDS, ids=lambda uid: ascii(uid[:20]))
def test_what_is_no_uid_is_no_class(abstract_syntax: str, policy: Policy) -> None:
    # even where the sender says that it is storage
    information = common(abstract_syntax, "1.2.840.10008.4.2")
    assert results(request_for(abstract_syntax, information=information), policy) == [NO_CLASS]


@pytest.mark.parametrize("abstract_syntax", UIDS)
def test_a_uid_of_any_kind_is_an_unknown_class(abstract_syntax: str) -> None:
    assert results(request_for(abstract_syntax)) == [ACCEPTED]


def common(sop_class_uid: str, service_class_uid: str) -> UserInformation:
    return UserInformation(common_extended_negotiations=(CommonExtendedNegotiation(sop_class_uid, service_class_uid),))


def test_common_extended_negotiation_makes_an_unknown_class_storage() -> None:
    request = request_for(PRIVATE, information=common(PRIVATE, "1.2.840.10008.4.2"))
    assert results(request, replace(POLICY, accept_unknown=False)) == [ACCEPTED]


def test_common_extended_negotiation_of_another_service_makes_no_class_storage() -> None:
    request = request_for(PRIVATE, information=common(PRIVATE, "1.2.840.10008.4.3"))
    assert results(request, replace(POLICY, accept_unknown=False)) == [NO_CLASS]


def test_common_extended_negotiation_counts_for_its_own_class_only() -> None:
    request = request_for(PRIVATE, PRIVATE + ".1", information=common(PRIVATE, "1.2.840.10008.4.2"))
    assert results(request, replace(POLICY, accept_unknown=False)) == [ACCEPTED, NO_CLASS]


def test_common_extended_negotiation_makes_no_query_storage() -> None:
    assert results(request_for(FIND, information=common(FIND, "1.2.840.10008.4.2"))) == [NO_CLASS]


# --- which transfer syntax -------------------------------------------------------------------------


def chosen(policy_name: str, *proposed: str) -> NegotiatedContext:
    request = AAssociateRQ("DCMSTORE", "CT1", (ProposedContext(1, CT, proposed),))
    (context,) = accepted(request, replace(POLICY, prefer_syntax=policy_name)).presentation_contexts
    return context


@pytest.mark.parametrize(
    ("policy_name", "proposed", "expected"),
    [
        # the sender's first one, whatever it is
        ("sender", (JPEG, EXPLICIT, IMPLICIT), JPEG),
        ("sender", (IMPLICIT, EXPLICIT), IMPLICIT),
        ("sender", (PRIVATE_SYNTAX, IMPLICIT), PRIVATE_SYNTAX),
        # the first uncompressed one of ours; explicit VR keeps the VR of private elements
        ("uncompressed", (JPEG, IMPLICIT, EXPLICIT), EXPLICIT),
        ("uncompressed", (JPEG, BIG_ENDIAN, IMPLICIT), IMPLICIT),
        ("uncompressed", (JPEG, DEFLATED, BIG_ENDIAN), BIG_ENDIAN),
        ("uncompressed", (JPEG, DEFLATED), DEFLATED),
        ("uncompressed", (JPEG_2000, JPEG), JPEG_2000),
        # the sender's first compressed one
        ("compressed", (IMPLICIT, EXPLICIT, JPEG_2000, JPEG), JPEG_2000),
        ("compressed", (DEFLATED, IMPLICIT), DEFLATED),
        ("compressed", (BIG_ENDIAN, PRIVATE_SYNTAX), PRIVATE_SYNTAX),
    ],
)
def test_the_policy_chooses_among_several_transfer_syntaxes(
    policy_name: str, proposed: tuple[str, ...], expected: str
) -> None:
    assert chosen(policy_name, *proposed) == NegotiatedContext(1, ACCEPTED, expected)


each_policy = pytest.mark.parametrize("policy_name", PREFERENCES)


def test_there_are_three_transfer_syntax_policies() -> None:
    assert set(PREFERENCES) == {"sender", "uncompressed", "compressed"}


@each_policy
@pytest.mark.parametrize("only", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, JPEG, PRIVATE_SYNTAX])
def test_a_single_transfer_syntax_is_taken_under_every_policy(policy_name: str, only: str) -> None:
    assert chosen(policy_name, only) == NegotiatedContext(1, ACCEPTED, only)


@each_policy
@pytest.mark.parametrize("proposed", [(), ("",), ("", ""), tuple(NO_UIDS)])
def test_no_transfer_syntax_is_refused_under_every_policy(policy_name: str, proposed: tuple[str, ...]) -> None:
    assert chosen(policy_name, *proposed).result is NO_SYNTAX


@each_policy
@pytest.mark.parametrize("rubbish", NO_UIDS, ids=lambda uid: ascii(uid[:20]))
def test_a_transfer_syntax_that_is_no_uid_is_never_chosen(policy_name: str, rubbish: str) -> None:
    assert chosen(policy_name, rubbish, JPEG) == NegotiatedContext(1, ACCEPTED, JPEG)


# --- with a profile --------------------------------------------------------------------------------

PROFILE = replace(POLICY, profile={CT: (JPEG, EXPLICIT, IMPLICIT), PRIVATE: (PRIVATE_SYNTAX,)})


def answer_of(policy: Policy, abstract_syntax: str, *proposed: str) -> tuple[ContextResult, str]:
    request = AAssociateRQ("DCMSTORE", "CT1", (ProposedContext(1, abstract_syntax, proposed),))
    (context,) = accepted(request, policy).presentation_contexts
    return context.result, context.transfer_syntax


def test_only_the_classes_of_a_profile_are_accepted() -> None:
    assert results(request_for(CT, "1.2.840.10008.5.1.4.1.1.4", FIND, "1.2.3", ""), PROFILE) == [
        ACCEPTED, NO_CLASS, NO_CLASS, NO_CLASS, NO_CLASS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((IMPLICIT, EXPLICIT, JPEG), JPEG),
        ((IMPLICIT, JPEG_2000, EXPLICIT), EXPLICIT),
        (("", BIG_ENDIAN, IMPLICIT), IMPLICIT),
    ],
)
@each_policy
def test_the_first_of_the_profiles_transfer_syntaxes_that_is_proposed_is_chosen(
    policy_name: str, proposed: tuple[str, ...], expected: str
) -> None:
    assert answer_of(replace(PROFILE, prefer_syntax=policy_name), CT, *proposed) == (ACCEPTED, expected)


@pytest.mark.parametrize("proposed", [(JPEG_2000,), (BIG_ENDIAN, DEFLATED), ("",), ()])
def test_a_context_without_a_transfer_syntax_of_the_profile_is_refused(proposed: tuple[str, ...]) -> None:
    assert answer_of(PROFILE, CT, *proposed)[0] is NO_SYNTAX


@pytest.mark.parametrize("accept_unknown", [True, False])
def test_a_private_class_is_accepted_when_the_profile_lists_it(accept_unknown: bool) -> None:
    policy = replace(PROFILE, accept_unknown=accept_unknown)
    assert answer_of(policy, PRIVATE, EXPLICIT, PRIVATE_SYNTAX) == (ACCEPTED, PRIVATE_SYNTAX)


def test_common_extended_negotiation_does_not_widen_a_profile() -> None:
    request = request_for("1.2.3.4", information=common("1.2.3.4", "1.2.840.10008.4.2"))
    assert results(request, PROFILE) == [NO_CLASS]


@pytest.mark.parametrize("profile", [{}, {VERIFICATION: (BIG_ENDIAN,)}])
def test_verification_is_accepted_whatever_the_profile_lists(profile: dict[str, tuple[str, ...]]) -> None:
    policy = replace(POLICY, profile=profile)
    assert answer_of(policy, VERIFICATION, JPEG, IMPLICIT) == (ACCEPTED, IMPLICIT)
    assert answer_of(policy, VERIFICATION, "", "junk")[0] is NO_SYNTAX


def test_verification_prefers_what_the_profile_lists_for_it() -> None:
    policy = replace(POLICY, profile={VERIFICATION: (BIG_ENDIAN,)})
    assert answer_of(policy, VERIFICATION, IMPLICIT, BIG_ENDIAN) == (ACCEPTED, BIG_ENDIAN)


# --- the answer as a whole -------------------------------------------------------------------------


def test_every_context_is_answered_in_its_place() -> None:
    answer = accepted(request_for(CT, FIND, VERIFICATION))
    assert [(context.context_id, context.result) for context in answer.presentation_contexts] == [
        (1, ACCEPTED),
        (3, NO_CLASS),
        (5, ACCEPTED),
    ]


def test_a_refused_context_still_names_a_transfer_syntax() -> None:
    # PS3.8 9.3.3.2: the sub-item is there, and not tested
    (context,) = accepted(request_for(FIND)).presentation_contexts
    assert context.transfer_syntax == IMPLICIT


def test_one_class_in_two_contexts_is_accepted_twice() -> None:
    request = AAssociateRQ("DCMSTORE", "CT1", (ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(3, CT, (JPEG,))))
    answer = accepted(request)
    assert [context.transfer_syntax for context in answer.presentation_contexts] == [EXPLICIT, JPEG]


def test_128_contexts_are_all_answered() -> None:
    assert results(request_for(*[CT] * 128)) == [ACCEPTED] * 128


def test_a_request_without_contexts_is_accepted_without_contexts() -> None:
    assert accepted(request_for()).presentation_contexts == ()


def test_an_association_none_of_whose_contexts_fits_is_still_accepted() -> None:
    assert results(request_for(FIND)) == [NO_CLASS]


def test_the_ae_titles_of_the_request_come_back() -> None:
    answer = accepted(AAssociateRQ("SOMEBODY", "CT1"))
    assert (answer.called_ae_title, answer.calling_ae_title) == ("SOMEBODY", "CT1")


@pytest.mark.parametrize("max_length_received", [0, 16384, 1 << 20])
def test_our_maximum_length_is_announced(max_length_received: int) -> None:
    answer = accepted(request_for(CT), replace(POLICY, max_length_received=max_length_received))
    assert answer.user_information.max_length_received == max_length_received


def test_our_implementation_is_named() -> None:
    info = accepted(request_for(CT)).user_information
    assert info.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert info.implementation_version_name == IMPLEMENTATION_VERSION_NAME


def test_our_implementation_names_keep_the_standards_lengths() -> None:
    assert len(IMPLEMENTATION_CLASS_UID) <= 64
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16


@pytest.mark.parametrize(("proposed", "agreed"), [((8, 8), (8, 1)), ((0, 0), (0, 1)), ((1, 1), (1, 1))])
def test_a_requestor_may_send_ahead_and_is_asked_for_nothing(
    proposed: tuple[int, int], agreed: tuple[int, int]
) -> None:
    request = request_for(CT, information=UserInformation(async_operations_window=proposed))
    assert accepted(request).user_information.async_operations_window == agreed


def test_a_window_that_nobody_proposes_is_not_answered() -> None:
    assert accepted(request_for(CT)).user_information.async_operations_window is None


def test_extended_negotiations_are_not_answered() -> None:
    info = UserInformation(
        extended_negotiations=(ExtendedNegotiation(CT, b"\2\0\0\0"),),
        common_extended_negotiations=(CommonExtendedNegotiation(CT, "1.2.840.10008.4.2"),),
    )
    answer = accepted(request_for(CT, information=info)).user_information
    assert answer.extended_negotiations == ()
    assert answer.common_extended_negotiations == ()


# --- roles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scu_role", [False, True])
@pytest.mark.parametrize("scp_role", [False, True])
def test_the_requestor_is_scu_if_it_wants_and_never_scp(scu_role: bool, scp_role: bool) -> None:
    request = request_for(CT, information=UserInformation(role_selections=(RoleSelection(CT, scu_role, scp_role),)))
    assert accepted(request).user_information.role_selections == (RoleSelection(CT, scu_role, False),)


def test_roles_nobody_proposes_are_not_answered() -> None:
    assert accepted(request_for(CT)).user_information.role_selections == ()


@pytest.mark.parametrize("sop_class_uid", [FIND, "1.2.3"])
def test_a_role_for_a_class_that_is_not_accepted_is_not_answered(sop_class_uid: str) -> None:
    roles = (RoleSelection(sop_class_uid, True, True), RoleSelection(CT, True, True))
    request = request_for(CT, FIND, information=UserInformation(role_selections=roles))
    assert accepted(request).user_information.role_selections == (RoleSelection(CT, True, False),)


# --- user identity ---------------------------------------------------------------------------------


def identity_response(identity: UserIdentity | None) -> bytes | None:
    request = request_for(CT, information=UserInformation(user_identity=identity))
    return accepted(request).user_information.user_identity_response


@pytest.mark.parametrize("kind", [1, 2])
def test_a_name_is_acknowledged_when_an_answer_is_requested(kind: int) -> None:
    assert identity_response(UserIdentity(kind, True, b"joe", b"secret")) == b""


@pytest.mark.parametrize("kind", [1, 2])
def test_a_name_is_not_acknowledged_when_no_answer_is_requested(kind: int) -> None:
    assert identity_response(UserIdentity(kind, False, b"joe")) is None


@pytest.mark.parametrize("kind", [0, 3, 4, 5, 255])
def test_a_token_gets_no_answer(kind: int) -> None:
    assert identity_response(UserIdentity(kind, True, b"token")) is None


def test_no_identity_gets_no_answer() -> None:
    assert identity_response(None) is None


def test_an_identity_is_never_sent_back() -> None:
    request = request_for(CT, information=UserInformation(user_identity=UserIdentity(2, True, b"joe", b"secret")))
    answer = accepted(request)
    assert answer.user_information.user_identity is None
    assert b"secret" not in pdu.encode(answer)


# --- the invariants --------------------------------------------------------------------------------

policies = st.builds(
    Policy,
    st.just("DCMSTORE"),
    st.integers(0, 0xFFFF_FFFF),
    st.booleans(),
    st.booleans(),
    st.sampled_from(sorted(PREFERENCES)),
    st.sampled_from([None, {}, PROFILE.profile, {VERIFICATION: (EXPLICIT,)}]),
)
plain_requests = associate_requests.map(
    lambda request: replace(request, application_context_name=uids.APPLICATION_CONTEXT, protocol_version=1)
)


@given(st.one_of(associate_requests, plain_requests), policies)
def test_every_request_gets_an_answer_that_can_be_sent(request: AAssociateRQ, policy: Policy) -> None:
    answer = negotiate(request, policy)
    encoded = pdu.encode(answer)
    assert pdu.decode(encoded[0], encoded[6:]) == answer


@given(plain_requests, policies)
def test_a_transfer_syntax_that_is_accepted_was_proposed(request: AAssociateRQ, policy: Policy) -> None:
    answer = negotiate(request, replace(policy, check_called_ae_title=False))
    assert isinstance(answer, AAssociateAC)
    for proposed, context in zip(request.presentation_contexts, answer.presentation_contexts, strict=True):
        assert context.context_id == proposed.context_id
        if context.result is ACCEPTED:
            assert context.transfer_syntax in proposed.transfer_syntaxes
            assert uids.is_uid(proposed.abstract_syntax)
            assert uids.is_uid(context.transfer_syntax)


def test_the_answer_repeats_ae_titles_and_reserved_bytes_as_they_came() -> None:
    titles = b"  DCMSTORE      " + b"CT1".ljust(16) + bytes(range(32))
    encoded = pdu.encode(request_for(CT))
    request = pdu.decode(1, encoded[6:10] + titles + encoded[74:])  # PS3.8 tables 9-11 and 9-17: bytes 11 to 74
    assert isinstance(request, AAssociateRQ)
    assert request.called_ae_title == "DCMSTORE"
    assert pdu.encode(accepted(request))[10:74] == titles
