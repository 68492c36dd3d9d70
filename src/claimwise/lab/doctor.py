"""What this machine can run: devices, memory, data, extras."""

import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from claimwise.lab.storage import available_cores

_EXTRAS = {
    "lab": ("tyro", "rich", "pooch", "scipy", "sklearn", "matplotlib", "jinja2", "lightning_fabric"),
    "cluster": ("distributed", "submitit"),
    "hpo": ("optuna",),
    "oracle": ("foolbox", "art", "captum", "statsmodels", "pandas"),
}


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{pages * size / 2**30:.1f} GiB"


def _writable(folder: Path) -> str:
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free / 2**30
    return f"{folder} ({'writable' if os.access(there, os.W_OK) else 'NOT writable'}, {free:.1f} GiB free)"


def examine(runs: Path) -> dict[str, dict[str, Any]]:
    """Findings by section, as plain values."""
    import numpy
    import torch

    from claimwise.data import list_datasets

    devices: dict[str, Any] = {"cpu": f"{available_cores()} core(s) to use, {_memory()} of memory"}
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        devices[f"cuda:{i}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    datasets = list_datasets()
    at_hand = [d.name for d in datasets if d.place not in ("missing", "to fetch")]
    extras = {}
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        extras[extra] = (
            "installed" if not missing else f'missing {", ".join(missing)}: pip install "claimwise[{extra}]"'
        )
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "devices": devices,
        "folders": {"runs": _writable(runs), "data": os.environ.get("CLAIMWISE_DATA", "CLAIMWISE_DATA is not set")},
        "data": {
            "at hand": ", ".join(at_hand),
            "to fetch": ", ".join(d.name for d in datasets if d.place == "to fetch") or "none",
            "missing": ", ".join(d.name for d in datasets if d.place == "missing") or "none",
        },
        "extras": extras,
    }
