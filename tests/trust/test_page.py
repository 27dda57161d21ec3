"""The page of the experiments: rows of today take the place of older ones, and the others stay."""

from .conftest import rewritten

PAGE = """# Page
<!-- trust:begin -->
| | experiment | seen | on |
|---|---|---|---|
| 5 | mutations of IDX | 9 files | 1 May 2026 |
| 6 | bits | all noticed | 2 May 2026 |

- 1 May 2026: a machine; python 3.11.
- 2 May 2026: another; python 3.11.
<!-- trust:end -->
The end.
"""


def test_rows_of_today_are_merged():
    figures = {(5, "mutations of IDX"): "10 files", (10, "soak"): "no growth"}
    expected = PAGE.replace("9 files | 1 May", "10 files | 3 May")
    expected = expected.replace("2 May 2026 |\n", "2 May 2026 |\n| 10 | soak | no growth | 3 May 2026 |\n")
    expected = expected.replace("- 1 May 2026: a machine; python 3.11.\n", "")
    expected = expected.replace("<!-- trust:end", "- 3 May 2026: a machine; python 3.13.\n<!-- trust:end")
    page = rewritten(PAGE, "trust", figures, "3 May 2026", "a machine; python 3.13.")
    assert page == expected
    assert rewritten(page, "trust", figures, "3 May 2026", "a machine; python 3.13.") == page
