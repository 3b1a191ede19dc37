"""Latency, memory and load time of several models, each in fresh processes of its own."""

from compressor.benchmark.bounds import encoder_flops, floor_ms
from compressor.benchmark.inputs import TokenRows
from compressor.benchmark.plan import Budget, MeasuredModel
from compressor.benchmark.record import from_record, to_record
from compressor.benchmark.rounds import check, measure
from compressor.benchmark.summary import Ratio, Verdict, percentiles, speedup, throughput, verdict

__all__ = [
    "Budget",
    "MeasuredModel",
    "Ratio",
    "TokenRows",
    "Verdict",
    "check",
    "encoder_flops",
    "floor_ms",
    "from_record",
    "measure",
    "percentiles",
    "speedup",
    "throughput",
    "to_record",
    "verdict",
]
