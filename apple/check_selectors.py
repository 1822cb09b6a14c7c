"""Checks selectors.tsv and symbols.tsv against what crates/apple-frameworks uses, and its use against their versions.

    python apple/check_selectors.py [--source FOLDER] [--clippy FILE]

Objective-C looks classes and selectors up while a program runs, so no compiler sees one that the system lacks. Here the
names in our code are traced through the bindings (the crates objc2-*, as Cargo.lock has them) to what they look up, and
it is an error

- to use a class, selector, value, function or variable that has no row,
- to have a row that nothing uses,
- to use what is newer than the oldest supported systems where nothing shows that the system has it, and
- to say another version than ../shared/reference/api.md, where that is.

What shows that the system has something, for a use in a function:
- it is reached only where `GATE.here()` was true, of the row's gate, a constant of os.rs, or of one at least as new;
- or it is given, as an argument or in `self`, an object of a class that is at least as new;
- or it is not public, and the same holds for each function that calls it.
A use that is no part of a function, such as in an associated constant, has the gate in the same `impl`. Values of
enumerations may be compared with anywhere: patterns ask nothing of the system.

Types are not known here. A method's name stands for those of every class that the code has to do with, and where some
of these are newer than others the receiver's class is looked for among the arguments. With --clippy the methods and
functions that no row allows are written as a configuration for clippy, which does know types.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import bindings
import rust_source
from stubs import rows, version

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CRATE = "crates/apple-frameworks/src"
REFERENCE = ROOT.parent / "shared/reference/api.md"

OLDEST = ((11, 0), (14, 0))
GATE = re.compile(r"const (\w+): Since = Since::new\(\s*\"[^\"]*\",\s*\((\d+), (\d+)\),\s*\((\d+), (\d+)\),?\s*\)")

Versions = tuple[tuple[int, ...] | None, tuple[int, ...] | None]


@dataclass(frozen=True)
class Row:
    owner: str
    # A selector with its sign, `class`, `protocol`, or the name of a value or constant.
    name: str
    since: Versions
    # A constant of os.rs; None where every supported system has it.
    gate: str | None
    source: str

    def __str__(self) -> str:
        return f"{self.owner} {self.name}"

    @property
    def newer(self) -> bool:
        return not at_least(OLDEST, self.since)


def at_least(have: Versions, need: Versions) -> bool:
    """Whether a system of these versions, of either kind, has what came with those."""
    return all(n is None or h is not None and h >= n for h, n in zip(have, need))


@dataclass(frozen=True)
class Use:
    """A name in our code that may be one of the bindings'."""

    file: rust_source.File
    place: int
    name: str
    # `method` for .name(), `path` for Type::name(), `value` for Type::Name, `plain` for a name alone, `class` for one that
    # is looked up, `selector` for one that is written out, `foreign` for a C function that is declared here.
    kind: str
    # The type before the `::`.
    owner: str | None = None
    # The variable before the `.`.
    receiver: str | None = None

    def __str__(self) -> str:
        return f"{self.file.path.name}:{self.file.tokens[self.place].line}: {self.name}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, default=ROOT / CRATE, help="the folder to check")
    parser.add_argument("--clippy", type=Path, help="a configuration to write")
    arguments = parser.parse_args()
    check = Check(arguments.source, bindings.load(ROOT))
    troubles = check.troubles()
    if arguments.clippy:
        check.write_clippy(arguments.clippy)
    for trouble in troubles:
        print(f"selectors: {trouble}", file=sys.stderr)
    if not troubles:
        print(f"{len(check.table)} rows in selectors.tsv, {len(check.symbols)} in symbols.tsv, all used and none missing")
    return 1 if troubles else 0


