"""Shape checking of annotated functions; few threads, since the suite shares small machines."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

install_import_hook(["compressor.training.losses"], "beartype.beartype")
