"""The exception tree. Standard library only, so that every layer may raise from it.

::

    CompressorError                 exit code 1: the run failed
    ├── StageError                  a stage broke its own contract
    │   ├── ParityError             the exported graph disagrees with torch
    │   ├── FusionError             a graph rewrite produced a model that does not load
    │   ├── QuantizationError       the int8 graph does not load or disagrees
    │   └── BenchmarkError          a measuring process failed
    └── UserError                   exit code 2: the request cannot be carried out as stated
        ├── RecipeError             a flag, a recipe key or a value
        ├── TeacherError            the teacher: not found, not an encoder, unsafe, damaged
        ├── DataError               the data: not found, unreadable, without labels
        ├── HubError                the hub: unreachable, or the name is unknown there
        ├── OutputError             the output folder: exists, unwritable, disk full
        ├── ProviderError           an execution provider was asked for and is not there
        └── ManifestError           a deployed folder: incomplete, damaged, of another format
"""


class CompressorError(Exception):
    """A failure with a message for the user.

    Args:
        message: What went wrong, with the value that was met.
        remedy: What the user can do about it; shown on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}\n{remedy}" if remedy else message)


class StageError(CompressorError):
    """A stage of the pipeline broke its own contract."""


class DivergedError(StageError):
    """A training whose weights are no numbers any more."""


class ParityError(StageError):
    """The exported graph disagrees with torch."""


class FusionError(StageError):
    """A graph rewrite produced a model that does not load."""


class QuantizationError(StageError):
    """The quantized graph does not load or disagrees with the fp32 graph."""


class BenchmarkError(StageError):
    """A measuring process failed."""


class UserError(CompressorError):
    """The request cannot be carried out as stated."""

    exit_code = 2


class RecipeError(UserError):
    """A flag, a recipe key or a value is wrong."""


class TeacherError(UserError):
    """The teacher cannot be used: not found, not an encoder, unsafe or damaged."""


class DataError(UserError):
    """The data cannot be used: not found, unreadable or without labels."""


class HubError(UserError):
    """The hub is unreachable, or does not know the name."""


class OutputError(UserError):
    """The output folder cannot be written."""


class ProviderError(UserError):
    """An execution provider was asked for that this onnxruntime does not have."""


class ManifestError(UserError):
    """A deployed folder is incomplete, damaged or of another format."""
