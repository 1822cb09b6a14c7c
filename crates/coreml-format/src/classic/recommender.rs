//! The item similarity recommender.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::svm::bodies;
use crate::{
    pb::{self, classic as message},
    schema::ClassLabels,
};

/// Items that no list names: a model counts them by its largest number, which a damaged file may have anything for.
const MOST_UNNAMED: u64 = 1 << 24;

/// Recommends items that are similar to given ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemSimilarityRecommender {
    /// The number of items.
    pub items: usize,
    /// The name of each item; `None` where they are called by their numbers.
    pub ids: Option<ClassLabels>,
    /// What is similar to each item that has a list, sorted by item.
    pub similar: Vec<(usize, Vec<SimilarItem>)>,
    /// What is taken from every score before an item is compared with it. Others have 0.
    pub adjustments: BTreeMap<usize, f64>,
    /// The names of its inputs.
    pub inputs: RecommenderInputs,
    /// The output with the recommended items, best first.
    pub list_output: Option<String>,
    /// The output with the score of each recommended item.
    pub score_output: Option<String>,
}

/// An item with how similar it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimilarItem {
    /// Its number.
    pub item: usize,
    /// How similar it is.
    pub score: f64,
}

/// The names of a recommender's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecommenderInputs {
    /// The given items, with scores where it is a dictionary. Empty for the only input.
    pub items: String,
    /// How many to recommend; all where it is left out.
    pub count: Option<String>,
    /// The only items to recommend.
    pub restriction: Option<String>,
    /// Items not to recommend; the given ones where it is left out.
    pub exclusion: Option<String>,
}

pub(super) fn read(body: Bytes) -> Result<ItemSimilarityRecommender, String> {
    let model: message::ItemSimilarityRecommender = pb::decode(body.clone(), "it")?;
    let mut similar = BTreeMap::new();
    let mut adjustments = BTreeMap::new();
    let mut largest = 0;
    for list in bodies(body, 1) {
        let list: message::SimilarItems = pb::decode(list?, "a list of similar items")?;
        largest = list.similar.iter().map(|item| item.item_id).chain([list.item_id, largest]).max().unwrap_or(0);
        let items = list.similar.iter().map(|item| SimilarItem { item: item.item_id as usize, score: item.score });
        if similar.insert(list.item_id as usize, items.collect::<Vec<_>>()).is_some() {
            return Err(format!("has two lists for item {}", list.item_id));
        }
        if list.score_adjustment != 0.0 {
            adjustments.insert(list.item_id as usize, list.score_adjustment);
        }
    }
    let strings = model.string_ids.map(|ids| ids.vector).filter(|ids| !ids.is_empty());
    let int64s = model.int64_ids.map(|ids| ids.vector).filter(|ids| !ids.is_empty());
    let ids = match (strings, int64s) {
        (Some(_), Some(_)) => return Err("calls items by words and by numbers".to_owned()),
        (Some(ids), None) => Some(ClassLabels::Strings(ids)),
        (None, Some(ids)) => Some(ClassLabels::Int64s(ids)),
        (None, None) => None,
    };
    let items = match &ids {
        Some(ids) => ids.len() as u64,
        None if largest < MOST_UNNAMED => largest + 1,
        None => return Err(format!("has item {largest}; without names, {MOST_UNNAMED} is the most")),
    };
    if largest >= items {
        return Err(format!("has item {largest}, and names for {items}"));
    }
    if ids.as_ref().is_some_and(|ids| !unique(ids)) {
        return Err("has two items of one name".to_owned());
    }
    let optional = |name: String| (!name.is_empty()).then_some(name);
    let inputs = RecommenderInputs {
        items: model.item_input,
        count: optional(model.num_recommendations_input),
        restriction: optional(model.restriction_input),
        exclusion: optional(model.exclusion_input),
    };
    Ok(ItemSimilarityRecommender {
        items: items as usize,
        ids,
        similar: similar.into_iter().collect(),
        adjustments,
        inputs,
        list_output: optional(model.item_list_output),
        score_output: optional(model.item_score_output),
    })
}

fn unique(ids: &ClassLabels) -> bool {
    match ids {
        ClassLabels::Strings(ids) => ids.iter().collect::<BTreeSet<_>>().len() == ids.len(),
        ClassLabels::Int64s(ids) => ids.iter().collect::<BTreeSet<_>>().len() == ids.len(),
    }
}
