"""Writes what the linker needs to know of Apple's libraries: which symbols each of them has.

    python apple/stubs.py FOLDER

The folder becomes a development kit as far as a linker looks: symbols.tsv for each framework, and for the system
library the list in Zig's wheel, which check.sh unpacks beside the folder. What the oldest supported system lacks is left
out, since a program that refers to it would not start there.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST_MACOS = (11, 0)
FRAMEWORKS = "System/Library/Frameworks"

# Frameworks that bindings name for their types alone.
WITHOUT_SYMBOLS = ["CoreGraphics", "CoreML", "CoreVideo", "Foundation", "IOKit", "IOSurface", "ImageIO", "Metal"]


def main() -> int:
    kit = Path(sys.argv[1])
    libraries: dict[str, list[str]] = {name: [] for name in WITHOUT_SYMBOLS}
    for library, symbol, macos, _ios, _source in rows(HERE / "symbols.tsv"):
        if is_old_enough(macos):
            libraries.setdefault(library, []).append(symbol)
    for library, symbols in libraries.items():
        if library == "libSystem":
            continue
        if library.startswith("lib"):
            name, _, number = library.partition(".")
            path = f"usr/lib/{library}"
            write(kit / f"{path}.tbd", f"/{path}.dylib", symbols)
            if number:
                write(kit / f"usr/lib/{name}.tbd", f"/{path}.dylib", symbols)
        else:
            path = f"{FRAMEWORKS}/{library}.framework"
            write(kit / path / f"{library}.tbd", f"/{path}/Versions/A/{library}", symbols)
    system = (kit.parent / "ziglang/lib/libc/darwin/libSystem.tbd").read_text()
    # The linker does not know the newest processors' name.
    system = re.sub(r"arm64e\.x1-", "arm64-", system)
    for name in ["libSystem", "libc", "libm"]:
        write_if_new(kit / f"usr/lib/{name}.tbd", system)
    return 0


def is_old_enough(macos: str) -> bool:
    since = version(macos)
    return since is not None and since <= OLDEST_MACOS


def rows(table: Path) -> list[list[str]]:
    """The rows of a table whose columns are separated by tabs or runs of spaces; lines that begin with # are not rows."""
    lines = [line for line in table.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [re.split(r"\t+| {2,}", line.strip()) for line in lines]


def version(text: str) -> tuple[int, ...] | None:
    """A version as numbers; None for "-", a system that does not have it at all."""
    return None if text == "-" else tuple(int(part) for part in text.split("."))


def write(path: Path, installed: str, symbols: list[str]) -> None:
    listed = ", ".join(f"'_{symbol}'" for symbol in sorted(symbols))
    write_if_new(
        path,
        f"""--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos ]
install-name: '{installed}'
current-version: 1.0.0
exports:
  - targets: [ arm64-macos ]
    symbols: [ {listed} ]
...
""",
    )


def write_if_new(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
