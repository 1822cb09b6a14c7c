"""What the generated crates objc2-* bind: which Rust name is which selector of which class, or which C symbol."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

FRAMEWORKS = {
    "dispatch2": "libSystem",
    "objc2-core-foundation": "CoreFoundation",
    "objc2-core-ml": "CoreML",
    "objc2-core-video": "CoreVideo",
    "objc2-foundation": "Foundation",
    "objc2-io-kit": "IOKit",
}

OWNER = re.compile(r"^(?:unsafe )?impl(?:<.*?>)? (\w+)|^ *pub unsafe trait (\w+)|^extern \"C|^\}|^\);")
SELECTOR = re.compile(r"#\[unsafe\(method\(([\w:]+)\)\)\]")
FUNCTION = re.compile(r"\bfn (?:r#)?(\w+)(?:<[^(]*>)?\(")
CLASS = re.compile(r"#\[unsafe\(super\(([^)]*)\)\)\](?:\s*#\[.*\])*\s*pub struct (\w+)")
CONFORMS = re.compile(r"unsafe impl(?:<.*?>)? (\w+) for (\w+)(?:<.*?>)? \{\}")
ENUM = re.compile(r"^impl (\w+) \{\n((?:    (?:///.*|#\[.*\]|pub const .*;)\n(?:        .*\n)*)+)\}", re.MULTILINE)
CONSTANT = re.compile(r"pub const (\w+): Self\b")
PLAIN_CONSTANT = re.compile(r"^pub const (\w+):", re.MULTILINE)
FOREIGN = re.compile(r'^extern "C(?:-unwind)?" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
FOREIGN_ITEM = re.compile(r"^    pub (?:static|(?:unsafe )?fn) (\w+)", re.MULTILINE)
FOREIGN_WRAPPER = re.compile(r'^pub (?:unsafe )?extern "C(?:-unwind)?" fn (\w+)', re.MULTILINE)


@dataclass(frozen=True)
class Method:
    # The class or protocol that declares it.
    owner: str
    # With the sign that Objective-C writes before it: + of the class, - of an object.
    selector: str
    rust: str
    # The words of its result's type.
    gives: tuple[str, ...]
    crate: str


@dataclass
class Bindings:
    # By the name in Rust.
    methods: dict[str, list[Method]] = field(default_factory=dict)
    # Classes and protocols, with the crate.
    classes: dict[str, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    # The superclasses of a class, and what it and they conform to.
    above: dict[str, set[str]] = field(default_factory=dict)
    # The values of enumerations, by their type.
    values: dict[str, set[str]] = field(default_factory=dict)
    # Numbers that are part of the program, by framework.
    constants: dict[str, str] = field(default_factory=dict)
    # Functions and variables that are looked up when the program is linked, by framework.
    symbols: dict[str, str] = field(default_factory=dict)

    def lineage(self, name: str) -> set[str]:
        """A class, its superclasses, and the protocols of all of them."""
        found, new = set(), {name}
        while new:
            found |= new
            new = {above for one in new for above in self.above.get(one, ())} - found
        return found


def load(root: Path) -> Bindings:
    """The bindings that crates/apple-frameworks depends on, as Cargo.lock has them."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)["packages"]
    bindings = Bindings()
    for package in packages:
        if package["name"] in FRAMEWORKS:
            for file in sorted(Path(package["manifest_path"]).parent.glob("src/**/*.rs")):
                read(file.read_text(), package["name"], bindings)
    return bindings


def read(source: str, crate: str, bindings: Bindings) -> None:
    framework = FRAMEWORKS[crate]
    for supers, name in CLASS.findall(source):
        bindings.classes[name] = crate
        bindings.above.setdefault(name, set()).update(re.findall(r"\w+", supers))
    for name in re.findall(r"pub unsafe trait (\w+)", source):
        bindings.protocols[name] = crate
        above = re.search(rf"pub unsafe trait {name}: ([^{{]*)\{{", source)
        bindings.above.setdefault(name, set()).update(re.findall(r"\w+", above[1]) if above else ())
    for protocol, name in CONFORMS.findall(source):
        bindings.above.setdefault(name, set()).add(protocol)
    for name, body in ENUM.findall(source):
        if constants := CONSTANT.findall(body):
            bindings.values.setdefault(name, set()).update(constants)
    for name in PLAIN_CONSTANT.findall(source):
        bindings.constants[name] = framework
    foreign = [name for block in FOREIGN.findall(source) for name in FOREIGN_ITEM.findall(block)]
    for name in foreign + FOREIGN_WRAPPER.findall(source):
        bindings.symbols[name] = framework
    read_methods(source, crate, bindings)


def read_methods(source: str, crate: str, bindings: Bindings) -> None:
    lines, owner = source.split("\n"), None
    for i, line in enumerate(lines):
        if match := OWNER.match(line):
            owner = match[1] or match[2]
        if not (match := SELECTOR.search(line)) or owner is None:
            continue
        # The declaration follows the attributes, to the semicolon.
        declaration = "\n".join(lines[i + 1 : i + 40])
        name = FUNCTION.search(declaration)
        if name is None:
            # An example in a comment.
            continue
        declaration = declaration[name.start() : declaration.index(";", name.start())]
        of_object = re.match(r"fn (?:r#)?\w+(?:<[^(]*>)?\(\s*(?:&self|&mut self|this:)", declaration)
        gives = tuple(re.findall(r"\w+", declaration.rpartition("->")[2])) if "->" in declaration else ()
        # The last underscore stands for a pointer to the error, which becomes the result.
        selector = ("-" if of_object else "+") + match[1].removesuffix("_")
        method = Method(owner, selector, name[1], gives, crate)
        bindings.methods.setdefault(method.rust, []).append(method)
