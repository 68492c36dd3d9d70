"""What must train again does, and what need not does not: each edit to a small package, by its effect on the digest."""

import importlib
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from claimwise.lab.code_digest import code_digest, reached

PACKAGE = {
    "acme/__init__.py": '''
        """Acme."""
        from acme.models import Net as Network
        from .star import *
    ''',
    "acme/registry.py": """
        class Paper:
            def __init__(self, key):
                self.key = key

            def experiment(self, **plans):
                return lambda function: function

            def figure(self, *experiments, title):
                return lambda function: function

            def claim(self, name, **details):
                pass
    """,
    "acme/models/__init__.py": "from .net import Net, Unused",
    "acme/models/net.py": """
        import torch
        from torch import nn

        class Base(nn.Module):
            gain = 2.0

            def forward(self, x):
                return self.gain * self.layer(x)

        class Net(Base):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(2, 2)

        class Unused(nn.Module):
            pass
    """,
    "acme/training.py": """
        from acme.numerics import steps
        from acme.star import *
        from torch.nn.functional import mse_loss as distance

        def train(model, rate=0.1):
            return distance(model(1), steps.descend(rate)) + in_the_same_module()

        def untouched():
            return 1
    """,
    "acme/numerics/__init__.py": "",
    "acme/numerics/steps.py": """
        import math
        import random as chance

        ROUNDS = 3 if chance else 4

        def descend(rate):
            return math.exp(rate) * ROUNDS
    """,
    "acme/star.py": """
        def starred():
            return 4

        def in_the_same_module():
            return 12
    """,
    "acme/lazy.py": """
        def late():
            return 5
    """,
    "acme/tables.py": """
        import os

        RATES = {"slow": 0.1}
        RATES["fast"] = 1.0
        RATES.update(medium=0.5)
        ORDER = [1]
        ORDER += [2]
        SEED: int = 3
        FAST = False
        if FAST:
            def pick():
                return 1
        else:
            def pick():
                return 2
        try:
            import nothing_like_this
        except ImportError:
            nothing_like_this = 7
        for POWER in range(3):
            RATES[POWER] = POWER
        OTHER = 1
    """,
    "acme/wrappers.py": """
        import functools

        def doubled(function):
            @functools.wraps(function)
            def wrapped(*arguments):
                return 2 * function(*arguments)
            return wrapped
    """,
    "acme/dynamic.py": """
        def __getattr__(name):
            if name == "ANSWER":
                return 42
            from acme import behind
            return getattr(behind, name)
    """,
    "acme/behind.py": """
        def hidden():
            return 8
    """,
    "acme/aliased.py": """
        def shown():
            return 9

        def hidden_from_view():
            return 10
    """,
    "acme/registered.py": """
        def first():
            return 1

        def second():
            return 2
    """,
    "acme/fish.py": '''
        """A note about fish."""
        from __future__ import annotations

        from dataclasses import dataclass

        import torch

        import acme
        import acme.aliased as short
        import acme.numerics.steps
        from acme import registered, starred
        from acme.dynamic import ANSWER, hidden
        from acme.registry import Paper
        from acme.tables import FAST, ORDER, RATES, SEED, nothing_like_this, pick
        from acme.training import train as fit
        from acme.wrappers import doubled
        from claimwise.lab.storage import write_json

        paper = Paper("fish")
        LIMIT = 10


        @dataclass(frozen=True)
        class Optics:
            lens: str = "flat"

            def focus(self):
                return thickness(self.lens)


        @dataclass(frozen=True)
        class Eyes(Optics):
            depth: int = 3


        @dataclass(frozen=True)
        class Fish:
            """Settings."""

            fins: int = 2
            """How many fins."""
            eyes: Eyes = Eyes()

            @property
            def pairs(self):
                return halved(self.fins)


        def thickness(lens):
            return len(lens)


        def halved(n):
            return n // 2


        @doubled
        def helper(x, scale=1.0):
            return x * scale + hidden() + ANSWER


        def called_in_lambda(x):
            return x + 1


        def unrelated():
            return 0


        @paper.experiment(quick=1, small=2)
        def swim(run: Run, setup: Fish) -> Measurements:
            """Let a fish swim."""
            from acme.lazy import late  # only here

            def inner(x):
                """Doc."""
                return [called_in_lambda(y) for y in x]

            model = acme.Network()
            loss = fit(model) + helper(3) + starred() + late() + pick() + SEED + short.shown()
            for name in ("first", "second"):
                loss += getattr(registered, name)()
            loss += RATES["fast"] + ORDER[0] + LIMIT + nothing_like_this
            write_json(paper.key, {})
            return {"loss": loss, "inner": inner([acme.numerics.steps.descend(1)])}


        @paper.figure(swim, title="Fins")
        def curve(results):
            return unrelated()


        paper.claim("fast", reported={swim: 1}, holds=swim)
    ''',
}

