//! Whether a program's functions take and give what the model's description says.

use std::collections::HashSet;

use super::{Dim, Function, Program, TensorType, Type};
use crate::{
    error::{Flaw, brief, quote},
    schema::{Feature, FeatureKind, ImageFlexibility, Interface, Schema, ShapeFlexibility},
};

/// Checks every function that is described. A function that is not can't be called, and is left alone.
pub(super) fn check_interface(program: &Program, schema: &Schema) -> Result<(), Flaw> {
    let default = [(&schema.default_function, &schema.interface)];
    let described = match schema.functions.is_empty() {
        true => default.into_iter().collect(),
        false => schema.functions.iter().collect::<Vec<_>>(),
    };
    for (name, interface) in described {
        let found = program.functions.get(name);
        let function = found.ok_or_else(|| Flaw::new("mlProgram", format!("has no function {}", quote(name))))?;
        check_function(function, interface).map_err(|reason| Flaw::new(brief(name), reason))?;
    }
    Ok(())
}

fn check_function(function: &Function, interface: &Interface) -> Result<(), String> {
    let described = || interface.inputs.iter().chain(&interface.states);
    for input in &function.inputs {
        let name = quote(&input.name);
        let feature = described().find(|feature| feature.name == input.name);
        let feature = feature.ok_or_else(|| format!("takes the input {name}, which the description does not have"))?;
        check_input(&input.ty, feature).map_err(|reason| format!("input {name}: {reason}"))?;
    }
    let taken: HashSet<&str> = function.inputs.iter().map(|input| input.name.as_str()).collect();
    if let Some(feature) = described().find(|feature| !taken.contains(feature.name.as_str())) {
        return Err(format!("does not take the input {} of the description", quote(&feature.name)));
    }

    let given: HashSet<&str> = function.block.outputs.iter().map(String::as_str).collect();
    let promised: HashSet<&str> = interface.outputs.iter().map(|feature| feature.name.as_str()).collect();
    if let Some(name) = promised.difference(&given).min() {
        return Err(format!("does not give the output {} of the description", quote(name)));
    }
    if let Some(name) = given.difference(&promised).min() {
        return Err(format!("gives the output {}, which the description does not have", quote(name)));
    }
    Ok(())
}

fn check_input(ty: &Type, feature: &Feature) -> Result<(), String> {
    match (&feature.kind, ty) {
        (FeatureKind::MultiArray(array), Type::Tensor(tensor)) => {
            let fixed = array.flexibility == ShapeFlexibility::Fixed;
            check_shape(tensor, &array.shape.iter().map(|&size| fixed.then_some(size)).collect::<Vec<_>>())
        }
        (FeatureKind::State(array), Type::State(inner)) => match inner.as_tensor() {
            Some(tensor) => check_shape(tensor, &array.shape.iter().map(|&size| Some(size)).collect::<Vec<_>>()),
            None => Err(format!("is {ty}; expected the state of a tensor")),
        },
        (FeatureKind::Image(image), Type::Tensor(tensor)) => {
            let fixed = image.flexibility == ImageFlexibility::Fixed;
            let (height, width) = (fixed.then_some(image.height), fixed.then_some(image.width));
            check_shape(tensor, &[None, Some(image.color.channels()), height, width])
        }
        (FeatureKind::MultiArray(_) | FeatureKind::Image(_), _) => Err(format!("is {ty}; expected a tensor")),
        (FeatureKind::State(_), _) => Err(format!("is {ty}; the description has a state")),
        (_, Type::State(_)) => Err(format!("is {ty}; the description does not have a state")),
        _ => Ok(()),
    }
}

