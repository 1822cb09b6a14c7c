//! The item similarity recommender.

use std::collections::{BTreeMap, BTreeSet};

use coreml_format::{
    classic::{ItemSimilarityRecommender, Label},
    schema::Feature,
};

use crate::{
    Dictionary, Result, Sequence, Value, fault,
    inputs::{Inputs, whole},
};

/// A recommender with the number of each item.
#[derive(Debug)]
pub(crate) struct Recommender {
    model: ItemSimilarityRecommender,
    /// `None` where items are called by their numbers.
    numbers: Option<BTreeMap<Label, usize>>,
}

impl Recommender {
    pub(crate) fn new(model: ItemSimilarityRecommender) -> Recommender {
        let numbers = model
            .ids
            .as_ref()
            .map(|ids| (0..ids.len()).filter_map(|number| Some((ids.get(number)?, number))).collect());
        Recommender { model, numbers }
    }

    /// The recommended items, best first, and their scores.
    pub(crate) fn evaluate(&self, inputs: &Inputs<'_>, outputs: &[Feature]) -> Result<Vec<Value>> {
        let names = &self.model.inputs;
        let given = match &names.items[..] {
            "" => inputs.only()?,
            name => inputs.required(name)?,
        };
        let given = self.scored(given)?;
        let optional = |name: &Option<String>| name.as_ref().and_then(|name| inputs.named(name));
        let excluded = match optional(&names.exclusion) {
            Some(items) => self.items(items)?,
            None => given.iter().map(|(item, _)| *item).collect(),
        };
        let only = optional(&names.restriction).map(|items| self.items(items)).transpose()?;
        let count = match optional(&names.count) {
            None => usize::MAX,
            Some(Value::Int64(count)) if *count >= 0 => usize::try_from(*count).unwrap_or(usize::MAX),
            Some(Value::Int64(count)) => return fault(format!("{count} recommendations were asked for")),
            Some(other) => return fault(format!("the number of recommendations is {}", other.describe())),
        };
        let mut scores = vec![0.0; self.model.items];
        for (item, score) in given {
            let Ok(place) = self.model.similar.binary_search_by_key(&item, |(item, _)| *item) else { continue };
            for similar in &self.model.similar[place].1 {
                let adjustment = self.model.adjustments.get(&similar.item).copied().unwrap_or(0.0);
                scores[similar.item] += similar.score * (score - adjustment);
            }
        }
        let allowed = |item: &usize| !excluded.contains(item) && only.as_ref().is_none_or(|only| only.contains(item));
        let mut best: Vec<usize> = (0..self.model.items).filter(allowed).collect();
        best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        best.truncate(count);
        let output = |output: &Feature| match Some(&output.name) {
            name if name == self.model.list_output.as_ref() => Value::Sequence(self.list(&best)),
            _ => Value::Dictionary(self.dictionary(&best, &scores)),
        };
        Ok(outputs.iter().map(output).collect())
    }

    /// Items with scores; 1 where there are none. What is no item is left out.
    fn scored(&self, given: &Value) -> Result<Vec<(usize, f64)>> {
        let number = |(label, score): (Label, f64)| Some((self.number(&label)?, score));
        match given {
            Value::Dictionary(Dictionary::Strings(entries)) => {
                let entries = entries.iter().map(|(item, score)| (Label::String(item.clone()), *score));
                Ok(entries.filter_map(number).collect())
            }
            Value::Dictionary(Dictionary::Int64s(entries)) => {
                Ok(entries.iter().map(|(item, score)| (Label::Int64(*item), *score)).filter_map(number).collect())
            }
            list => Ok(self.items(list)?.into_iter().map(|item| (item, 1.0)).collect()),
        }
    }

    /// Items of a list. What is no item is left out.
    fn items(&self, list: &Value) -> Result<BTreeSet<usize>> {
        let labels: Vec<Label> = match list {
            Value::Sequence(Sequence::Strings(items)) => items.iter().cloned().map(Label::String).collect(),
            Value::Sequence(Sequence::Int64s(items)) => items.iter().copied().map(Label::Int64).collect(),
            Value::Array(array) => array.values.iter().filter_map(|item| whole(*item)).map(Label::Int64).collect(),
            other => return fault(format!("a list of items is {}", other.describe())),
        };
        Ok(labels.iter().filter_map(|label| self.number(label)).collect())
    }