SAME = [
    ("fish.py", "# only here", "# only here, as it is heavy", "a comment"),
    ("fish.py", "A note about fish.", "A longer note.", "the note"),
    ("fish.py", "Let a fish swim.", "Let it swim.", "a function's docstring"),
    ("fish.py", '"""Doc."""', "'Documentation.'", "an inner function's docstring"),
    ("fish.py", "Settings.", "Its settings.", "a class's docstring"),
    ("fish.py", '    """How many fins."""\n', "", "a field's docstring"),
    ("fish.py", "run: Run, setup: Fish) -> Measurements", "run, setup: Fish) -> dict[str, float]", "an annotation"),
    ("fish.py", "setup: Fish", 'setup: "Fish"', "a quoted annotation"),
    ("fish.py", "quick=1, small=2", "quick=1, small=3, paper=unrelated()", "a plan"),
    ("fish.py", "fins: int = 2", "fins: int = 4", "a default of the settings, whose value is in the identity"),
    ("fish.py", 'title="Fins"', 'title="Wings"', "a figure's title"),
    ("fish.py", "return unrelated()", "return 1 + unrelated()", "a figure"),
    ("fish.py", "reported={swim: 1}", "reported={swim: 2}", "a claim"),
    ("fish.py", 'Paper("fish")', 'Paper("fishes")', "the paper"),
    ("fish.py", "return 0", "return 1", "an unrelated function"),
    ("fish.py", "x * scale + hidden()", "(x * scale)+(hidden( ))", "formatting"),
    (
        "fish.py",
        "from acme.training import train as fit",
        "from acme.training import train as fit, untouched",
        "imports",
    ),
    ("training.py", "return 1", "return 2", "an unrelated function elsewhere"),
    (
        "training.py",
        "def train(model, rate=0.1)",
        "def train(model: Network, rate: float = 0.1) -> float",
        "annotations",
    ),
    ("training.py", "import steps\n", "import steps\n\n\n\n", "empty lines"),
    ("models/net.py", "pass", "x = 1", "an unrelated class"),
    ("models/__init__.py", ", Unused", "", "another re-export"),
    ("tables.py", "OTHER = 1", "OTHER = 2", "an unrelated constant"),
    ("tables.py", "SEED: int = 3", "SEED = 3", "the annotation of a constant"),
    ("registry.py", "pass", "return 1", "the code of papers"),
    ("aliased.py", "return 10", "return 11", "another function of a module under another name"),
]

