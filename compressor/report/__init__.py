"""The report of a run: report.json is the contract, the pages are drawn from it alone."""

from compressor.report.card import model_card
from compressor.report.document import Findings, document
from compressor.report.write import write_report

__all__ = ["Findings", "document", "model_card", "write_report"]