class Check:
    def __init__(self, source: Path, bound: bindings.Bindings, tables: Path = HERE, reference: Path = REFERENCE):
        self.bound = bound
        self.reference = reference
        self.files = [rust_source.read(path) for path in sorted(source.rglob("*.rs"))]
        self.gates: dict[str, Versions] = {
            name: ((int(a), int(b)), (int(c), int(d)))
            for name, a, b, c, d in GATE.findall((source / "os.rs").read_text())
        }
        self.table = [
            Row(owner, name, (version(macos), version(ios)), None if gate == "-" else gate, why)
            for owner, name, macos, ios, gate, why in rows(tables / "selectors.tsv")
        ]
        self.symbols = rows(tables / "symbols.tsv")
        self.by_key = {(row.owner, row.name): row for row in self.table}

    def troubles(self) -> list[str]:
        found = self.about_rows()
        used: set[Row] = set()
        for use in self.uses:
            candidates = self.candidates(use)
            if not candidates:
                continue
            allowed = [self.by_key[key] for key in candidates if key in self.by_key]
            used.update(allowed)
            if not allowed:
                found.append(f"{use} has no row ({' or '.join(sorted(' '.join(key) for key in candidates))})")
            found += self.about_versions(use, allowed)
        for name in sorted(self.known):
            kind = "class" if name in self.bound.classes else "protocol"
            if row := self.by_key.get((name, kind)):
                used.add(row)
            else:
                found.append(f"{name} is used and has no row ({name} {kind})")
        found += [f"nothing uses the row {row}" for row in self.table if row not in used]
        return found + self.about_symbols() + self.about_reference()

    # What the code uses.

    @cached_property
    def uses(self) -> list[Use]:
        found = []
        for file in self.files:
            code = file.tokens
            for i, token in enumerate(code):
                if token.kind != "name" or i in file.imports:
                    continue
                before = code[i - 1].text if i else ""
                owner = code[i - 2].text if before == "::" and code[i - 2].kind == "name" else None
                if before == "." and is_called(code, i):
                    receiver = code[i - 2].text if code[i - 2].kind == "name" else None
                    found.append(Use(file, i, token.text, "method", receiver=receiver))
                elif before == "::" and is_called(code, i):
                    found.append(Use(file, i, token.text, "path", owner))
                elif before == "::" and owner in self.bound.values:
                    found.append(Use(file, i, token.text, "value", owner))
                elif is_looked_up(code, i) and (before == "(" or token.text in self.bound.classes):
                    found.append(Use(file, i, token.text, "class"))
                elif selector := written_selector(code, i):
                    found.append(Use(file, i, selector, "selector"))
                elif before == "fn" and code[i - 2].text in ("safe", "unsafe"):
                    # Declared in an `extern` block of our own.
                    found.append(Use(file, i, token.text, "foreign"))
                elif before not in (".", "fn", "let", "::"):
                    found.append(Use(file, i, token.text, "plain"))
        return found

    @cached_property
    def known(self) -> set[str]:
        """The classes and protocols that the code names, and those of the results of methods that it calls."""
        bound = self.bound.classes.keys() | self.bound.protocols.keys()
        imported = set().union(*(imported_by(file) for file in self.files))
        found, new = set(), imported & bound
        called = {use.name for use in self.uses if use.kind in ("method", "path")}
        while new:
            found |= new
            owners = set().union(*(self.bound.lineage(name) for name in found))
            given = {
                word
                for name in called & self.bound.methods.keys()
                for method in self.bound.methods[name]
                if method.owner in owners and (method.owner.startswith("ML") or method.owner in found)
                for word in method.gives
            }
            new = (given & bound) - found
        return found

    def candidates(self, use: Use) -> set[tuple[str, str]]:
        """Which rows allow the use; none where it is no name of the bindings'."""
        if use.kind == "value":
            return {(use.owner, use.name)} if use.name in self.bound.values[use.owner] else set()
        if use.kind == "plain":
            framework = self.bound.constants.get(use.name)
            return {(framework, use.name)} if framework else set()
        if use.kind == "class":
            return {(use.name, "class")}
        if use.kind == "selector":
            return {(row.owner, row.name) for row in self.table if row.name[1:] == use.name} or {("any class", use.name)}
        receiver = use.owner if use.kind == "path" else self.class_of(use)
        if use.kind == "path" and receiver not in self.known:
            return set()
        found = set()
        for method in self.bound.methods.get(use.name, []):
            for name in [receiver] if receiver else self.known:
                if method.owner in self.bound.lineage(name):
                    # The row may name the class or the protocol or superclass that declares it.
                    found |= {(name, method.selector)}
                    if method.owner in self.known:
                        found |= {(method.owner, method.selector)}
        return found

    def class_of(self, use: Use) -> str | None:
        """The class of a method's receiver, where it is an argument whose type names a class."""
        function = use.file.function_at(use.place)
        if function is None or use.receiver is None:
            return None
        header = use.file.arguments(function)
        for i, token in enumerate(header[:-1]):
            if token.text == use.receiver and header[i + 1].text == ":":
                for word in header[i + 2 :]:
                    if word.text in self.known:
                        return word.text
                    if word.text == ",":
                        break
        return None

    # Versions.

    def about_rows(self) -> list[str]:
        found = []
        for key in {key for key in self.by_key if [(r.owner, r.name) for r in self.table].count(key) > 1}:
            found.append(f"there are two rows {' '.join(key)}")
        for row in self.table:
            if row.gate and row.gate not in self.gates:
                found.append(f"{row}: os.rs has no {row.gate}")
            elif row.gate and not at_least(self.gates[row.gate], row.since):
                found.append(f"{row}: is newer than {row.gate}")
            elif row.newer and not row.gate:
                found.append(f"{row}: is newer than macOS 11 and iOS 14, and names no gate")
            whole = self.by_key.get((row.owner, "class")) or self.by_key.get((row.owner, "protocol"))
            if whole and not at_least(row.since, whole.since):
                found.append(f"{row}: is older than {whole.owner} itself")
        return found

    def about_versions(self, use: Use, allowed: list[Row]) -> list[str]:
        newer = [row for row in allowed if row.newer]
        if not newer or use.kind == "value" and is_pattern(use.file.tokens, use.place):
            return []
        return [
            f"{use} is used where nothing shows that the system has it ({row}, gate {row.gate})"
            for row in newer
            if not self.shown(use.file, use.place, row.since, frozenset())
        ]

    def shown(self, file: rust_source.File, place: int, since: Versions, asked: frozenset) -> bool:
        """Whether something shows, where this is, that the system is at least this new."""
        function = file.function_at(place)
        if function is None:
            block = file.block_at(place)
            return block is not None and bool(self.gates_in(file, block[1], block[2], since))
        if any(guards(file.tokens, gate, place) for gate in self.gates_in(file, function.start, place, since)):
            return True
        if self.has_object(function, since):
            return True
        calls = [call for call in self.calls(function) if call[0].function_at(call[1]) not in asked | {function}]
        asked |= {function}
        return not function.public and bool(calls) and all(self.shown(*call, since, asked) for call in calls)

    def gates_in(self, file: rust_source.File, start: int, end: int, since: Versions) -> list[int]:
        """Where a gate is asked for that is as new: `GATE.here()`."""
        code = file.tokens
        asked = [i for i in range(start, end - 2) if code[i].text in self.gates and code[i + 2].text == "here"]
        return [i for i in asked if at_least(self.gates[code[i].text], since)]

    def has_object(self, function: rust_source.Function, since: Versions) -> bool:
        """Whether an argument, or the type that has the function, shows an object of a class that is as new."""
        words = function.file.arguments(function)
        if function.owner and any(token.text == "self" for token in words):
            words = words + function.file.definition(function.owner)
        classes = {token.text for token in words} & self.known
        whole = [self.by_key.get((name, kind)) for name in classes for kind in ("class", "protocol")]
        return any(row is not None and at_least(row.since, since) for row in whole)

    def calls(self, function: rust_source.Function) -> list[tuple[rust_source.File, int]]:
        """Where the function may be called from, by its name."""
        found = []
        for use in self.uses:
            if use.name != function.name or use.kind not in ("method", "path", "plain"):
                continue
            own = use.file is function.file
            if use.kind == "method":
                fits = function.owner is not None
            elif use.kind == "path":
                fits = use.owner in (function.owner, function.file.path.stem, "Self", None)
            else:
                # A free function, in its file or where it is imported.
                imported = function.name in imported_by(use.file)
                fits = function.owner is None and (own or imported)
            if fits and not (own and use.place == function.start + 1):
                found.append((use.file, use.place))
        return found

    # Symbols.

    def about_symbols(self) -> list[str]:
        found = []
        listed = {symbol: library for library, symbol, *_ in self.symbols}
        names = {token.text for file in self.files for token in file.tokens if token.kind == "name"}
        for library, symbol, macos, ios, _source in self.symbols:
            if not at_least(OLDEST, (version(macos), version(ios))):
                found.append(f"{symbol} is newer than macOS 11 and iOS 14, where a program that refers to it cannot start")
            if symbol not in names and library not in LINKED_BY_BINDINGS:
                found.append(f"nothing uses the row {library} {symbol}")
        for use in self.uses:
            foreign = use.kind == "path" and use.owner == "libc" or use.kind == "foreign"
            bound = use.name in self.bound.symbols and use.name in imported_by(use.file)
            if (foreign or bound) and use.name not in listed:
                found.append(f"{use} has no row in symbols.tsv")
        return found

    # The reference.

    def about_reference(self) -> list[str]:
        if not self.reference.is_file():
            print(f"not compared with {self.reference.name}, which is not here")
            return []
        told = reference_rows(self.reference.read_text())
        found = []
        for row in self.table:
            theirs = [versions for what, versions in told if is_meant(row, what)]
            # Two classes may have the same selector, in rows of their own.
            if theirs and not any(agrees(row.since, versions) for versions in theirs):
                they = " or ".join(" and ".join(map(dotted, versions)) for versions in theirs)
                found.append(f"{row}: since {' and '.join(map(dotted, row.since))}, but {they} in {self.reference.name}")
        return found

    def write_clippy(self, path: Path) -> None:
        """The bindings' methods and functions that no row allows, as methods that clippy denies."""
        allowed = set()
        for row in self.table:
            allowed |= {(owner, row.name) for owner in self.bound.lineage(row.owner)}
        lines = ["disallowed-methods = ["]
        for method in sorted({m for methods in self.bound.methods.values() for m in methods}, key=str):
            if (method.owner, method.selector) not in allowed:
                path_of = f"{method.crate.replace('-', '_')}::{method.owner}::{method.rust}"
                lines.append(f'    {{ path = "{path_of}", reason = "apple/selectors.tsv has no row", allow-invalid = true }},')
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join([*lines, "]", ""])
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