OTHER = [
    ("fish.py", "LIMIT = 10", "LIMIT = 11", "a constant"),
    ("fish.py", "return n // 2", "return -(-n // 2)", "what a property of the settings calls"),
    ("fish.py", "return halved(self.fins)", "return halved(self.fins + 1)", "a property of the settings"),
    ("fish.py", "return len(lens)", "return 2", "what a base of the settings of the settings calls"),
    ("fish.py", "scale=1.0", "scale=2.0", "a default argument"),
    ("fish.py", "@doubled\n", "", "a decorator"),
    ("fish.py", "return x + 1", "return x + 2", "what a comprehension of an inner function calls"),
    ("fish.py", "y in x", "y in x[1:]", "an inner function"),
    ("training.py", "rate=0.1", "rate=0.2", "a default argument of an imported function"),
    ("training.py", "mse_loss as", "l1_loss as", "which function of another package a name means"),
    ("numerics/steps.py", "math.exp(rate)", "math.exp(-rate)", "a helper two modules away"),
    ("numerics/steps.py", "ROUNDS = 3 ", "ROUNDS = 5 ", "a constant two modules away"),
    ("numerics/steps.py", "import math", "import numpy as math", "which module of another package a name means"),
    ("models/net.py", "self.gain * self.layer(x)", "self.layer(x)", "a method of a base of a re-exported class"),
    ("models/net.py", "gain = 2.0", "gain = 3.0", "an attribute of a base class"),
    ("models/net.py", "class Net(Base)", "class Net(nn.Module)", "the base of a class"),
    ("models/__init__.py", "import Net, Unused", "import Unused as Net", "what is re-exported"),
    ("__init__.py", "import Net as Network", "import Unused as Network", "what a package's name means"),
    ("star.py", "return 4", "return 5", "a starred import"),
    ("star.py", "return 12", "return 13", "a starred import used where it is made"),
    ("numerics/steps.py", "random as", "cmath as", "which module of another package is used whole"),
    ("lazy.py", "return 5", "return 6", "a function imported inside a function"),
    ("wrappers.py", "2 * function", "3 * function", "a decorator's code"),
    ("tables.py", '"slow": 0.1', '"slow": 0.2', "a table"),
    ("tables.py", '["fast"] = 1.0', '["fast"] = 2.0', "an item set in a table"),
    ("tables.py", "medium=0.5", "medium=0.6", "an update of a table"),
    ("tables.py", "range(3)", "range(4)", "a loop that fills a table"),
    ("tables.py", "ORDER += [2]", "ORDER += [3]", "an augmented assignment"),
    ("tables.py", "SEED: int = 3", "SEED: int = 4", "an annotated constant"),
    ("tables.py", "return 2", "return 3", "a conditional definition"),
    ("tables.py", "FAST = False", "FAST = True", "the condition of a definition"),
    ("tables.py", "nothing_like_this = 7", "nothing_like_this = 8", "the fallback of an import"),
    ("aliased.py", "return 9", "return 10", "a function of a module under another name"),
    ("registered.py", "return 2", "return 3", "a function looked up in a module by a computed name"),
    ("behind.py", "return 8", "return 9", "a function behind a module's __getattr__"),
    ("dynamic.py", "return 42", "return 43", "a value that a module's __getattr__ makes"),
]


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(content).lstrip("\n"))


