"""Reads JUnit XML as others do: with a parser that is none of ours, and by what build servers count on."""

from xml.etree import ElementTree as ET

from junitparser import JUnitXml, TestSuite

_TAGS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def read_junit(text: str) -> ET.Element:
    """Return the document after checking that its counts are those of its cases, for another parser too."""
    root = ET.fromstring(text)  # noqa: S314 - of our own making
    assert root.tag == "testsuites"
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for attribute, tag in _TAGS.items():
            assert suite.get(attribute) == str(sum(case.find(tag) is not None for case in cases))
        assert all(case.get("name") and case.get("classname") and float(case.get("time", "")) >= 0 for case in cases)
    told, counted = JUnitXml.fromstring(text.encode()), JUnitXml.fromstring(text.encode())
    for each in counted:
        each.update_statistics()
    assert [_counts(each) for each in told] == [_counts(each) for each in counted]
    return root


def _counts(suite: TestSuite) -> tuple[int, ...]:
    return (suite.tests, suite.failures, suite.errors, suite.skipped)
