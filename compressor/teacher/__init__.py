"""The teacher: found, fetched, refused where it is unsafe, inspected and loaded."""

from compressor.teacher.inspection import TeacherFacts, inspect
from compressor.teacher.loading import load, with_new_head

__all__ = ["TeacherFacts", "inspect", "load", "with_new_head"]
