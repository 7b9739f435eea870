"""Version of a variant's code, so that a log knows which of its records still describe it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
from pathlib import Path

from te_kernels.variant import all_variants

#: Interfaces that every kernel imports and none depends on for its code.
_INTERFACES = ("te_kernels.task", "te_kernels.variant", "te_kernels.check")
#: Modules so named only propose knobs. A record is of the knobs that were measured, whoever proposed them.
_PROPOSES = "_model"


@functools.cache
def variant_revision(name: str) -> str:
    """Version of a variant's code: a digest of its module and of all kernel code it imports, comments excluded.

    A changed schedule makes its old measurements invisible instead of silently wrong; a changed docstring does not.
    """
    digest = hashlib.sha256()
    for module in sorted(_kernel_imports(all_variants()[name].__module__)):
        digest.update(_code_only(_path(module)).encode())
    return digest.hexdigest()[:12]


@functools.cache
def _kernel_imports(module: str) -> frozenset[str]:
    """``module`` and, transitively, the modules of ``te_kernels`` that it imports, interfaces left out."""
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _direct_imports(name)
    return frozenset(found)


@functools.cache
def _direct_imports(module: str) -> tuple[str, ...]:
    found = []
    for node in ast.walk(_syntax(_path(module))):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [other for other in imported if _is_kernel_code(other) and _is_module(other)]
    return tuple(found)


def _is_kernel_code(name: str) -> bool:
    return name.startswith("te_kernels.") and not name.startswith(_INTERFACES) and not name.endswith(_PROPOSES)


def _path(module: str) -> Path:
    return Path(str(importlib.import_module(module).__file__))


def _syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def _is_module(name: str) -> bool:
    """Whether a dotted name is a module and not something inside one."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


@functools.cache
def _code_only(path: Path) -> str:
    tree = _syntax(path)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.unparse(tree)