/// Compares where both sides are fixed. A description without a shape says nothing.
fn check_shape(tensor: &TensorType, described: &[Option<usize>]) -> Result<(), String> {
    let Some(dims) = &tensor.dims else { return Ok(()) };
    let agree = |(dim, size): (&Dim, &Option<usize>)| match (dim, size) {
        (Dim::Fixed(a), Some(b)) => a == b,
        (Dim::Unknown, _) | (_, None) => true,
    };
    if described.is_empty() || (dims.len() == described.len() && dims.iter().zip(described).all(agree)) {
        return Ok(());
    }
    let sizes: Vec<String> =
        described.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
    Err(format!("is {tensor}, but the description says [{}]", sizes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DType,
        mil::{Block, Named, Opset},
        schema::{ArrayKind, ArrayType, ColorSpace, ImageKind, SizeRange},
    };

    fn array(shape: &[usize], flexibility: ShapeFlexibility) -> FeatureKind {
        FeatureKind::MultiArray(ArrayKind {
            dtype: ArrayType::Float32,
            shape: shape.to_vec(),
            flexibility,
            default: None,
        })
    }

    fn feature(name: &str, kind: FeatureKind) -> Feature {
        Feature { name: name.to_owned(), description: String::new(), kind, optional: false }
    }

    fn tensor(dims: &[Option<usize>]) -> Type {
        let dims = dims.iter().map(|dim| dim.map_or(Dim::Unknown, Dim::Fixed)).collect();
        Type::Tensor(TensorType { dtype: DType::Float32, dims: Some(dims) })
    }

    /// A function of `x` that gives `y`, against a description of `input` and `output`.
    fn check(ty: Type, input: Feature, output: &str, expected: &str) {
        let function = Function {
            inputs: vec![Named { name: "x".to_owned(), ty }],
            opset: Opset::IOS16,
            block: Block { outputs: vec!["y".to_owned()], ..Block::default() },
        };
        let outputs = vec![feature(output, FeatureKind::Double)];
        let interface = Interface { inputs: vec![input], outputs, ..Interface::default() };
        let shown = check_function(&function, &interface).map_or_else(|reason| reason, |()| "ok".to_owned());
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn names_agree_both_ways() {
        let fixed = || array(&[2], ShapeFlexibility::Fixed);
        check(tensor(&[Some(2)]), feature("x", fixed()), "y", "ok");
        check(tensor(&[Some(2)]), feature("z", fixed()), "y", "takes the input \"x\"");
        check(tensor(&[Some(2)]), feature("x", fixed()), "z", "does not give the output \"z\"");
    }

    #[test]
    fn shapes_agree_where_both_are_fixed() {
        let shape = |shape: &[usize]| feature("x", array(shape, ShapeFlexibility::Fixed));
        check(tensor(&[Some(1), Some(3)]), shape(&[1, 3]), "y", "ok");
        check(tensor(&[None, Some(3)]), shape(&[1, 3]), "y", "ok");
        check(
            tensor(&[Some(1), Some(4)]),
            shape(&[1, 3]),
            "y",
            "is tensor<fp32, [1, 4]>, but the description says [1, 3]",
        );
        check(tensor(&[Some(1)]), shape(&[1, 3]), "y", "but the description says [1, 3]");
        let range = SizeRange { lower: 1, upper: None };
        let flexible = || feature("x", array(&[1], ShapeFlexibility::Ranges(vec![range])));
        check(tensor(&[Some(4)]), flexible(), "y", "ok");
        check(tensor(&[Some(4), Some(4)]), flexible(), "y", "says [?]");
    }

    #[test]
    fn images_are_four_dimensional() {
        let flexibility = ImageFlexibility::Fixed;
        let image = || ImageKind { width: 4, height: 5, color: ColorSpace::Rgb, flexibility: flexibility.clone() };
        let input = || feature("x", FeatureKind::Image(image()));
        check(tensor(&[Some(1), Some(3), Some(5), Some(4)]), input(), "y", "ok");
        check(tensor(&[Some(1), Some(3), Some(4), Some(5)]), input(), "y", "says [?, 3, 5, 4]");
        let state = Type::State(Box::new(tensor(&[Some(1)])));
        check(state, input(), "y", "expected a tensor");
    }
}