    fn number(&self, label: &Label) -> Option<usize> {
        match (&self.numbers, label) {
            (Some(numbers), label) => numbers.get(label).copied(),
            (None, Label::Int64(number)) => usize::try_from(*number).ok().filter(|number| *number < self.model.items),
            (None, Label::String(_)) => None,
        }
    }

    fn name(&self, item: usize) -> Label {
        let name = self.model.ids.as_ref().and_then(|ids| ids.get(item));
        name.unwrap_or(Label::Int64(item as i64))
    }

    fn list(&self, items: &[usize]) -> Sequence {
        let (mut words, mut numbers) = (Vec::new(), Vec::new());
        for item in items {
            match self.name(*item) {
                Label::String(word) => words.push(word),
                Label::Int64(number) => numbers.push(number),
            }
        }
        if self.has_words() { Sequence::Strings(words) } else { Sequence::Int64s(numbers) }
    }

    fn dictionary(&self, items: &[usize], scores: &[f64]) -> Dictionary {
        let scores = items.iter().map(|item| scores[*item]);
        match self.list(items) {
            Sequence::Strings(words) => Dictionary::Strings(words.into_iter().zip(scores).collect()),
            Sequence::Int64s(numbers) => Dictionary::Int64s(numbers.into_iter().zip(scores).collect()),
        }
    }

    fn has_words(&self) -> bool {
        matches!(self.model.ids, Some(coreml_format::schema::ClassLabels::Strings(_)))
    }
}

#[cfg(test)]
mod tests {
    use coreml_format::{
        classic::{RecommenderInputs, SimilarItem},
        schema::{ClassLabels, FeatureKind, KeyKind, SizeRange},
    };

    use super::*;

    fn feature(name: &str, kind: FeatureKind) -> Feature {
        Feature { name: name.to_owned(), description: String::new(), kind, optional: true }
    }

    fn check(given: &[(&str, f64)], count: Option<i64>, exclude: Option<&[&str]>, expected: &[(&str, f64)]) {
        let similar = |item, score| SimilarItem { item, score };
        let model = ItemSimilarityRecommender {
            items: 4,
            ids: Some(ClassLabels::Strings(["a", "b", "c", "d"].map(str::to_owned).to_vec())),
            similar: vec![(0, vec![similar(1, 0.5), similar(2, 0.25)]), (3, vec![similar(2, 1.0), similar(0, 0.5)])],
            adjustments: [(2, 1.0)].into(),
            inputs: RecommenderInputs {
                items: "items".to_owned(),
                count: Some("count".to_owned()),
                restriction: None,
                exclusion: Some("not".to_owned()),
            },
            list_output: Some("list".to_owned()),
            score_output: Some("scores".to_owned()),
        };
        let any = SizeRange { lower: 0, upper: None };
        let features = [
            feature("items", FeatureKind::Dictionary(KeyKind::String)),
            feature("count", FeatureKind::Int64),
            feature("not", FeatureKind::Sequence(KeyKind::String, any)),
        ];
        let outputs = [
            feature("list", FeatureKind::Sequence(KeyKind::String, any)),
            feature("scores", FeatureKind::Dictionary(KeyKind::String)),
        ];
        let entries = |entries: &[(&str, f64)]| entries.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect::<Vec<_>>();
        let words =
            |words: &[&str]| Value::Sequence(Sequence::Strings(words.iter().map(|w| (*w).to_owned()).collect()));
        let values =
            [Some(Value::Dictionary(Dictionary::Strings(entries(given)))), count.map(Value::Int64), exclude.map(words)];
        let recommender = Recommender::new(model);
        let found = recommender.evaluate(&Inputs::new(&features, &values).unwrap(), &outputs).unwrap();
        let list: Vec<&str> = expected.iter().map(|(item, _)| *item).collect();
        assert_eq!(found, [words(&list), Value::Dictionary(Dictionary::Strings(entries(expected)))]);
    }

    #[test]
    fn scores_are_sums_over_what_is_given() {
        check(&[("a", 2.0)], None, None, &[("b", 1.0), ("c", 0.25), ("d", 0.0)]);
        check(&[("a", 2.0), ("d", 3.0)], None, None, &[("c", 2.25), ("b", 1.0)]);
        check(&[("a", 2.0), ("d", 3.0)], Some(2), Some(&[]), &[("c", 2.25), ("a", 1.5)]);
        check(&[("x", 2.0)], Some(1), Some(&["a"]), &[("b", 0.0)]);
    }
}
