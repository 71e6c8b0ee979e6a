"""JUnit XML of results, which CI systems read."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from drakkar_flow.testing.case_runner import CaseResult

__all__ = ["junit"]


def junit(results: Sequence[CaseResult]) -> str:
    """Return the results as a document, one suite for each file.

    >>> junit([CaseResult("a.test.yaml", "it works", "a.test.yaml:3", [], 0.25)]).splitlines()[1]
    '<testsuites tests="1" failures="0">'
    """
    failures = sum(bool(result.problems) for result in results)
    root = ET.Element("testsuites", tests=str(len(results)), failures=str(failures))
    for file in dict.fromkeys(result.file for result in results):
        of_file = [result for result in results if result.file == file]
        failed = sum(bool(result.problems) for result in of_file)
        suite = ET.SubElement(root, "testsuite", name=file, tests=str(len(of_file)), failures=str(failed))
        for result in of_file:
            case = ET.SubElement(suite, "testcase", classname=file, name=result.name, time=f"{result.duration_s:.3f}")
            if result.problems:
                text = _printable("\n".join([result.where, *result.problems]))
                ET.SubElement(case, "failure", message=_printable(result.problems[0])).text = text
    ET.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(root, encoding='unicode')}\n"


def _printable(text: str) -> str:
    """Replace control characters, which XML can't contain."""
    return "".join(char if char >= " " or char in "\n\t" else repr(char)[1:-1] for char in text)
