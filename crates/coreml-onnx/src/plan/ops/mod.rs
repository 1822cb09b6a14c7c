//! The operators that lowering writes: for each, the size of its results and what its kernel asks for beside them.
//!
//! One row and one function an operator, in its family's file. What a kernel does with buffers was measured on ONNX
//! Runtime 1.32, operator by operator, with its allocator counted (`tools/check_plan.py kernels`).

mod elementwise;
mod index;
mod product;
mod recurrent;
mod reduction;
mod shape;
mod window;

use super::{
    fact::{Fact, count},
    reader::Operands,
};

/// What is known of a node's results; `None` where nothing is.
type Inferred = Option<Vec<Fact>>;

/// How one operator is planned.
pub(super) struct Operator {
    /// Its name.
    pub(super) onnx: &'static str,
    /// The sizes of its results.
    pub(super) infer: fn(&Operands<'_>) -> Inferred,
    /// Where its first result goes.
    pub(super) place: Place,
    /// Bytes that the kernel takes while it runs, beside its results.
    pub(super) workspace: fn(&Operands<'_>, &[Fact]) -> usize,
    /// Floating-point operations, from the operands and the results: a multiplication and an addition are two, any
    /// function of one number is one, and what only moves numbers is none.
    pub(super) flops: fn(&Operands<'_>, &[Fact]) -> u64,
}

/// Where a result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into a buffer of its own.
    Fresh,
    /// Onto the first operand, where that has the same shape and nobody reads it later.
    Over,
    /// It is the first operand, seen in another shape.
    View,
}

impl Operator {
    const fn new(onnx: &'static str, infer: fn(&Operands<'_>) -> Inferred) -> Operator {
        Operator { onnx, infer, place: Place::Fresh, workspace: |_, _| 0, flops: |_, _| 0 }
    }

    const fn in_place(self) -> Operator {
        Operator { place: Place::Over, ..self }
    }

    const fn view(self) -> Operator {
        Operator { place: Place::View, ..self }
    }

    const fn workspace(self, workspace: fn(&Operands<'_>, &[Fact]) -> usize) -> Operator {
        Operator { workspace, ..self }
    }

    const fn flops(self, flops: fn(&Operands<'_>, &[Fact]) -> u64) -> Operator {
        Operator { flops, ..self }
    }
}

/// The elements of a value; 0 where nothing is known.
fn elements(fact: Option<&Fact>) -> u64 {
    fact.and_then(|fact| fact.shape.as_deref()).map_or(0, |shape| count(shape) as u64)
}

/// The families. Within each, operators are sorted by name.
const FAMILIES: &[&[Operator]] =
    &[elementwise::OPS, index::OPS, product::OPS, recurrent::OPS, reduction::OPS, shape::OPS, window::OPS];

/// The operator of this name.
pub(super) fn find(name: &str) -> Option<&'static Operator> {
    FAMILIES.iter().find_map(|family| Some(&family[family.binary_search_by(|row| row.onnx.cmp(name)).ok()?]))
}

fn one(fact: Fact) -> Inferred {
    Some(vec![fact])
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::{
        Element, LowerOptions, lower,
        onnx::pb::{AttributeProto, NodeProto, TensorProto, attribute_type},
    };

    /// What verbs write, but no fixture asks for.
    const NOT_IN_FIXTURES: &[&str] = &[];

    /// Not in the tables, since they run nested graphs.
    const CONTROL: &[&str] = &["If", "Loop"];

    #[test]
    fn tables_are_sorted_and_names_unique() {
        for family in FAMILIES {
            let names: Vec<&str> = family.iter().map(|row| row.onnx).collect();
            assert!(names.is_sorted(), "{names:?}");
        }
        let names: BTreeSet<&str> = FAMILIES.iter().flat_map(|family| family.iter().map(|row| row.onnx)).collect();
        assert_eq!(names.len(), FAMILIES.iter().map(|family| family.len()).sum::<usize>());
    }

    #[test]
    fn tables_have_what_lowering_writes() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let folders = |path: &Path| fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).filter(|path| path.is_dir());
        let mut written = BTreeSet::new();
        for case in ["ops", "layers"].iter().flat_map(|family| folders(&tests.join(family))).flat_map(|op| folders(&op))
        {
            let file =
                ["model.mlpackage", "model.mlmodel"].map(|name| case.join(name)).into_iter().find(|p| p.exists());
            let model = coreml_format::Model::open(file.expect("each case has a model")).unwrap();
            for without_fp16 in [false, true] {
                // Fixtures of operations that are not lowered yet are not ours to judge.
                let Ok(lowered) = lower(&model, &LowerOptions { without_fp16, ..LowerOptions::default() }) else {
                    continue;
                };
                written.extend(lowered.model.nodes().iter().map(|node| node.op_type().to_owned()));
            }
        }
        let rows: BTreeSet<String> = FAMILIES.iter().copied().flatten().map(|row| row.onnx.to_owned()).collect();
        let without_row: Vec<&String> = written.difference(&rows).collect();
        assert_eq!(without_row, CONTROL, "all others that are written need a row");
        let unwritten: Vec<&String> = rows.difference(&written).collect();
        assert_eq!(unwritten, NOT_IN_FIXTURES);
    }

