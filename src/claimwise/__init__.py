"""Claimwise: reading notes that run.

The library is imported by topic (``from claimwise.adversarial import fgsm``); the lab is the command ``claimwise``
and :mod:`claimwise.lab`. Importing this package imports nothing else, so that the command line starts at once.
"""

__version__ = "0.1.0"
