"""Shows that the checks here find what they are for, on copies with one thing wrong.

    python apple/test_checks.py
"""

import shutil
import tempfile
import unittest
from pathlib import Path

import bindings
import check_selectors
import check_unsafe
import rust_source
import stubs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BOUND = bindings.load(ROOT)

REFERENCE = """
| API | ObjC | macOS | iOS |
|---|---|---|---|
| states | `MLState`, `newState` | 15 | 18 |
| load async | `loadContentsOfURL:configuration:completionHandler:` | 11 | 14 |
| plans | `loadContentsOfURL:configuration:completionHandler:` | 14.4 | 17.4 (w) |
| units | `MLModelConfiguration.computeUnits` | 10.14; case cpuAndNeuralEngine 13 * | 12; 16 * |
| heat | `NSProcessInfo.thermalState` | 9.9 * | 9.9 * |
"""


class Selectors(unittest.TestCase):
    """Each test changes one file of a copy of the crate and the tables."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.copy = Path(folder.name)
        shutil.copytree(ROOT / check_selectors.CRATE, self.copy / "src")
        for table in ["selectors.tsv", "symbols.tsv"]:
            shutil.copy(HERE / table, self.copy)
        (self.copy / "api.md").write_text(REFERENCE)

    def check(self, file, old, new, *expected):
        """Replaces `old`, which must be there, or adds `new`; each expected text must be in a trouble of its own."""
        path = self.copy / file
        text = path.read_text()
        self.assertIn(old or "", text, file)
        path.write_text(text.replace(old, new) if old else text + new)
        found = check_selectors.Check(self.copy / "src", BOUND, self.copy, self.copy / "api.md").troubles()
        for part in expected:
            self.assertTrue(any(part in trouble for trouble in found), f"{part} is not in {found}")
        self.assertEqual(bool(found), bool(expected), found)

    def test_all_is_well(self):
        self.check("src/model.rs", None, "")

    def test_names_need_rows(self):
        for code, name in [
            ("fn f(m: &MLModel) { unsafe { m.configuration() }; }", "MLModel -configuration"),
            ("fn f() { unsafe { MLMultiArray::initWithShape_dataType_error(a, b, c) }; }", "MLMultiArray -initWithShape:"),
            ("fn f(o: &AnyObject) { let _: () = unsafe { msg_send![o, inventHere: 1, and: x[0]] }; }", "inventHere:and:"),
            ("fn f(o: &AnyObject) { let _: () = unsafe { msg_send![o, invent] }; }", "any class invent"),
            ("fn f() { sel!(invent:); }", "any class invent:"),
            ("fn f() { class!(MLInvention); }", "MLInvention class"),
            ("#[unsafe(method(invent:with:))] fn f(&self) {}", "any class invent:with:"),
            ("fn f() -> MLFeatureType { MLFeatureType::State }", "MLFeatureType State"),
            ("use objc2_core_ml::MLTask;", "MLTask class"),
            ("use objc2_core_video::kCVReturnError; fn f() -> i32 { kCVReturnError }", "CoreVideo kCVReturnError"),
            ("fn f() { unsafe { libc::getpid() }; }", "getpid has no row"),
            ('unsafe extern "C" { safe fn invent(); }', "invent has no row"),
            ("use objc2_core_video::CVPixelBufferGetDataSize; fn f(b: &B) { CVPixelBufferGetDataSize(b); }", "DataSize"),
        ]:
            with self.subTest(code):
                self.setUp()
                self.check("src/value.rs", None, code, name)

    def test_rows_need_uses(self):
        for table, row in [
            ("selectors.tsv", "MLModel\t-configuration\t10.14\t12.0\t-\tolder"),
            ("selectors.tsv", "MLTask\tclass\t10.15\t13.0\t-\tolder"),
            ("selectors.tsv", "MLFeatureType\tInvalid\t10.13\t11.0\t-\tolder"),
            ("symbols.tsv", "CoreVideo\tCVPixelBufferGetDataSize\t10.4\t4.0\tCVPixelBuffer.h"),
        ]:
            with self.subTest(row):
                self.setUp()
                self.check(table, None, row + "\n", "nothing uses the row " + " ".join(row.split("\t")[:2]))

    def test_every_gate_is_needed(self):
        table = check_selectors.Check(self.copy / "src", BOUND, self.copy).table
        for gate in sorted({row.gate for row in table if row.gate}):
            with self.subTest(gate):
                self.setUp()
                for file in self.copy.glob("src/**/*.rs"):
                    file.write_text(file.read_text().replace(f"{gate}.here()", "true"))
                self.check("selectors.tsv", None, "", f"gate {gate})")

    def test_helpers_are_as_safe_as_their_callers(self):
        helper = "fn fresh(m: &MLModel) { unsafe { m.newState() }; }\n"
        for caller, expected in [
            ("", ["newState is used where"]),
            ("pub fn a(m: &MLModel) { if os::STATE.here() { fresh(m) } }", []),
            ("pub fn a(m: &MLModel) { fresh(m) }", ["newState is used where"]),
            ("pub fn a(m: &MLModel, _: &MLState) { fresh(m) }", []),
            ("pub fn a(m: &MLModel, _: &MLComputePlan) { fresh(m) }", ["newState is used where"]),
            ("fn a(m: &MLModel) { fresh(m) } pub fn b(m: &MLModel) { if os::STATE.here() { a(m) } }", []),
            ("fn a(m: &MLModel) { fresh(m) } fn b(m: &MLModel) { if os::STATE.here() { a(m); fresh(m) } }", []),
            ("fn a(m: &MLModel) { fresh(m) } fn b(m: &MLModel) { a(m) }", ["newState is used where"]),
            ("fn a(m: &MLModel) { fresh(m); a(m) }", ["newState is used where"]),
        ]:
            with self.subTest(caller):
                self.setUp()
                self.check("src/model.rs", None, helper + caller, *expected)

    def test_signs_have_a_reach(self):
        use = "unsafe { m.newState() }"
        for body, expected in [
            (f"if os::STATE.here() {{ {use}; }}", True),
            (f"if a && os::STATE.here() {{ b(|| {{ {use} }}) }}", True),
            (f"if let Some(x) = y.filter(|_| os::STATE.here()) {{ {use}; }}", True),
            (f"os::STATE.here().then(|| {{ a(); c(|_| {use}) }})", True),
            (f"match x {{ A if os::STATE.here() => {use}, _ => b() }}", True),
            (f"if !os::STATE.here() {{ return; }} {use};", True),
            (f"if !os::STATE.here() || a {{ b(); return c(); }} loop {{ {use}; }}", True),
            (f"if os::STATE.here() {{ a(); }} {use};", False),
            (f"if os::STATE.here() {{ a(); }} else {{ {use}; }}", False),
            (f"if !os::STATE.here() {{ {use}; return; }}", False),
            (f"if !os::STATE.here() {{ a(); }} {use};", False),
            (f"if a {{ if !os::STATE.here() {{ return; }} b(); }} {use};", False),
            (f"let here = os::STATE.here(); {use};", False),
            (f"match x {{ A if os::STATE.here() => b(), _ => {use} }}", False),
            (f"println!(os::STATE.lack()); {use};", False),
            (f"{use}; if os::STATE.here() {{ a(); }}", False),
        ]:
            with self.subTest(body):
                self.setUp()
                expected = [] if expected else ["newState is used where"]
                self.check("src/model.rs", None, f"pub fn f(m: &MLModel) {{ {body} }}", *expected)

    def test_rows_agree_with_gates_and_the_reference(self):
        for table, old, new, *expected in [
            ("selectors.tsv", "-newState\t15.0", "-newState\t15.1", "is newer than STATE", "15.1 and 18.0, but 15.0"),
            ("selectors.tsv", "-newState\t15.0\t18.0\tSTATE", "-newState\t15.0\t18.0\t-", "names no gate"),
            ("selectors.tsv", "-newState\t15.0\t18.0\tSTATE", "-newState\t15.0\t18.0\tNONE", "os.rs has no NONE"),
            ("selectors.tsv", "-setComputeUnits:\t10.14", "-setComputeUnits:\t10.15", "10.15 and 12.0, but 10.14 and 12.0"),
            ("selectors.tsv", "-modelStructure\t14.4", "-modelStructure\t14.3", "is older than MLComputePlan itself"),
            ("symbols.tsv", "CVPixelBufferCreate\t10.4", "CVPixelBufferCreate\t12.0", "CVPixelBufferCreate is newer"),
            ("api.md", "| 15 | 18 |", "| 14 | 18 |", "MLState class: since 15.0 and 18.0, but 14.0 and 18.0"),
        ]:
            with self.subTest(new):
                self.setUp()
                self.check(table, old, new, *expected)

    def test_rows_are_there_once(self):
        self.check("selectors.tsv", None, "MLModel\tclass\t10.13\t11.0\t-\tolder\n", "there are two rows MLModel class")

    def test_clippy_denies_what_has_no_row(self):
        check = check_selectors.Check(self.copy / "src", BOUND, self.copy, self.copy / "api.md")
        check.write_clippy(self.copy / "clippy.toml")
        denied = (self.copy / "clippy.toml").read_text()
        for path, expected in [
            ("objc2_core_ml::MLModel::configuration", True),
            ("objc2_core_ml::MLGPUComputeDevice::metalDevice", True),
            ("objc2_core_ml::MLModel::newState", False),
            ("objc2_core_ml::MLFeatureProvider::featureValueForName", False),
        ]:
            self.assertEqual(f'"{path}"' in denied, expected, path)


class Unsafe(unittest.TestCase):
    def check(self, expected, may="", other="", lints="[lints]\nworkspace = true\n", forbid="forbid"):
        """Expects so many troubles with this code in the crate that may have `unsafe`, and in another one."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for crate, code, manifest in [(check_unsafe.MAY, may, ""), ("other", other, lints)]:
                (root / "crates" / crate / "src").mkdir(parents=True)
                (root / "crates" / crate / "src/lib.rs").write_text(code)
                (root / "crates" / crate / "Cargo.toml").write_text(manifest)
            (root / "Cargo.toml").write_text(f'[workspace.lints.rust]\nunsafe_code = "{forbid}"\n')
            found = check_unsafe.check(root)
            self.assertEqual(len(found), expected, f"{found} in {may}{other}")

    def test_only_one_crate_has_it(self):
        for expected, code in [
            (1, "fn f() { unsafe { g() } }"),
            (1, "unsafe impl Send for X {}"),
            (1, "#[unsafe(no_mangle)] fn f() {}"),
            (1, "fn f<'a>(x: &'a u8) -> char { unsafe { g('\\'', b'\"') } }"),
            (0, "// unsafe { }\n/* unsafe /* unsafe */ unsafe */ fn f() {}"),
            (0, 'const A: &str = "unsafe { \\" unsafe"; const B: &str = r#"unsafe " unsafe"#; const C: &[u8] = b"unsafe";'),
            (0, "#![forbid(unsafe_code)] fn not_unsafe() {}"),
        ]:
            self.check(expected, other=code)

    def test_every_crate_forbids_it(self):
        self.check(1, lints="[lints.rust]\nunsafe_code = 'allow'\n")
        self.check(1, lints="")
        self.check(1, forbid="deny")

    def test_reasons_are_given(self):
        for expected, code in [
            (0, "fn f() { // SAFETY: so.\n unsafe { g() } }"),
            (0, "fn f() { /* SAFETY: so. */ let x = unsafe { g() }; }"),
            (0, "fn f() { // SAFETY: so.\n return h(1, || i(2))(unsafe { g() }, unsafe { g() }); }"),
            (0, "fn f() { match x { // SAFETY: so.\n A if b() => unsafe { g() }, _ => c() } }"),
            (0, "// SAFETY: so.\n#[allow(x)]\nunsafe impl Send for X {}"),
            (0, "/// # Safety\n/// So.\npub unsafe fn f() {}"),
            (0, 'type F = unsafe extern "C" fn(u8); struct S { f: unsafe fn() }'),
            (1, "fn f() { unsafe { g() } }"),
            (1, "fn f() { // SAFETY: so.\n g(); unsafe { g() } }"),
            (1, "fn f() { // SAFETY: so.\n unsafe { g() } unsafe { g() } }"),
            (1, "fn f() { match x { // SAFETY: so.\n A => unsafe { g() }, B => unsafe { g() } } }"),
            (1, "fn f() { g(|| { // SAFETY: so.\n unsafe { h() } }, unsafe { h() }) }"),
            (1, "// SAFETY: so.\nunsafe impl Send for X {}\nunsafe impl Sync for X {}"),
            (1, "/// Safety first.\npub unsafe fn f() {}"),
        ]:
            self.check(expected, may=code)


class Tokens(unittest.TestCase):
    def test_tokens(self):
        for source, expected in [
            ("a::b(r#type, 'x', 'a', &'a ())", "a :: b ( type , 'x' , 'a' , & 'a ( ) )"),
            ("0..4 1.5 2.max(3) x.0.1", "0 .. 4 1.5 2 . max ( 3 ) x . 0.1"),
            ('c"x" br##"a"#b"##', 'c"x" br##"a"#b"##'),
            ("'\\u{1f}' '\\''", "'\\u{1f}' '\\''"),
        ]:
            self.assertEqual(" ".join(token.text for token in rust_source.tokens(source)), expected)

    def test_lines(self):
        self.assertEqual([token.line for token in rust_source.tokens('a "x\ny" b\n/* \n */ c')], [1, 1, 2, 3, 4])


class Stubs(unittest.TestCase):
    def test_newer_symbols_are_left_out(self):
        for text, expected in [("10.4", True), ("11.0", True), ("11.1", False), ("-", False)]:
            self.assertEqual(stubs.is_old_enough(text), expected, text)


if __name__ == "__main__":
    unittest.main()
