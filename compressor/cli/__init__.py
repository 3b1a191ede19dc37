"""The command line: argv to recipe, run to exit code. The only package that prints."""

from compressor.cli.app import main

__all__ = ["main"]