def forget(top):
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """The package's folder, importable during the test."""
    write(tmp_path, PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    forget("acme")
    yield tmp_path / "acme"
    forget("acme")


def swim():
    return importlib.import_module("acme.fish").swim


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(("file", "old", "new", "what"), [pytest.param(*case, id=case[-1]) for case in SAME])
def test_what_determines_no_number_is_outside(acme, file, old, new, what):
    before = code_digest(swim())
    edit(acme / file, old, new)
    assert code_digest(swim()) == before


@pytest.mark.parametrize(("file", "old", "new", "what"), [pytest.param(*case, id=case[-1]) for case in OTHER])
def test_what_determines_numbers_is_inside(acme, file, old, new, what):
    before = code_digest(swim())
    edit(acme / file, old, new)
    assert code_digest(swim()) != before


def test_what_is_reached(acme):
    assert reached(swim()) == [
        "acme.aliased:shown",
        "acme.behind:hidden",
        "acme.dynamic:__getattr__",
        "acme.fish:Eyes (methods)",
        "acme.fish:Fish (methods)",
        "acme.fish:LIMIT",
        "acme.fish:Optics (methods)",
        "acme.fish:called_in_lambda",
        "acme.fish:halved",
        "acme.fish:helper",
        "acme.fish:swim",
        "acme.fish:thickness",
        "acme.lazy:late",
        "acme.models.net:Base",
        "acme.models.net:Net",
        "acme.numerics.steps:ROUNDS",
        "acme.numerics.steps:descend",
        "acme.registered:first",
        "acme.registered:second",
        "acme.star:in_the_same_module",
        "acme.star:starred",
        "acme.tables:FAST",
        "acme.tables:ORDER",
        "acme.tables:POWER",
        "acme.tables:RATES",
        "acme.tables:SEED",
        "acme.tables:nothing_like_this",
        "acme.tables:pick",
        "acme.training:train",
        "acme.wrappers:doubled",
    ]


def test_neither_place_nor_order_in_files_matters(acme, tmp_path, monkeypatch):
    before = code_digest(swim())
    forget("acme")
    shutil.copytree(acme, tmp_path / "elsewhere" / "acme")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    steps = tmp_path / "elsewhere" / "acme" / "numerics" / "steps.py"
    steps.write_text(
        "def descend(rate):\n    return math.exp(rate) * ROUNDS\n"
        "import random as chance\nROUNDS = 3 if chance else 4\nimport math\n"
    )
    assert Path(sys.modules[swim().__module__].__file__).is_relative_to(tmp_path / "elsewhere")
    assert code_digest(swim()) == before


def test_a_moved_definition_is_another(acme):
    before = code_digest(swim())
    edit(acme / "numerics/steps.py", "ROUNDS = 3 if chance else 4\n", "from acme.tables import ROUNDS\n")
    edit(acme / "tables.py", "OTHER = 1", "import random as chance\nROUNDS = 3 if chance else 4")
    assert code_digest(swim()) != before


def test_edits_in_quick_succession_are_seen(acme):
    """Same length, same time stamp for all that a coarse clock tells."""
    digests = set()
    for limit in range(10, 30):
        edit(acme / "fish.py", f"LIMIT = {limit}", f"LIMIT = {limit + 1}")
        digests.add(code_digest(swim()))
    assert len(digests) == 20


def test_extra_roots_belong(acme):
    plain, with_root = code_digest(swim()), code_digest(swim(), [("acme.training", "untouched")])
    assert plain != with_root
    assert "acme.training:untouched" in reached(swim(), [("acme.training", "untouched")])
    edit(acme / "training.py", "return 1", "return 2")
    assert code_digest(swim()) == plain
    assert code_digest(swim(), [("acme.training", "untouched")]) != with_root


def test_a_root_in_the_lab_is_followed_within_its_module(acme):
    found = reached(swim(), [("claimwise.lab.state", "save_state")])
    assert {"claimwise.lab.state:_Writer", "claimwise.lab.state:HEADER_LIMIT"} < set(found)
    assert not any(name.startswith("claimwise.lab.storage:") for name in found)


def test_the_lab_is_reached_only_in_its_loop_and_its_measurements(tmp_path, monkeypatch):
    write(
        tmp_path,
        {
            "acme.py": """
                def experiment(run, setup):
                    from claimwise import lab
                    from claimwise.lab import EXACT, Curve, Exact as Count, NotTested, Paper, Plan, Run, all_of
                    from claimwise.lab.figures import save
                    from claimwise.lab.loop import loop
                    from claimwise.lab.storage import write_json
                    save, write_json, EXACT, NotTested, Paper, Plan, Run, all_of
                    return {"a": Count(1), "b": Curve([1], [2]), "c": lab.Proportion(1, 2), "d": loop, "e": lab.Plan}
            """
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    forget("acme")
    found = reached(importlib.import_module("acme").experiment)
    forget("acme")
    assert {"acme:experiment", "claimwise.lab.loop:loop"} < set(found)
    assert {f"claimwise.lab.measurements:{kind}" for kind in ("Exact", "Curve", "Proportion")} < set(found)
    assert {name.partition(":")[0] for name in found} == {"acme", "claimwise.lab.loop", "claimwise.lab.measurements"}


def test_a_local_variable_is_not_the_module_of_its_name(tmp_path, monkeypatch):
    write(
        tmp_path,
        {
            "acme/__init__.py": "",
            "acme/data.py": "def load():\n    return 1\ndef clean():\n    return 2\n",
            "acme/paper.py": """
                from acme import data

                def experiment(run, setup):
                    data = run.data("x")
                    return [data for _ in data]

                def another(run, setup):
                    size = [data for data in range(3)]
                    return data.clean(), size
            """,
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    forget("acme")
    module = importlib.import_module("acme.paper")
    alone, comprehended = reached(module.experiment), reached(module.another)
    forget("acme")
    assert alone == ["acme.paper:experiment"]
    assert "acme.data:clean" in comprehended  # a comprehension's variable hides nothing outside of it


SCOPES = """
    from acme import used, unused

    criteria = [id for id in ("a", "b") if unused.criterion(id)]
    threshold = unused.criterion(4)
    limits = [1, 2]
    for row in (1, 2):
        unused.criterion(row)
    error = unused.criterion(3)
    count = 0

    def fallback():
        try:
            from acme.used import fast as speed
        except ImportError:
            speed = 1
        return speed

    def experiment(run, setup):
        squares = [threshold * id(row) for threshold, row in enumerate(used.values)] + [limits for limits in limits]
        try:
            match run:
                case [used_up, *row] if (criteria := used_up):
                    pass
        except ValueError as error:
            raise RuntimeError from error
        def counting(name):
            global count
            count += 1
            return lambda row=fallback(): row + name
        count = 5
        return squares, criteria, counting
"""


def test_names_mean_what_their_scope_says(tmp_path, monkeypatch):
    files = {
        "acme/__init__.py": "",
        "acme/used.py": "values = [1]\nother = 2\ndef fast():\n    return 1\n",
        "acme/unused.py": "def criterion(name):\n    return True\n",
        "acme/paper.py": SCOPES,
    }
    write(tmp_path, files)
    monkeypatch.syspath_prepend(tmp_path)
    forget("acme")
    found = reached(importlib.import_module("acme.paper").experiment)
    forget("acme")
    assert found == [
        "acme.paper:count",
        "acme.paper:experiment",
        "acme.paper:fallback",
        "acme.paper:limits",
        "acme.used:fast",
        "acme.used:values",
    ]


def test_a_script_has_the_digest_of_its_module_and_brings_its_neighbours(tmp_path, monkeypatch):
    write(
        tmp_path,
        {
            "fishy.py": """
                import numpy
                from neighbour import helper
                from claimwise.lab.code_digest import code_digest, reached

                def experiment(run, setup):
                    return helper(1) + numpy.sqrt(2)

                if __name__ == "__main__":
                    print(code_digest(experiment))
            """,
            "neighbour.py": "def helper(x):\n    return x\n",
        },
    )
    script = subprocess.run([sys.executable, tmp_path / "fishy.py"], capture_output=True, text=True, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    forget("fishy")
    experiment = importlib.import_module("fishy").experiment
    assert reached(experiment) == ["fishy:experiment", "neighbour:helper"]
    assert script.stdout.strip() == code_digest(experiment)
    forget("fishy")
    forget("neighbour")


def test_an_experiment_inside_a_function_counts_with_all_of_it():
    def experiment(run, setup):
        return write

    names = reached(experiment)
    assert any(name.endswith(":test_an_experiment_inside_a_function_counts_with_all_of_it") for name in names)
    assert any(name.endswith(":write") for name in names)


def test_what_has_no_source_is_refused(acme):
    namespace = {"__name__": "nowhere"}
    exec("def experiment(run, setup):\n    return {}\n", namespace)
    with pytest.raises(ValueError, match=r"nowhere\.experiment has no source file"):
        code_digest(namespace["experiment"])
    with pytest.raises(ValueError, match="not a Python function"):
        code_digest(len)
    with pytest.raises(ValueError, match=r"no source of acme\.training\.missing"):
        code_digest(swim(), [("acme.training", "missing")])
    with pytest.raises(ValueError, match=r"no source of acme\.missing\.f"):
        code_digest(swim(), [("acme.missing", "f")])


def test_nothing_is_imported_for_it(acme):
    """Except through a module's own __getattr__."""
    experiment = swim()
    for name in ("acme.lazy", "acme.numerics.steps", "acme.models.net"):
        sys.modules.pop(name, None)
    assert "acme.lazy:late" in reached(experiment)
    assert not {"acme.lazy", "acme.numerics.steps", "acme.models.net"} & set(sys.modules)


def test_it_is_quick_once_warm(acme):
    code_digest(swim(), [("claimwise.lab.loop", "fit")])
    times = []
    for _ in range(5):
        start = time.process_time()
        code_digest(swim(), [("claimwise.lab.loop", "fit")])
        times.append(time.process_time() - start)
    assert min(times) < 0.05
