"""Reads Rust as far as the checks here need it: tokens, and where functions begin and end."""

import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>[bc]?r(?P<hashes>\#*)")
  | (?P<text>[bc]?"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\[^\n]+?|[^'\\\n])')
  | (?P<lifetime>'\w+)
  | (?P<name>(?:r\#)?[^\W\d]\w*)
  | (?P<number>\d[\w.]*?(?=\.\.|\.[^\W\d]|[^\w.]|$))
  | (?P<sign>::|=>|->|\.\.=|\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


def tokens(source: str) -> list[Token]:
    """All tokens but white space. Names have no `r#`; every kind of comment is a `comment`, of string a `text`."""
    found, at, line = [], 0, 1
    while at < len(source):
        match = TOKEN.match(source, at)
        kind, end = match.lastgroup, match.end()
        if kind == "block":
            kind, end = "comment", end_of_block_comment(source, at)
        elif kind in ("raw", "hashes"):
            closing = '"' + match["hashes"]
            kind, end = "text", source.index(closing, end) + len(closing)
        text = source[at:end]
        if kind != "space":
            found.append(Token(kind, text.removeprefix("r#") if kind == "name" else text, line))
        line += text.count("\n")
        at = end
    return found


def end_of_block_comment(source: str, at: int) -> int:
    depth = 0
    for mark in re.finditer(r"/\*|\*/", source[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    return len(source)


@dataclass(eq=False)
class Function:
    """A function with a body. Numbers are places in the file's list of tokens."""

    file: "File"
    name: str
    # The type whose `impl` it is in, or the trait; None for a free function.
    owner: str | None
    # Anyone outside the crate may call it.
    public: bool
    start: int
    body: int
    end: int

    def __str__(self) -> str:
        return f"{self.owner}::{self.name}" if self.owner else self.name


@dataclass(eq=False)
class File:
    path: Path
    # Without comments.
    tokens: list[Token] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    # Types and traits with the place where their `impl` or definition begins and ends.
    blocks: list[tuple[str, int, int]] = field(default_factory=list)
    # Places within `use`.
    imports: set[int] = field(default_factory=set)

    def arguments(self, function: Function) -> list[Token]:
        at = function.start + 2
        if self.tokens[at].text == "<":
            depth = 0
            while depth or self.tokens[at].text == "<":
                depth += (self.tokens[at].text == "<") - (self.tokens[at].text == ">")
                at += 1
        return in_brackets(self.tokens, at)

    def function_at(self, place: int) -> Function | None:
        """The innermost function around a place."""
        around = [f for f in self.functions if f.start <= place < f.end]
        return max(around, key=lambda f: f.start, default=None)

    def block_at(self, place: int) -> tuple[str, int, int] | None:
        around = [block for block in self.blocks if block[1] <= place < block[2]]
        return max(around, key=lambda block: block[1], default=None)

    def definition(self, name: str) -> list[Token]:
        """The tokens of `struct NAME`."""
        for i, token in enumerate(self.tokens[:-1]):
            if token.text in ("struct", "enum") and self.tokens[i + 1].text == name:
                return self.tokens[i : end_of_item(self.tokens, i)]
        return []


def read(path: Path) -> File:
    file = File(path, [token for token in tokens(path.read_text()) if token.kind != "comment"])
    code = file.tokens
    for i, token in enumerate(code):
        if token.kind != "name":
            continue
        before = code[i - 1].text if i else ";"
        if token.text == "use" and before not in (".", "::", "<", ","):
            file.imports.update(range(i, end_of_item(code, i)))
        elif token.text == "impl" and before in ("}", ";", "{", "]", "unsafe"):
            file.blocks.append((implementor(code, i), i, end_of_item(code, i)))
        elif token.text in ("struct", "enum", "trait") and code[i + 1].kind == "name":
            file.blocks.append((code[i + 1].text, i, end_of_item(code, i)))
    for i, token in enumerate(code):
        if token.text == "fn" and i + 1 < len(code) and code[i + 1].kind == "name":
            end = end_of_item(code, i)
            if code[end - 1].text != "}":
                continue
            body = next(j for j in range(i, end) if code[j].text == "{")
            owner = file.block_at(i)
            file.functions.append(
                Function(file, code[i + 1].text, owner and owner[0], is_public(code, i), i, body, end)
            )
    return file


def in_braces(code: list[Token], at: int) -> bool:
    """Whether the innermost brackets around this place are braces, or none, so that a comma ends an arm or a field."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if code[i].kind != "sign":
            continue
        if code[i].text in (")", "]", "}"):
            depth += 1
        elif code[i].text in ("(", "[", "{"):
            if depth == 0:
                return code[i].text == "{"
            depth -= 1
    return True


def in_brackets(code: list[Token], at: int) -> list[Token]:
    """What is in the first brackets from here on."""
    depth, start = 0, None
    for i in range(at, len(code)):
        if code[i].text in ("(", "[", "{"):
            depth += 1
            start = i + 1 if start is None else start
        elif code[i].text in (")", "]", "}"):
            depth -= 1
            if depth == 0 and start is not None:
                return code[start:i]
    return []


def end_of_item(code: list[Token], at: int) -> int:
    """Past the first `;` or the first block in braces that is in no brackets."""
    depth = 0
    for i in range(at, len(code)):
        text = code[i].text
        if text in ("(", "[", "{"):
            depth += 1
        elif text in (")", "]", "}"):
            depth -= 1
            if depth == 0 and text == "}":
                # `use a::{b};` and tuples of a type go on to the semicolon.
                return i + 2 if i + 1 < len(code) and code[i + 1].text == ";" else i + 1
        elif text == ";" and depth == 0:
            return i + 1
    return len(code)


def implementor(code: list[Token], at: int) -> str:
    """The name of the type that an `impl` is for: the last one outside of generics before `where` and the body."""
    name, depth = "", 0
    for token in code[at + 1 :]:
        if token.text == "{" or token.text == "where" and depth == 0:
            break
        if token.text in ("<", ">"):
            depth += 1 if token.text == "<" else -1
        elif token.text == "for" and depth == 0:
            name = ""
        elif token.kind == "name" and depth == 0:
            name = token.text
    return name


def is_public(code: list[Token], at: int) -> bool:
    """Whether `pub`, and not `pub(crate)`, is before this `fn`."""
    qualifiers = ("unsafe", "const", "async", "extern")
    i = at - 1
    while i >= 0 and (code[i].text in qualifiers or code[i].kind == "text"):
        i -= 1
    return i >= 0 and code[i].text == "pub"
