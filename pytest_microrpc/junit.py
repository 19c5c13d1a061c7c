"""What pytest's own --junitxml does not write: the conversation of a failed test, as system-out of its testcase.

Properties need no help: they are in a report's `user_properties`. pytest writes captured output where junit_logging
says so, and sections of other plugins never; what a failed test says of its board is nothing that one must turn on.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator

import pytest
from _pytest.junitxml import bin_xml_escape, xml_key


class SystemOut:
    """A plugin that adds the sections of reports that have this `title` to their testcases.

    It is where reports are written, with pytest-xdist not where tests run: it has the reports alone. What XML cannot
    carry, as most control characters, is escaped.
    """

    def __init__(self, config: pytest.Config, title: str) -> None:
        self._config = config
        self._title = title

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Add it after the failure."""
        xml = self._config.stash.get(xml_key, None)
        texts = [text for title, text in report.sections if title == self._title]
        if xml is None or not texts:
            return (yield)
        testcase, opened = xml.node_reporter(report), len(xml.node_reporters_ordered)
        yield
        testcase = [testcase, *xml.node_reporters_ordered[opened:]][-1]  # a teardown that fails after its test has one
        for text in texts:
            element = ET.Element("system-out")
            element.text = bin_xml_escape(text)
            if report.when == "teardown":  # pytest is done with it, and writes this
                testcase.to_xml().append(element)
            else:
                testcase.append(element)
        return None