# What std, objc2 and the bindings refer to by themselves has rows too; the linker says if one is missing.
LINKED_BY_BINDINGS = {"CoreFoundation", "libiconv.2", "libobjc.A"}


def imported_by(file: rust_source.File) -> set[str]:
    return {file.tokens[i].text for i in file.imports}


def is_called(code: list[rust_source.Token], place: int) -> bool:
    after = code[place + 1].text if place + 1 < len(code) else ""
    return after == "(" or after == "::" and code[place + 2].text == "<"


def guards(code: list[rust_source.Token], gate: int, use: int) -> bool:
    """Whether the use is only reached where `GATE.here()` was true.

    That is so in the rest of the statement or match arm that asks, to the end of its first block; and after a block with
    a `return` that asks for the opposite, `!GATE.here()`, to the end of what that block is in.
    """
    start = gate - 2 if code[gate - 1].text == "::" else gate
    if code[start - 1].text != "!":
        return use < end_of_statement(code, gate)
    block = next(i for i in range(gate, len(code)) if code[i].text == "{")
    end = end_of_statement(code, gate)
    returns = any(token.text == "return" for token in code[block:end])
    return returns and end <= use < end_of_block(code, end)


def end_of_block(code: list[rust_source.Token], place: int) -> int:
    """Where the block ends that this is in."""
    depth = 0
    for i in range(place, len(code)):
        depth += (code[i].text in ("(", "[", "{")) - (code[i].text in (")", "]", "}"))
        if depth < 0:
            return i
    return len(code)


