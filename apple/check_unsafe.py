"""Checks that `unsafe` is where it may be, and that each use of it says why it is sound.

    python apple/check_unsafe.py [FOLDER]

- No crate but crates/apple-frameworks has the word in its code; comments and strings may.
- Every other crate takes the workspace's lints, which forbid it.
- In crates/apple-frameworks a comment with `SAFETY:` comes before each block, implementation or function, in the same
  statement; on any system, while clippy sees one at a time.

apple/stand-in, which plays Core ML in tests, is not looked at: it is no part of what is built for users.
"""

import sys
import tomllib
from pathlib import Path

from rust_source import Token, in_braces, tokens

MAY = "apple-frameworks"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    troubles = check(root)
    for trouble in troubles:
        print(f"unsafe: {trouble}", file=sys.stderr)
    return 1 if troubles else 0


def check(root: Path) -> list[str]:
    troubles = []
    workspace = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]
    if workspace.get("lints", {}).get("rust", {}).get("unsafe_code") != "forbid":
        troubles.append("the workspace's lints do not forbid unsafe_code")
    crates = sorted(manifest.parent for manifest in root.glob("crates/*/Cargo.toml"))
    if MAY not in [crate.name for crate in crates]:
        troubles.append(f"there is no crate {MAY}; this check is about another workspace")
    for crate in crates:
        if crate.name != MAY and tomllib.loads((crate / "Cargo.toml").read_text()).get("lints") != {"workspace": True}:
            troubles.append(f"{crate.name} does not take the workspace's lints, which forbid unsafe code")
        for file in sorted(crate.rglob("*.rs")):
            code = tokens(file.read_text())
            for i, token in enumerate(code):
                if token.kind != "name" or token.text != "unsafe":
                    continue
                place = f"{file.relative_to(root)}:{token.line}"
                if crate.name != MAY:
                    troubles.append(f"{place}: unsafe code outside of {MAY}")
                elif not has_reason(code, i):
                    troubles.append(f"{place}: no comment says `SAFETY:`")
    return troubles


def has_reason(code: list[Token], at: int) -> bool:
    """Whether a comment gives the reason, from the end of the statement, match arm or item before this one on."""
    if is_type(code, at):
        return True
    # Brackets that are closed again before the block do not begin its statement.
    closed = []
    for i in range(at - 1, -1, -1):
        token = code[i]
        if token.kind == "comment":
            if not closed and ("SAFETY:" in token.text or "# Safety" in token.text):
                return True
        elif token.kind != "sign":
            continue
        elif token.text in (")", "]") or token.text == "}" and (closed or not in_braces(code, opening(code, i))):
            closed.append(token.text)
        elif closed:
            if token.text in ("(", "[", "{"):
                closed.pop()
        elif token.text in (";", "{", "}") or token.text == "," and in_braces(code, i):
            return False
    return False


def is_type(code: list[Token], at: int) -> bool:
    """Whether this is the type of a function pointer, `unsafe extern "C" fn(...)`, which does nothing."""
    rest = [token.text for token in code[at + 1 : at + 5] if token.kind != "text" and token.text != "extern"]
    return rest[:2] == ["fn", "("]


def opening(code: list[Token], at: int) -> int:
    """Where the brackets open that close here."""
    depth = 0
    for i in range(at, -1, -1):
        if code[i].kind == "sign":
            depth += (code[i].text in (")", "]", "}")) - (code[i].text in ("(", "[", "{"))
            if depth == 0:
                return i
    return 0


if __name__ == "__main__":
    sys.exit(main())
