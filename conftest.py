"""While testing: signatures are checked at run time, and the examples of docstrings, README and docs are run."""

import os
import sys
import types
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

# CI looks at the same examples each time; whoever runs the tests by hand looks for new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# The hook names its type checker by import path; this module exists only while testing.
checking = types.ModuleType("claimwise_checking")
# PEP 484's numeric tower: an int is accepted where a float is annotated.
checking.checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
sys.modules[checking.__name__] = checking

TOPICS = [
    "claimwise.adversarial",
    "claimwise.causal",
    "claimwise.doors",
    "claimwise.explain",
    "claimwise.layers",
    "claimwise.recurrent",
    "claimwise.undisturbed",
    "claimwise.vision",
]
install_import_hook(TOPICS, "claimwise_checking.checked").__enter__()

_documents = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["README.md", "docs/*.md"])
_docstrings = Sybil(
    parsers=[DocTestParser(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)],
    patterns=["src/claimwise/**/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (_documents + _docstrings).pytest()
