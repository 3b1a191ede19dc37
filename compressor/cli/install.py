"""What this install can do."""

from importlib.util import find_spec

from compressor.errors import UserError


def need_training_install() -> None:
    """Make sure that the training part is there.

    Raises:
        UserError: It is not; the message names what is missing.
    """
    missing = [name for name in ("torch", "transformers", "datasets", "onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"This install runs compressed models but cannot make them: {', '.join(missing)} not found.",
            "Install the training part: pip install '.[train]' in a checkout of the project.",
        )
