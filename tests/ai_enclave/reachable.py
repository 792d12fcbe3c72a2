"""What can be got at from an object, through everything that it refers to."""

import gc
from types import FunctionType, ModuleType


def reachable(root: object) -> set[str | bytes]:
    """Every text and every byte string that is kept alive by ``root``; code, which refers to everything, is left out."""
    found: set[str | bytes] = set()
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        seen[id(each)] = each
        if isinstance(each, str | bytes):
            found.add(each)
        todo += gc.get_referents(each)
    return found
