"""A finding that nothing explains is bad, and so is an explanation without a finding."""

from __future__ import annotations

from audit.judgement import Judgement

REASONS = {"B403 src/.*": "it must"}


def judged(*findings: str) -> Judgement:
    judgement = Judgement("tool 1.0", "the source")
    judgement.judge(findings, REASONS)
    return judgement


def test_what_is_explained_is_good_and_on_the_page() -> None:
    page = "\n".join(judged("B403 src/a.py", "B403 src/b.py").page())
    assert "**Good.**" in page
    assert "* `B403 src/a.py`; `B403 src/b.py`: it must" in page


def test_any_other_finding_is_bad() -> None:
    judgement = judged("B403 src/a.py", "B301 src/a.py")
    assert judgement.bad == ["B301 src/a.py"]
    assert "**Bad.**" in "\n".join(judgement.page())


def test_an_explanation_without_a_finding_is_bad() -> None:
    assert judged().bad == ["accepted, but no longer found: B403 src/.*"]


def test_a_tool_that_is_missing_is_named_with_the_reason() -> None:
    assert "**Not run**: not installed." in Judgement("tool", "it", missing="not installed").page()
