//! XGBoost's file with the columns' names and the header in it.

use hessboost::model::{BoostedModel, ModelFormat};
use serde_json::{Value, json};

use super::{FORMAT, Header};
use crate::container::{ENTRY, NO_MODEL};
use crate::error::Result;

/// The part of the file with the model, and that of it with the texts that whoever writes it adds.
const LEARNER: &str = "learner";
const ATTRIBUTES: &str = "attributes";

impl Header {
    /// The file of trees, with the names and types of the columns and this header.
    pub(super) fn write(&self, trees: &BoostedModel) -> Result<Vec<u8>> {
        let bytes = trees.encode(ModelFormat::XgboostJson)?;
        let mut file: Value = serde_json::from_slice(&bytes).map_err(|e| FORMAT.error(e))?;
        let learner = file.get_mut(LEARNER).ok_or_else(|| FORMAT.error("hessboost wrote no `learner`"))?;
        let trees = learner.pointer_mut("/gradient_booster/model/trees").and_then(Value::as_array_mut);
        let numbered = trees.and_then(|trees| trees.iter_mut().map(number_nodes).collect::<Option<()>>());
        numbered.ok_or_else(|| FORMAT.error("hessboost wrote trees of another form"))?;
        let kinds = self.columns.0.keys().map(|name| if self.categories.contains_key(name) { "c" } else { "float" });
        learner["feature_names"] = json!(self.columns.0.keys().collect::<Vec<_>>());
        learner["feature_types"] = json!(kinds.collect::<Vec<_>>());
        learner[ATTRIBUTES] = json!({});
        let entry = FORMAT.entry(self, learner.to_string().as_bytes())?;
        learner[ATTRIBUTES][ENTRY] = Value::String(entry);
        serde_json::to_vec(&file).map_err(|e| FORMAT.error(e))
    }

    /// The header of a file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut file: Value = serde_json::from_slice(bytes).map_err(|_| FORMAT.error(NO_MODEL))?;
        let learner = file.get_mut(LEARNER).ok_or_else(|| FORMAT.error(NO_MODEL))?;
        let attributes = learner.get_mut(ATTRIBUTES).map(|attributes| std::mem::replace(attributes, json!({})));
        let entry = attributes.as_ref().and_then(|attributes| attributes[ENTRY].as_str());
        FORMAT.header(entry.ok_or_else(|| FORMAT.error(NO_MODEL))?, learner.to_string().as_bytes())
    }
}

/// What a tree has for each node, and of that what names other nodes.
const OF_NODES: [&str; 10] = [
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "default_left",
    "base_weights",
    "loss_changes",
    "sum_hessian",
    "split_type",
];
const NAMING: [&str; 3] = ["left_children", "right_children", "parents"];

