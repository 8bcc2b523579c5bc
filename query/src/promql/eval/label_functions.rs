//! `label_replace` and `label_join`.

use trine_storage::Labels;
use trine_storage::regex::{LineRegex, Template};

use super::expression::{label_name, string};
use super::stream::{Collected, Vector};
use crate::promql::ast::Expr;
use crate::promql::error::QueryError;
use crate::vector::METRIC_NAME;

/// `label_replace(vector, destination, replacement, source, regex)`
pub(super) fn replace<'q>(
    vector: Collected<'q>,
    arguments: &[Expr],
) -> Result<Vector<'q>, QueryError> {
    let [_, destination, replacement, source, pattern] = arguments else {
        return Ok(vector.into_vector());
    };
    let named = destination;
    let [destination, replacement, source, pattern] =
        [destination, replacement, source, pattern].map(string);
    let regex = LineRegex::anchored(pattern).map_err(|_| {
        let what = "invalid regular expression in label_replace()";
        QueryError::Execution(format!("{what}: {pattern}"))
    })?;
    valid("destination", "label_replace", named)?;
    let template = Template::new(replacement, &regex);
    let (mut locations, mut expanded) = (regex.locations(), Vec::new());
    relabeled(vector, destination, |labels| {
        let value = labels.get(source).unwrap_or("").as_bytes();
        if !regex.captures(value, &mut locations) {
            return None;
        }
        expanded.clear();
        template.expand(value, &locations, &mut expanded);
        Some(labels.with(destination, &String::from_utf8_lossy(&expanded)))
    })
}

/// `label_join(vector, destination, separator, sources ..)`
pub(super) fn join<'q>(
    vector: Collected<'q>,
    arguments: &[Expr],
) -> Result<Vector<'q>, QueryError> {
    let [_, destination, separator, sources @ ..] = arguments else {
        return Ok(vector.into_vector());
    };
    for source in sources {
        valid("source", "label_join", source)?;
    }
    valid("destination", "label_join", destination)?;
    let (destination, separator) = (string(destination), string(separator));
    let sources: Vec<&str> = sources.iter().map(string).collect();
    relabeled(vector, destination, |labels| {
        let values: Vec<&str> = sources
            .iter()
            .map(|source| labels.get(source).unwrap_or(""))
            .collect();
        Some(labels.with(destination, &values.join(separator)))
    })
}

fn valid(which: &str, function: &str, expr: &Expr) -> Result<(), QueryError> {
    if label_name(expr).is_err() {
        let name = string(expr);
        let text = format!("invalid {which} label name in {function}(): {name}");
        return Err(QueryError::Execution(text));
    }
    Ok(())
}

/// The vector with the labels that `change` gives, where it gives some. A name that was written is
/// there to stay.
fn relabeled<'q>(
    vector: Collected<'q>,
    destination: &str,
    mut change: impl FnMut(&Labels) -> Option<Labels>,
) -> Result<Vector<'q>, QueryError> {
    let (mut series, held) = vector.into_parts();
    for one in &mut series {
        if let Some(labels) = change(&one.labels) {
            one.labels = labels;
            one.drop_name &= destination != METRIC_NAME;
        }
    }
    Ok(Collected::new(series, false, held).merged()?.into_vector())
}
