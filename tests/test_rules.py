"""For which objects a line of the ini counts, and rules that would count for none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import rules
from dcmstore.values import NotAllowed

FACTS = {
    "modality": "CT",
    "calling_ae_title": "CT 1",
    "host": "2001:db8::7",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "root_key": "images",
}


@pytest.mark.parametrize(
    "rule",
    [
        "[modality=MR,ct]", "[modality=C*]", "[modality=?T]", "[ae=CT?1]", "[ae=MR1,CT*]", "[host=2001:DB8:0::7]",
        "[host=2001:db8::*]", "[host=192.0.2.*,2001:db8::7]", "[class=1.2.840.10008.5.1.4.1.1.2]", "[class=1.2.*]",
        "[root=images]", "[root=*]", "[ROOT=Images modality=CT]", "[ modality=CT ]",
    ],
)  # fmt: skip
def test_a_rule_that_means_an_object_counts_for_it(rule: str) -> None:
    read, rest = rules.split(f"{rule} what to do")
    assert read.matches(FACTS)
    assert rest == "what to do"
    other = dict.fromkeys(FACTS, "-")
    assert not read.matches(other) or rule == "[root=*]"


def test_without_a_rule_a_line_counts_for_all() -> None:
    read, rest = rules.split("what to do [modality=CT]")
    assert read.matches(FACTS) and read.matches({})
    assert rest == "what to do [modality=CT]"


def test_the_terms_hold_together_and_of_a_study_one_value_is_enough() -> None:
    read, _ = rules.split("[modality=MR root=images] x")
    assert read.matches({**FACTS, "modality": "CT\\MR"})
    assert not read.matches({**FACTS, "modality": "CT\\MR", "root_key": "rdsr"})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("[modality=CT;MR]", "';' in 'modality=CT;MR' separates nothing; allowed is a comma: 'modality=CT,MR'"),
        ("[ae=CT1;CT2]", "';' in 'ae=CT1;CT2' separates nothing; allowed is a comma: 'ae=CT1,CT2'"),
        ("[modality=CT|MR]", "'CT|MR' is no value of modality=; allowed is a modality, such as CT, several with"),
        ("[modality=CT, MR]", "'' is no value of modality=; allowed is a modality"),
        ("[modality=CT MR]", "'MR' is no term of a rule; allowed is [modality= ae= host= class= root=] with values"),
        ("[modality]", "'modality' is no term of a rule; "),
        ("[colour=red]", "'colour=red' is no term of a rule; "),
        ("[root=foo]", "'foo' is no value of root=; allowed is images or rdsr"),
        ("[root=images,foo]", "'foo' is no value of root=; allowed is images or rdsr"),
        ("[host=ct1.hospital.example]", "'ct1.hospital.example' is no value of host=; allowed is an address"),
        ("[host=192.0.2.0/24]", "'192.0.2.0/24' is no value of host=; allowed is an address"),
        ("[class=CTImageStorage]", "'CTImageStorage' is no value of class=; allowed is a SOP Class UID, such as"),
        ("[ae=A-TITLE-OF-17-CHR]", "'A-TITLE-OF-17-CHR' is no value of ae=; allowed is an AE title of a sender, "),
        ("[]", "the rule [] is empty; allowed is [modality= "),
        ("[ ]", "the rule [] is empty; allowed is [modality= "),
        ("[modality=CT", "the rule has no ']'; allowed is [modality= "),
    ],
)
def test_a_rule_that_counts_for_nothing_is_refused_with_what_is_allowed(rule: str, words: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        rules.split(f"{rule} what to do")
    assert str(caught.value).startswith(words)


@given(st.text())
def test_any_line_is_read_or_refused_in_one_line(text: str) -> None:
    for line in (f"[{text}", f"[{text}]", f"[modality={text}] x", f"[host={text}] x", f"[ae=a;{text}] x"):
        try:
            rules.split(line)
        except NotAllowed as error:
            assert "allowed is " in str(error)
            assert len(str(error).splitlines()) == 1


def test_a_rule_with_nothing_behind_it_is_refused() -> None:
    with pytest.raises(NotAllowed, match=r"nothing stands behind the rule '\[modality=CT\]'; allowed is what to do, "):
        rules.split("[modality=CT]")