    /// Pseudo-random numbers, the same each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % sides
        }

        fn pick<T: Copy>(&mut self, from: &[T]) -> T {
            from[self.roll(from.len())]
        }

        fn list<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
            // Most often of rank 4, of which most operators are.
            let length = self.pick(&[0, 1, 2, 3, 4, 4, 4, 4, 5, 8]);
            (0..length).map(|_| self.pick(from)).collect()
        }
    }

    const SIZES: &[usize] = &[0, 1, 1, 2, 3, 4, 7, 1 << 31, 1 << 40, usize::MAX >> 1, usize::MAX];
    const INTS: &[i64] = &[0, 1, 1, 2, 3, -1, 5, 9, 11, i64::MAX, i64::MAX, i64::MIN, i32::MAX as i64, 1 << 40];
    const NUMBERS: &[f64] = &[0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 1e18, -1e18, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    const NAMES: &[&str] = &[
        "allowzero",
        "auto_pad",
        "axis",
        "batch_dims",
        "blocksize",
        "ceil_mode",
        "dilations",
        "direction",
        "equation",
        "group",
        "keepdims",
        "kernel_shape",
        "output_padding",
        "pads",
        "perm",
        "size",
        "strides",
        "to",
        "value",
    ];
    const WORDS: &[&str] = &["SAME_UPPER", "reverse", "ab,bc->ac", "nchw,nwhu->nchu", "->", ",,->aa", ""];

    fn fact(dice: &mut Dice) -> Option<Fact> {
        let element = dice.pick(&[Element::F32, Element::I64, Element::I32, Element::Bool, Element::F16]);
        match dice.roll(8) {
            0 => None,
            1 => Some(Fact::unknown(element)),
            2 | 3 => {
                // A small list, as shapes and axes are given.
                let numbers = dice.list(NUMBERS);
                Some(Fact::new(element, vec![numbers.len()]).with_numbers(Some(numbers)))
            }
            // Numbers that are more or fewer than the shape says must do no harm either.
            4 => Some(Fact::new(element, dice.list(SIZES)).with_numbers(Some(dice.list(NUMBERS)))),
            _ => Some(Fact::new(element, dice.list(SIZES))),
        }
    }

    fn attribute(name: &str, dice: &mut Dice) -> Option<AttributeProto> {
        let mut attribute = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        attribute.r#type = attribute_type::INTS;
        attribute.i = Some(dice.pick(INTS));
        attribute.ints = dice.list(INTS);
        attribute.s = Some(dice.pick(WORDS).as_bytes().to_vec());
        let raw_data = Some(vec![1u8; dice.roll(9)].into());
        attribute.t = Some(TensorProto { data_type: dice.roll(12) as i32, raw_data, ..TensorProto::default() });
        (dice.roll(4) > 0).then_some(attribute)
    }

    #[test]
    fn no_operator_panics_on_what_a_file_may_hold() {
        let mut dice = Dice(1);
        let mut inferred = 0;
        for row in FAMILIES.iter().copied().flatten() {
            for _ in 0..1000 {
                let facts: Vec<Option<Fact>> = (0..dice.roll(6)).map(|_| fact(&mut dice)).collect();
                let node = NodeProto {
                    input: (0..facts.len()).map(|i| i.to_string()).collect(),
                    output: (0..dice.roll(4)).map(|i| format!("out{i}")).collect(),
                    attribute: NAMES.iter().filter_map(|name| attribute(name, &mut dice)).collect(),
                    ..NodeProto::default()
                };
                let operands = Operands::new(&node, |name| facts[name.parse::<usize>().unwrap()].as_ref());
                let results = (row.infer)(&operands);
                inferred += usize::from(results.is_some());
                let results = results.unwrap_or_default();
                (row.workspace)(&operands, &results);
                for result in results {
                    result.clone().bounded().bytes();
                    result.within(&[Some(dice.pick(SIZES)), None]).bytes();
                }
            }
        }
        assert!(inferred > 20_000, "only {inferred} were inferred, so little was tried");
    }
}