/// Numbers the nodes of a tree from the root down, so that a right child follows its left one. XGBoost relies on that where
/// it predicts many rows, and hessboost 0.4.6 writes the children of splits of categories the other way round: without this
/// XGBoost 3.2.0 aborts the process on some models with many categories. `None` where the tree has another form.
fn number_nodes(tree: &mut Value) -> Option<()> {
    let list = |tree: &Value, key| -> Option<Vec<usize>> {
        // A leaf has the child -1, which is no number of a node.
        tree.get(key)?.as_array()?.iter().map(|node| Some(node.as_i64()?.try_into().unwrap_or(usize::MAX))).collect()
    };
    let (left, right) = (list(tree, "left_children")?, list(tree, "right_children")?);
    let mut order = vec![0];
    let mut at = 0;
    while at < order.len().min(left.len()) {
        let node = order[at];
        if *left.get(node)? < left.len() {
            order.extend([left[node], *right.get(node)?]);
        }
        at += 1;
    }
    // A tree has each node once.
    if order.len() != left.len() {
        return None;
    }
    let mut number = vec![usize::MAX; left.len()];
    order.iter().enumerate().for_each(|(new, old)| number[*old] = new);
    for key in OF_NODES {
        let values = tree.get_mut(key)?.as_array_mut()?;
        let mut ordered: Vec<Value> = order.iter().map(|old| values.get(*old).cloned()).collect::<Option<_>>()?;
        if NAMING.contains(&key) {
            for node in &mut ordered {
                // The parent of the root is no number of a node, too.
                if let Some(new) = node.as_u64().and_then(|node| number.get(usize::try_from(node).ok()?)) {
                    *node = json!(new);
                }
            }
        }
        *values = ordered;
    }

    // The categories of splits, in the order of their nodes.
    let (nodes, starts) = (list(tree, "categories_nodes")?, list(tree, "categories_segments")?);
    let (sizes, categories) = (list(tree, "categories_sizes")?, list(tree, "categories")?);
    let splits = nodes.iter().zip(starts).zip(sizes);
    let mut splits: Vec<_> = splits
        .map(|((node, start), size)| Some((*number.get(*node)?, categories.get(start..start.checked_add(size)?)?)))
        .collect::<Option<_>>()?;
    splits.sort_unstable_by_key(|(node, _)| *node);
    let starts = splits.iter().scan(0, |next, (_, of)| Some(std::mem::replace(next, *next + of.len())));
    let starts: Vec<usize> = starts.collect();
    tree["categories_segments"] = json!(starts);
    tree["categories_nodes"] = json!(splits.iter().map(|(node, _)| node).collect::<Vec<_>>());
    tree["categories_sizes"] = json!(splits.iter().map(|(_, of)| of.len()).collect::<Vec<_>>());
    tree["categories"] = json!(splits.iter().flat_map(|(_, of)| of.iter()).collect::<Vec<_>>());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_child_follows_its_left_one_and_keeps_what_it_had() {
        // Of the root 0 the left child is 2, of 2 the left one is 4; both are splits of categories.
        let mut tree = json!({
            "left_children": [2, -1, 4, -1, -1],
            "right_children": [1, -1, 3, -1, -1],
            "parents": [2147483647, 0, 0, 2, 2],
            "split_indices": [7, 0, 8, 0, 0],
            "split_conditions": [0.0, 0.1, 0.0, 0.3, 0.4],
            "default_left": [1, 1, 0, 1, 1],
            "base_weights": [0.0, 0.1, 0.0, 0.3, 0.4],
            "loss_changes": [5.0, 0.0, 6.0, 0.0, 0.0],
            "sum_hessian": [9.0, 1.0, 8.0, 3.0, 4.0],
            "split_type": [1, 0, 1, 0, 0],
            "categories": [10, 11, 20],
            "categories_nodes": [2, 0],
            "categories_segments": [0, 2],
            "categories_sizes": [2, 1],
        });
        number_nodes(&mut tree).unwrap();
        let wanted = json!({
            "left_children": [1, 3, -1, -1, -1],
            "right_children": [2, 4, -1, -1, -1],
            "parents": [2147483647, 0, 0, 1, 1],
            "split_indices": [7, 8, 0, 0, 0],
            "split_conditions": [0.0, 0.0, 0.1, 0.4, 0.3],
            "default_left": [1, 0, 1, 1, 1],
            "base_weights": [0.0, 0.0, 0.1, 0.4, 0.3],
            "loss_changes": [5.0, 6.0, 0.0, 0.0, 0.0],
            "sum_hessian": [9.0, 8.0, 1.0, 4.0, 3.0],
            "split_type": [1, 1, 0, 0, 0],
            "categories": [20, 10, 11],
            "categories_nodes": [0, 1],
            "categories_segments": [0, 1],
            "categories_sizes": [1, 2],
        });
        assert_eq!(tree, wanted);
        for no_tree in [json!([0, 3, -1, -1, -1]), json!([9, -1, -1, -1, -1]), json!([-1, -1, -1, -1, -1])] {
            tree["left_children"] = no_tree;
            assert_eq!(number_nodes(&mut tree), None);
        }
    }
}
