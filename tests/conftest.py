"""Shapes and types of the library's signatures are checked at run time while testing."""

import os
import sys
import types

os.environ.setdefault("OMP_NUM_THREADS", "1")

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# The hook names its type checker by import path; this module exists only while testing.
checking = types.ModuleType("claimwise_checking")
# PEP 484's numeric tower: an int is accepted where a float is annotated.
checking.checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
sys.modules[checking.__name__] = checking

install_import_hook(["claimwise.adversarial", "claimwise.vision", "claimwise.causal"], "claimwise_checking.checked").__enter__()
