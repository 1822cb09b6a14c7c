//! `coremldata.bin`: a short header, then an encoded `ModelDescription` after its length.

use bytes::Bytes;
use prost::Message;

use super::Found;
use crate::{description, pb::model::ModelDescription, spec};

/// How far into the file the description is looked for; it was seen at 83.
const SEARCHED: usize = 1024;
/// Stands in the header; the version of the specification follows as 32 bits.
const MARK: &[u8] = b"generic";

/// Finds the description: the first length of 64 bits that is followed by so many bytes that decode as one.
pub(super) fn read(file: &Bytes) -> Option<Found> {
    let schema = (0..SEARCHED.min(file.len())).find_map(|at| {
        let length = u64::from_le_bytes(file.get(at..at + 8)?.try_into().expect("8 bytes"));
        let end = (at + 8).checked_add(usize::try_from(length).ok()?)?;
        if length == 0 || end > file.len() {
            return None;
        }
        let message = ModelDescription::decode(file.slice(at + 8..end)).ok()?;
        description::read(message).ok().filter(|schema| !schema.interface.outputs.is_empty())
    })?;
    Some(Found { spec_version: spec_version(file), schema })
}

fn spec_version(file: &[u8]) -> Option<u32> {
    let mark = file.windows(MARK.len()).take(SEARCHED).position(|window| window == MARK)?;
    let at = mark + MARK.len();
    let version = u32::from_le_bytes(file.get(at..at + 4)?.try_into().expect("4 bytes"));
    (1..=spec::NEWEST).contains(&version).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::model::{ArrayFeatureType, FeatureDescription, FeatureKind, FeatureType};

    fn check(before: &[u8], length: impl Fn(usize) -> u64, expected: Option<(Option<u32>, &str)>) {
        let array = ArrayFeatureType { shape: vec![1, 10], data_type: 65552, ..Default::default() };
        let ty = FeatureType { kind: Some(FeatureKind::MultiArray(array)), is_optional: false };
        let output = FeatureDescription { name: "y".to_owned(), r#type: Some(ty), ..Default::default() };
        let message = ModelDescription { output: vec![output], ..Default::default() }.encode_to_vec();
        let file = [before, &length(message.len()).to_le_bytes(), &message, b"after"].concat();
        let found =
            read(&file.into()).map(|found| (found.spec_version, found.schema.interface.outputs[0].name.clone()));
        assert_eq!(found.as_ref().map(|(version, name)| (*version, name.as_str())), expected);
    }

    #[test]
    fn the_description_is_found_by_its_length() {
        check(b"\xf6\x01\0\0generic\x07\0\0\0\0\0", |len| len as u64, Some((Some(7), "y")));
        check(b"\xf6\x01\0\0", |len| len as u64, Some((None, "y")));
        check(b"", |len| len as u64 - 1, None);
        check(b"", |_| u64::MAX, None);
        check(&[0xff; 2000], |len| len as u64, None);
    }
}
