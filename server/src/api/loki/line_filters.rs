//! Line filters of a query as the store itself applies them, to what it deletes (`delete`) and to what
//! it hands to followers (`tail`).

use bytes::Bytes;
use trine_logstore::LineFilter;
use trine_query::logql::ast::{LineFilter as Filter, LineOp, LineOperand};
use trine_storage::Error;
use trine_storage::regex::LineRegex;

/// The conditions that a filter is to the store; `None` where it has no such conditions.
///
/// # Errors
/// Those of expressions.
pub(super) fn lowered(filter: &Filter) -> Result<Option<Vec<LineFilter>>, Error> {
    let mut texts: Vec<&str> = Vec::new();
    for operand in &filter.operands {
        match operand {
            LineOperand::Text(text) => texts.push(text),
            LineOperand::Ip(_) => return Ok(None),
        }
    }
    let bytes = |text: &&str| Bytes::copy_from_slice(text.as_bytes());
    Ok(Some(match filter.op {
        LineOp::Contains => match texts.as_slice() {
            [one] => vec![LineFilter::Contains(bytes(one))],
            several => vec![LineFilter::ContainsAny(several.iter().map(bytes).collect())],
        },
        LineOp::NotContains => {
            let each = texts.iter().map(bytes).map(LineFilter::NotContains);
            each.collect()
        }
        LineOp::Matches => {
            let regex = match texts.as_slice() {
                [one] => LineRegex::new(one)?,
                several => {
                    let groups: Vec<String> =
                        several.iter().map(|text| format!("(?:{text})")).collect();
                    LineRegex::new(&groups.join("|"))?
                }
            };
            vec![LineFilter::Matches(regex)]
        }
        LineOp::NotMatches => {
            let regexes = texts.iter().map(|text| LineRegex::new(text));
            let each = regexes.map(|regex| regex.map(LineFilter::NotMatches));
            each.collect::<Result<_, _>>()?
        }
        LineOp::Pattern | LineOp::NotPattern => return Ok(None),
    }))
}
