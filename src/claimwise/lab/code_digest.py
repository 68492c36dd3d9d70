"""A digest of the code that determines an experiment's numbers: what its function reaches, and nothing else.

From the function's own definition every name is followed: through its module's definitions, through imports (also
relative, re-exported, starred, lazy and inside functions) into other modules of the same package and of `claimwise`.
Other packages are not followed; a run's identity has their versions. Each definition enters as its syntax tree without
comments, docstrings and function annotations, and without the decorators that declare experiments and figures, so that
plans, claims, notes and formatting are outside.

Where names do not tell, more is taken rather than less: a module used as a value is taken whole, a class always.
Not seen: definitions found by a computed name (`globals()[name]`), registered by a decorator nobody references, or
patched in from elsewhere.
"""

import ast
import copy
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

LAB = "claimwise.lab"
FOLLOWED_IN_LAB = frozenset({"claimwise.lab.loop", "claimwise.lab.measurements"})
"""The lab's modules that determine numbers: the loop, and the kinds of measurement. The others (papers, claims,
criteria, statistics, figures, reports, storage) say what is asked of the numbers or where they are kept. Editing them
must train nothing again, so they are not followed."""

_DECLARATIONS = frozenset({"experiment", "figure"})
"""Methods of a Paper that, as decorators, carry plans and titles."""

Chain = tuple[str, ...]
"""A name and the attributes read from it: `a.b.c` is ("a", "b", "c")."""


def code_digest(function: Callable[..., Any], extra_roots: Sequence[tuple[str, str]] = ()) -> str:
    """SHA-256 over the definitions that an experiment's function reaches.

    It depends on their syntax trees and qualified names; not on files, order in files, lines, or anything not reached.
    The class of the function's settings (its parameters' annotations) enters with its methods, without its fields:
    their values are in the run's identity.

    Args:
        function: defined in a module with a source file. One defined inside another function counts with all of it.
        extra_roots: further (module, qualified name) that always belong, e.g. the loop; their modules are followed.

    Raises:
        ValueError: a root has no source.
    """
    digest = hashlib.sha256()
    for label, entry in sorted(_reach(function, extra_roots).items()):
        digest.update(json.dumps([label, *entry]).encode() + b"\n")
    return digest.hexdigest()