def end_of_statement(code: list[rust_source.Token], place: int) -> int:
    opened = []
    for i in range(place, len(code)):
        text = code[i].text
        if text in ("(", "[", "{"):
            opened.append(text)
        elif text in (")", "]", "}"):
            if not opened and text == "}" or opened and opened.pop() == "{" and not opened:
                return i + 1
        elif not opened and (text == ";" or text == "," and rust_source.in_braces(code, i)):
            return i
    return len(code)


def is_looked_up(code: list[rust_source.Token], place: int) -> bool:
    """Whether this is the class of `downcast_ref::<Class>` or `class!(Class)`."""
    before = [token.text for token in code[place - 3 : place]]
    return before in (["downcast_ref", "::", "<"], ["class", "!", "("])


def written_selector(code: list[rust_source.Token], place: int) -> str | None:
    """The selector of `msg_send![object, selector: x]`, `sel!(selector:)` or `#[unsafe(method(selector:))]`."""
    after = [token.text for token in code[place + 1 : place + 3]]
    if code[place].text == "msg_send" and after[:1] == ["!"]:
        written = after_comma(code, place + 2)
    elif code[place].text == "sel" and after[:1] == ["!"]:
        written = flat(code, place + 2)
    elif code[place].text == "method" and after[:1] == ["("] and code[place - 2].text == "unsafe":
        written = flat(code, place + 1)
    else:
        return None
    # Its parts are followed by a colon, unless it is a single one.
    parts = [a.text for a, b in zip(written, written[1:]) if a.kind == "name" and b.text == ":"]
    return "".join(part + ":" for part in parts) or (written[0].text if written else None)


