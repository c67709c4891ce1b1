"""``python -m laboratory``: the commands of the laboratory, with what each is for."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def commands() -> dict[str, str]:
    """{what ``python -m`` takes: the first sentence of its docstring} of every module that can be run."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        if path == Path(__file__).resolve():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        runs = path.name == "__main__.py" or any(
            isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
        if runs:
            place = path.parent if path.name == "__main__.py" else path.with_suffix("")
            said = ast.get_docstring(tree)
            if not said:  # a package that says what it is for in its own file
                said = ast.get_docstring(ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8"))) or ""
            found[".".join(["laboratory", *place.relative_to(FOLDER).parts])] = " ".join(said.split("\n\n")[0].split())
    return found


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m laboratory", description=f"{__doc__} Each has --help; "
                            "laboratory/README.md says what they need and make.").parse_args(arguments)
    for name, said in commands().items():
        sys.stdout.write(f"python -m {name}\n    {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