def reached(function: Callable[..., Any], extra_roots: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The definitions behind `code_digest`, as sorted "module:name"."""
    return sorted(_reach(function, extra_roots))


@dataclass(frozen=True)
class _Definition:
    """What a module's top level says about one name."""

    module: str
    name: str
    fields: bool = True
    """False: a class without its annotated fields."""


@dataclass(frozen=True)
class _WholeModule:
    module: str


@dataclass(frozen=True)
class _Outside:
    """Something of a package that is not followed, by the path it is imported by."""

    path: str


_Target = _Definition | _WholeModule | _Outside


def _reach(function: Callable[..., Any], extra_roots: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    function = inspect.unwrap(function)
    if not inspect.isfunction(function):
        raise ValueError(f"code_digest: not a Python function: {function!r}")
    sources = _Sources(function, frozenset(module for module, _ in extra_roots))
    root = _Definition(sources.own, function.__qualname__.partition(".")[0])
    pending: list[_Target] = [root, *(_Definition(module, name.partition(".")[0]) for module, name in extra_roots)]
    for target in pending:
        assert isinstance(target, _Definition)
        module = sources.module(target.module)
        if module is None or target.name not in module.bindings:
            raise ValueError(
                f"code_digest: no source of {target.module}.{target.name}; define it at the top level of a module file"
            )
    pending += sources.settings(root)
    entries: dict[_Definition, list[Any]] = {}
    done: set[_Target] = set()
    while pending:
        target = pending.pop()
        if target in done:
            continue
        done.add(target)
        if isinstance(target, _WholeModule):
            pending += sources.members(target.module)
        elif isinstance(target, _Definition):
            found = sources.references(target)
            pending += [to for _, to in found]
            entries[target] = [
                sources.text(target),
                sorted({f"{'.'.join(chain)} = {_label(to)}" for chain, to in found if chain}),
            ]
    return {
        _label(definition): entry
        for definition, entry in entries.items()
        if definition.fields or _Definition(definition.module, definition.name) not in entries
    }


def _label(target: _Target) -> str:
    if isinstance(target, _Definition):
        return f"{target.module}:{target.name}" + ("" if target.fields else " (methods)")
    return target.module if isinstance(target, _WholeModule) else target.path


class _Sources:
    """The modules that are followed, and the way from a name in one of them to where it is defined."""

    def __init__(self, function: Callable[..., Any], root_modules: frozenset[str]) -> None:
        try:
            file = inspect.getsourcefile(function)
        except TypeError:
            file = None
        if file is None or not Path(file).is_file():
            raise ValueError(f"code_digest: {function.__module__}.{function.__qualname__} has no source file")
        self.own = _module_name(function.__module__, file)
        self.modules: dict[str, _Module | None] = {self.own: _load(self.own, Path(file), _folders(self.own))}
        self.followed_in_lab = FOLLOWED_IN_LAB | root_modules
        self.packages = {"claimwise", self.own.partition(".")[0]}
        # A script or single-file module brings the modules beside it, unless it is installed among strangers.
        folder = Path(file).parent
        strangers = folder.name in ("site-packages", "dist-packages") or folder == Path(sysconfig.get_path("stdlib"))
        self.beside = folder if "." not in self.own and Path(file).name != "__init__.py" and not strangers else None

    def is_ours(self, module: str) -> bool:
        top = module.partition(".")[0]
        if top not in self.packages and self.stands_beside(top):
            self.packages.add(top)
        return top in self.packages

    def stands_beside(self, name: str) -> tuple[Path | None, list[Path]] | None:
        located = _locate_in([self.beside], name) if self.beside is not None else None
        return located if located and located[0] is not None else None  # a bare folder need not be a package

    def is_followed(self, module: str) -> bool:
        in_lab = module == LAB or module.startswith(f"{LAB}.")
        return self.is_ours(module) and (not in_lab or module in self.followed_in_lab)

    def module(self, name: str) -> "_Module | None":
        """A module of ours by its full name; None when there is none."""
        if name not in self.modules:
            located = self.locate(name)
            self.modules[name] = _load(name, *located) if located else None
        return self.modules[name]

    def locate(self, name: str) -> tuple[Path | None, list[Path]] | None:
        """Its file (none for a namespace package) and the folders of its submodules; found without importing it."""
        parent, _, last = name.rpartition(".")
        if parent:
            package = self.module(parent)
            return _locate_in(package.folders, last) if package else None
        if located := self.stands_beside(name):
            return located
        try:
            spec = importlib.util.find_spec(name)  # imports nothing for a name without dots
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        return (Path(spec.origin) if spec.has_location and spec.origin else None), folders

    def find(self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> list[_Target]:
        """What `module.name` is: definitions (several where the module decides at run time), a module, or outside."""
        if not self.is_ours(module):
            return [_Outside(f"{module}.{name}")]
        source = self.module(module)
        if source is None:
            return []
        found: list[_Target] = []
        if (module, name) not in seen:  # else `from . import name` in the package itself: the submodule
            seen |= {(module, name)}
            if name in source.bindings and self.is_followed(module) and name not in source.papers:
                found.append(_Definition(module, name))
            for origin, attribute in source.imports.get(name, ()):
                found += self.find(origin, attribute, seen) if attribute else [self.whole(origin)]
            if name in source.bindings or name in source.imports:
                return found
        if self.module(f"{module}.{name}") is not None:
            return [_WholeModule(f"{module}.{name}")]
        for origin in source.stars:
            if self.is_ours(origin) and (found := self.find(origin, name, seen)):
                return found
        if "__getattr__" in source.bindings:
            found = self.find_by_import(module, name, seen)
        return found

    def find_by_import(self, module: str, name: str, seen: frozenset[tuple[str, str]]) -> list[_Target]:
        """A name that the module's `__getattr__` makes: only running it tells."""
        value = getattr(importlib.import_module(module), name, None)
        if isinstance(value, ModuleType):
            return [self.whole(value.__name__)]
        origin, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        found: list[_Target] = []
        if isinstance(origin, str) and isinstance(qualified, str) and (origin, qualified) not in seen:
            found = self.find(origin, qualified.partition(".")[0], seen)
        if not found and self.is_followed(module):
            found.append(_Definition(module, "__getattr__"))
        return found

    def whole(self, module: str) -> _Target:
        return _WholeModule(module) if self.is_ours(module) else _Outside(module)

    def members(self, module: str) -> list[_Target]:
        """All that a module offers."""
        source = self.module(module)
        if source is None or not self.is_followed(module):
            return []
        return [target for name in {*source.bindings, *source.imports} for target in self.find(module, name)]

    def follow(self, source: "_Module", chain: Chain, local: dict[str, list[tuple[str, str]]]) -> Iterator[_Target]:
        """Where a chain of names in a module leads."""
        name, *attributes = chain
        targets: list[_Target] = []
        for origin, attribute in local.get(name, ()):
            targets += self.find(origin, attribute) if attribute else [self.whole(origin)]
        if name in source.bindings or name in source.imports:
            targets += self.find(source.name, name)
        elif not targets:
            for origin in source.stars:
                targets += self.find(origin, name) if self.is_ours(origin) else []
        for target in targets:
            yield from self.descend(target, attributes)

    def descend(self, target: _Target, attributes: list[str]) -> Iterator[_Target]:
        """From a module along attributes to what is meant; beyond a definition, attributes are its own affair."""
        if isinstance(target, _WholeModule) and attributes:
            name, *rest = attributes
            found = self.find(target.module, name)
            if found:
                for inner in found:
                    yield from self.descend(inner, rest)
                return
            source = self.module(target.module)
            if name.startswith("__") or source is None or name in source.bindings or name in source.imports:
                return  # known, and not followed
        yield target

    def references(self, definition: _Definition) -> list[tuple[Chain, _Target]]:
        """What a definition refers to. Links between settings classes carry no chain: they are not code of theirs."""
        source = self.module(definition.module)
        assert source is not None
        names = source.names(definition.name, definition.fields)
        found = [(chain, target) for chain in names.chains for target in self.follow(source, chain, names.imports)]
        found = [(chain, to) for chain, to in found if not isinstance(to, _WholeModule) or self.is_followed(to.module)]
        if not definition.fields:
            found += [((), target) for target in self.as_settings(source, names.annotations, names.imports)]
        return found

    def settings(self, root: _Definition) -> list[_Target]:
        """The classes that annotate the parameters of an experiment."""
        source = self.module(root.module)
        assert source is not None
        names = _Names()
        for annotation in source.signatures.get(root.name, ()):
            names.visit(_unquoted(annotation))
        return self.as_settings(source, names.chains, source.names(root.name, True).imports)

    def as_settings(
        self, source: "_Module", chains: Iterable[Chain], local: dict[str, list[tuple[str, str]]]
    ) -> list[_Target]:
        targets: list[_Target] = []
        for chain in chains:
            for target in self.follow(source, chain, local):
                if isinstance(target, _Definition):
                    module = self.module(target.module)
                    assert module is not None
                    is_class = all(isinstance(node, ast.ClassDef) for node in module.bindings[target.name])
                    targets.append(_Definition(target.module, target.name, fields=not is_class))
        return targets

    def text(self, definition: _Definition) -> str:
        source = self.module(definition.module)
        assert source is not None
        return source.text(definition.name, definition.fields)


def _module_name(name: str, file: str) -> str:
    """The name that a module has when it is imported: a script is `__main__` only to the process that runs it."""
    if name not in ("__main__", "__mp_main__"):
        return name
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec.name if spec is not None else Path(file).stem


def _folders(name: str) -> list[Path]:
    return [Path(folder) for folder in getattr(sys.modules.get(name), "__path__", ())]


def _locate_in(folders: Iterable[Path], name: str) -> tuple[Path | None, list[Path]] | None:
    for folder in folders:
        package = folder / name
        if (package / "__init__.py").is_file():
            return package / "__init__.py", [package]
        for suffix in importlib.machinery.all_suffixes():
            if (file := folder / f"{name}{suffix}").is_file():
                return file, []
        if package.is_dir():
            return None, [package]
    return None


_loaded: dict[tuple[str, Path], "_Module"] = {}


def _load(name: str, file: Path | None, folders: list[Path]) -> "_Module":
    if file is None:
        return _Module(name, b"", folders, is_package=True)
    content = file.read_bytes()
    module = _loaded.get((name, file))
    # Compared by content: a file's time stamp is too coarse for two edits in a row.
    if module is None or module.content != content:
        if file.suffix == ".py":
            module = _Module(name, content, folders, is_package=file.name == "__init__.py")
        else:
            module = _Module(name, b"", folders, is_package=False)
            module.content = content
            module.bindings["<compiled>"] = [ast.Expr(ast.Constant(hashlib.sha256(content).hexdigest()))]
        _loaded[name, file] = module
    return module


class _Module:
    """The top level of one source file."""

    def __init__(self, name: str, content: bytes, folders: list[Path], is_package: bool) -> None:
        self.name = name
        self.package = name if is_package else name.rpartition(".")[0]
        self.content = content
        self.folders = folders
        self.bindings: dict[str, list[ast.stmt]] = {}
        """By name: the statements that define or change it, in their order."""
        self.imports: dict[str, list[tuple[str, str]]] = {}
        """By name: (module, attribute), with "" for the module itself."""
        self.stars: list[str] = []
        self.papers: set[str] = set()
        """Names of Paper objects: they hold claims and plans."""
        self.signatures: dict[str, list[ast.expr]] = {}
        """By function: its parameters' annotations."""
        self._texts: dict[tuple[str, bool], str] = {}
        self._names: dict[tuple[str, bool], _Names] = {}
        tree = ast.parse(content)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.signatures[node.name] = [
                    argument.annotation
                    for argument in ast.walk(node)
                    if isinstance(argument, ast.arg) and argument.annotation is not None
                ]
        tree = _Strip().visit(tree)
        paper_classes = {"Paper"} | {
            alias.asname
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name == "Paper" and alias.asname
        }
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                chain = _chain(node.value.func)
                if chain and chain[-1] in paper_classes:
                    self.papers |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        self._index(tree.body, ())

    def text(self, name: str, fields: bool) -> str:
        if (name, fields) not in self._texts:
            self._texts[name, fields] = "\n".join(map(ast.unparse, self._definition(name, fields)))
        return self._texts[name, fields]

    def names(self, name: str, fields: bool) -> "_Names":
        if (name, fields) not in self._names:
            names = _Names(self.package)
            for node in self._definition(name, fields):
                if fields:
                    names.visit(node)
                    continue
                assert isinstance(node, ast.ClassDef)
                for inner in (*node.decorator_list, *node.keywords, *node.body):
                    names.visit(inner)
            if not fields:
                settings = _Names()
                for node in self.bindings[name]:
                    assert isinstance(node, ast.ClassDef)
                    annotations = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
                    for expression in (*node.bases, *map(_unquoted, annotations)):
                        settings.visit(expression)
                names.annotations = settings.chains
            self._names[name, fields] = names
        return self._names[name, fields]

    def _definition(self, name: str, fields: bool) -> Iterator[ast.stmt]:
        for node in self.bindings[name]:
            if not fields and isinstance(node, ast.ClassDef):
                node = copy.copy(node)
                node.body = [item for item in node.body if not isinstance(item, ast.AnnAssign)] or [ast.Pass()]
            yield node

    def _bind(self, name: str, headers: tuple[ast.stmt, ...], statement: ast.stmt) -> None:
        self.bindings.setdefault(name, []).extend([*headers, statement])

    def _index(self, statements: Iterable[ast.stmt], headers: tuple[ast.stmt, ...]) -> None:
        for node in statements:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._bind(node.name, headers, node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
                if headers:
                    for alias in node.names:
                        self._bind(alias.asname or alias.name.partition(".")[0], headers, ast.Pass())
            elif hasattr(node, "body"):
                header = _header(node)
                if header is not None:
                    for name in _bound(header):
                        self._bind(name, headers, header)
                inner = (*headers, header) if header is not None else headers
                for block in _blocks(node):
                    self._index(block, inner)
            else:
                for name in self._changed(node):
                    self._bind(name, headers, node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, origin, attribute in _imported(node, self.package):
            if name == "*":
                self.stars.append(origin)
            else:
                self.imports.setdefault(name, []).append((origin, attribute))

    def _changed(self, node: ast.stmt) -> set[str]:
        """Names that a simple statement binds or may change: targets, and what a bare call is called on or given."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            chain = _chain(node.value.func)
            if chain and (chain[0] in self.papers or chain[-1] == "claim"):
                return set()
            chains = [chain, *map(_chain, node.value.args)]
            return {chain[0] for chain in chains if chain} | _bound(node)
        return _bound(node)


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str, str]]:
    """(bound name, module, attribute) of an import statement in a module of the given package."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                yield alias.asname, alias.name, ""
            else:
                top = alias.name.partition(".")[0]
                yield top, top, ""
        return
    origin = node.module or ""
    if node.level:
        parts = package.split(".") if package else []
        base = parts[: len(parts) - node.level + 1]
        origin = ".".join([*base, origin] if origin else base)
    for alias in node.names:
        yield alias.asname or alias.name, origin, alias.name


def _chain(node: ast.AST) -> Chain:
    """`a.b.c` as a chain; empty when it starts from anything but a name. Subscripts are passed over."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def _bound(node: ast.AST) -> set[str]:
    """Names that code binds in its own scope, or whose items or attributes it sets."""
    names: set[str] = set()
    pending = [node]
    while pending:
        inner = pending.pop()
        if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript) and isinstance(inner.ctx, ast.Store):
            names |= set(_chain(inner)[:1])
        # The variables of a comprehension are its own, but `:=` in it binds outside.
        hidden = inner.target if isinstance(inner, ast.comprehension) else None
        pending += [child for child in ast.iter_child_nodes(inner) if child is not hidden]
    return names


def _header(node: ast.stmt) -> ast.stmt | None:
    """A compound statement without its blocks: the condition under which they define what they define."""
    if not isinstance(node, ast.If | ast.While | ast.For | ast.AsyncFor | ast.With | ast.AsyncWith):
        return None
    header = copy.copy(node)
    header.body = [ast.Pass()]
    if not isinstance(header, ast.With | ast.AsyncWith):
        header.orelse = []
    return header


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for part in ("body", "orelse", "finalbody"):
        yield getattr(node, part, [])
    for handler in getattr(node, "handlers", []):
        yield handler.body


def _unquoted(annotation: ast.expr) -> ast.expr:
    """An annotation with its strings read as the expressions they are."""

    class Unquote(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.expr:
            if isinstance(node.value, str):
                try:
                    return ast.parse(node.value, mode="eval").body
                except SyntaxError:  # a string of Literal[...] or of a shape
                    return node
            return node

    return Unquote().visit(copy.deepcopy(annotation))


class _Strip(ast.NodeTransformer):
    """Takes out what determines no number: docstrings, function annotations, experiments' and figures' declarations."""

    in_class = False

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if self.in_class:  # there an annotation makes a dataclass's field
            return self.generic_visit(node)
        if node.value is None:
            return None
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        if hasattr(node, "type_params"):  # since Python 3.12
            node.type_params = []
        node.decorator_list = [decorator for decorator in node.decorator_list if not _declares(decorator)]
        return self._inside(node, False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, True)

    def _inside(self, node: ast.AST, in_class: bool) -> ast.AST:
        outer, self.in_class = self.in_class, in_class
        try:
            return self.generic_visit(node)
        finally:
            self.in_class = outer

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _declares(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr in _DECLARATIONS


@dataclass
class _Names(ast.NodeVisitor):
    """The names that code uses and does not define within its own functions."""

    package: str = ""
    chains: set[Chain] = field(default_factory=set)
    imports: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Imports inside functions and classes, by the name they bind."""
    annotations: set[Chain] = field(default_factory=set)
    """Of a settings class: its bases and its fields' types."""
    scopes: list[set[str]] = field(default_factory=list)

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes, root = [node.attr], node.value
        while isinstance(root, ast.Attribute):
            attributes.append(root.attr)
            root = root.value
        if isinstance(root, ast.Name):
            self._use((root.id, *reversed(attributes)))
        else:
            self.visit(root)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, origin, attribute in _imported(node, self.package):
            self.imports.setdefault(name, []).append((origin, attribute))

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        outside = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        outside += [] if isinstance(node, ast.Lambda) else node.decorator_list
        for inner in outside:
            self.visit(inner)
        self.scopes.append(_local_names(node))
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        for statement in body:
            self.visit(statement)
        self.scopes.pop()

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)  # in the scope around
        targets = [name for generator in node.generators for name in ast.walk(generator.target)]
        self.scopes.append({n.id for n in targets if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
        self.generic_visit(node)
        self.scopes.pop()

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _use(self, chain: Chain) -> None:
        if not any(chain[0] in scope for scope in self.scopes):
            self.chains.add(chain)


def _local_names(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """What a name in the function's body means the function's own variable by; fewer names are safe, more are not."""
    arguments = function.args
    names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None}
    elsewhere = {
        name for node in ast.walk(function) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    pending: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            elsewhere |= {name for name, _, _ in _imported(node, "")}  # also where an `except` gives it another meaning
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        hidden = node.target if isinstance(node, ast.comprehension) else None  # local to the comprehension alone
        pending += [child for child in ast.iter_child_nodes(node) if child is not hidden]
    return names - elsewhere