def flat(code: list[rust_source.Token], place: int) -> list[rust_source.Token]:
    """The tokens in the brackets that open here, without those in further brackets."""
    depth, found = 0, []
    for token in rust_source.in_brackets(code, place):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        if depth == 0 and token.text not in (")", "]", "}"):
            found.append(token)
    return found


def after_comma(code: list[rust_source.Token], place: int) -> list[rust_source.Token]:
    tokens = flat(code, place)
    return next((tokens[i + 1 :] for i, token in enumerate(tokens) if token.text == ","), [])


def is_pattern(code: list[rust_source.Token], place: int) -> bool:
    """Whether a path that ends here is compared with: in an arm of a match, or beside an operator."""
    return code[place + 1].text in ("=>", "|", "if") or code[place - 3].text in ("=", "!") and code[place - 4].text in "=!"


def reference_rows(text: str) -> list[tuple[str, Versions]]:
    """Each name in the table's second column with its first versions; None for those that do not bind."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 6 or not re.search(r"\d", cells[3]):
            continue
        for name in re.findall(r"`([^`]+)`", cells[2]) or re.findall(r"`([^`]+)`", cells[1]):
            found.append((name, (first_version(cells[3]), first_version(cells[4]))))
    return found


def first_version(cell: str) -> tuple[int, ...] | None:
    """The version that a cell begins with. A star says that it is from general knowledge, so that it does not bind."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.\d+)?(?: *\(w\))?(;.*)?$", cell)
    return (int(match[1]), int(match[2] or 0)) if match else None


def agrees(ours: Versions, theirs: Versions) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(ours, theirs))


def is_meant(row: Row, what: str) -> bool:
    """Whether a name of the reference, such as `MLModel.availableComputeDevices` or `newState`, is this row's."""
    owner, _, name = what.rpartition(".")
    if row.name in ("class", "protocol"):
        return what == row.owner
    if owner and owner.strip(".") and not row.owner.endswith(owner.strip(".")):
        return False
    selector = row.name.lstrip("+-")
    setter = f"set{name[:1].upper()}{name[1:]}:"
    return selector in (name, setter)


def dotted(numbers: tuple[int, ...] | None) -> str:
    return ".".join(str(number) for number in numbers) if numbers else "any"


if __name__ == "__main__":
    sys.exit(main())
