"""The report: one HTML page of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.report.page import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "WrittenReport": "page",
        "write_report": "page",
    },
)
