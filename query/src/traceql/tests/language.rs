//! Random queries of the whole grammar: brackets that say what the precedence says anyway change
//! nothing, and what is printed is the same query.

use proptest::prelude::*;

use crate::traceql::{OPERATORS_MAX, parse_unchecked, tag_query};

/// An expression with every bracket and with no more than it needs, and how tightly its operator
/// binds.
#[derive(Debug, Clone)]
struct Expr {
    full: String,
    least: String,
    power: u8,
}

/// How tightly an operand binds that has no operator.
const LEAF: u8 = 9;

impl Expr {
    fn leaf(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            full: text.clone(),
            least: text,
            power: LEAF,
        }
    }

    /// In brackets where it binds less than it must.
    fn above(&self, power: u8) -> String {
        match self.power < power {
            true => format!("({})", self.least),
            false => self.least.clone(),
        }
    }

    fn binary(op: &str, lhs: &Self, rhs: &Self) -> Self {
        let power = match op {
            "&&" | "||" => 1,
            "+" | "-" => 3,
            "*" | "/" | "%" => 5,
            "^" => 6,
            _ => 2,
        };
        // Powers group from the right, all others from the left.
        let (left, right) = match op {
            "^" => (power + 1, power),
            _ => (power, power + 1),
        };
        Self {
            full: format!("({} {op} {})", lhs.full, rhs.full),
            least: format!("{} {op} {}", lhs.above(left), rhs.above(right)),
            power,
        }
    }

    fn prefix(sign: &str, inner: &Self) -> Self {
        let power = if sign == "!" { 4 } else { 7 };
        Self {
            full: format!("({sign}({}))", inner.full),
            least: format!("{sign}{}", inner.above(power)),
            power,
        }
    }

    /// Both forms within other text.
    fn within(&self, before: &str, after: &str) -> Self {
        Self {
            full: format!("{before}{}{after}", self.full),
            least: format!("{before}{}{after}", self.least),
            power: LEAF,
        }
    }
}

fn leaves(texts: &'static [&'static str]) -> impl Strategy<Value = Expr> {
    prop::sample::select(texts).prop_map(Expr::leaf)
}

/// Trees of `leaf` with binary operators.
fn trees(
    leaf: impl Strategy<Value = Expr> + 'static,
    ops: &'static [&'static str],
) -> impl Strategy<Value = Expr> + Clone {
    leaf.prop_recursive(4, 16, 2, move |inner| {
        (inner.clone(), prop::sample::select(ops), inner)
            .prop_map(|(lhs, op, rhs)| Expr::binary(op, &lhs, &rhs))
    })
}

fn field() -> impl Strategy<Value = Expr> + Clone {
    const LEAVES: &[&str] = &[
        ".a",
        "span.b",
        "resource.\"c d\"",
        "parent.e",
        "name",
        "span:childCount",
        "1",
        "2.5",
        "3s",
        "`x`",
        "\"y`\"",
        "nil",
        "true",
        "error",
        "client",
        "maxInt",
        "minInt",
        "0",
    ];
    const OPS: &[&str] = &[
        "&&", "||", "=", "!=", "<", "<=", ">", ">=", "=~", "!~", "+", "-", "*", "/", "%", "^",
    ];
    leaves(LEAVES).prop_recursive(5, 24, 2, |inner| {
        let binary = (inner.clone(), prop::sample::select(OPS), inner.clone());
        prop_oneof![
            4 => binary.prop_map(|(lhs, op, rhs)| Expr::binary(op, &lhs, &rhs)),
            1 => inner.clone().prop_map(|inner| Expr::prefix("!", &inner)),
            1 => inner.prop_map(|inner| Expr::prefix("-", &inner)),
        ]
    })
}

fn spans() -> impl Strategy<Value = Expr> + Clone {
    const OPS: &[&str] = &[
        "&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<",
        "&<<", "&~",
    ];
    let filter = prop_oneof![
        Just(Expr::leaf("{ }")),
        field().prop_map(|field| field.within("{ ", " }")),
        (field(), field()).prop_map(|(a, b)| Expr {
            full: format!("({{ {} }} | {{ {} }})", a.full, b.full),
            least: format!("({{ {} }} | {{ {} }})", a.least, b.least),
            power: LEAF,
        }),
    ];
    trees(filter, OPS)
}

fn aggregate() -> impl Strategy<Value = Expr> {
    prop_oneof![
        Just(Expr::leaf("count()")),
        field().prop_map(|field| field.within("max(", ")")),
    ]
}

/// Expressions with an aggregate on their left.
fn scalar() -> impl Strategy<Value = Expr> {
    const OPS: &[&str] = &["+", "-", "*", "/", "%", "^"];
    let number = leaves(&["1", "2.5", "3s", "-4"]);
    let tree = trees(prop_oneof![aggregate(), number], OPS);
    (aggregate(), prop::sample::select(OPS), tree)
        .prop_map(|(lhs, op, rhs)| Expr::binary(op, &lhs, &rhs))
}

fn stage() -> impl Strategy<Value = Expr> {
    let order = prop::sample::select(&["=", "!=", "<", "<=", ">", ">="][..]);
    // In brackets it would be a pipeline of its own.
    let filter = (scalar(), order, scalar()).prop_map(|(lhs, op, rhs)| Expr {
        full: format!("{} {op} {}", lhs.full, rhs.full),
        ..Expr::binary(op, &lhs, &rhs)
    });
    prop_oneof![
        spans(),
        filter,
        field().prop_map(|field| field.within("by(", ")")),
        Just(Expr::leaf("coalesce()")),
        Just(Expr::leaf("select(.a, name)")),
    ]
}

fn pipeline() -> impl Strategy<Value = Expr> + Clone {
    let stages = prop::collection::vec(stage(), 0..3).prop_map(|stages| stages);
    (spans(), stages)
        .prop_map(|(first, stages)| {
            let join = |of: fn(&Expr) -> &String| {
                let stages = [&first].into_iter().chain(&stages).map(of);
                stages.cloned().collect::<Vec<_>>().join(" | ")
            };
            Expr {
                full: join(|stage| &stage.full),
                least: join(|stage| &stage.least),
                power: 0,
            }
        })
        .boxed()
}

fn between_pipelines() -> impl Strategy<Value = Expr> {
    let of = (pipeline(), aggregate()).prop_map(|(pipeline, aggregate)| Expr {
        full: format!("({} | {})", pipeline.full, aggregate.full),
        least: format!("({} | {})", pipeline.least, aggregate.least),
        power: LEAF,
    });
    let tree = trees(of, &["+", "-", "*", "/", "%", "^"]).boxed();
    (tree.clone(), tree).prop_map(|(lhs, rhs)| Expr {
        full: format!("{} > {}", lhs.full, rhs.full),
        ..Expr::binary(">", &lhs, &rhs)
    })
}

fn metrics() -> impl Strategy<Value = Expr> {
    const FUNCTIONS: &[&str] = &[
        "rate()",
        "count_over_time() by(.a, name)",
        "quantile_over_time(duration, 0.5, 1)",
        "histogram_over_time(.a)",
        "compare({ .a = 1 }, 5)",
        "rate() > 2 | topk(3)",
        "avg_over_time(.a) by(.b) | bottomk(1) <= -2.5",
    ];
    let function = (pipeline(), prop::sample::select(FUNCTIONS));
    let function =
        function.prop_map(|(spans, function)| spans.within("(", &format!(" | {function})")));
    let number = leaves(&["1", "2.5", "-4", "1e20"]);
    let ops = &["+", "-", "*", "/"];
    let tree = trees(prop_oneof![3 => function, 1 => number], ops);
    let then = prop::sample::select(&["", " | topk(2)", " >= 1 / 2", " != 3s | bottomk(1)"][..]);
    (tree, then).prop_map(|(tree, then)| tree.within("", then))
}

fn query() -> impl Strategy<Value = Expr> {
    let hints = prop::sample::select(&["", " with(a=1)", " with(b=`x`, c=true, d=1.5, e=2s)"][..]);
    let root = prop_oneof![pipeline(), between_pipelines(), metrics()];
    (root, hints).prop_map(|(root, hints)| root.within("", hints))
}

/// The tree without places.
fn shape(text: &str) -> Result<String, String> {
    let read = parse_unchecked(text).map_err(|error| {
        // The place is another one where there are more brackets.
        let (_, why) = error.message.rsplit_once(": ").unwrap_or_default();
        why.to_owned()
    })?;
    let shown = format!("{read:?}");
    let mut pieces = shown.split("Span { start: ");
    let first = pieces.next().unwrap_or_default().to_owned();
    Ok(pieces.fold(first, |shape, piece| {
        let rest = piece.split_once('}').map_or("", |(_, rest)| rest);
        shape + rest
    }))
}

/// Where two trees differ, with what stands around; trees are too long to be shown.
fn difference(a: &str, b: &str) -> Option<String> {
    let at = a.bytes().zip(b.bytes()).position(|(a, b)| a != b);
    let at = at.or((a.len() != b.len()).then(|| a.len().min(b.len())))?;
    let around = |text: &str| -> String {
        let start = text.char_indices().map(|(i, _)| i).rfind(|i| i + 60 <= at);
        text[start.unwrap_or(0)..].chars().take(160).collect()
    };
    Some(format!("{}\n{}", around(a), around(b)))
}

proptest! {
    // Queries are large.
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn brackets_that_precedence_says_anyway_change_nothing(query in query()) {
        let (full, least) = (shape(&query.full), shape(&query.least));
        let differ = difference(&format!("{full:?}"), &format!("{least:?}"));
        prop_assert_eq!(differ, None, "{} and {}", query.full, query.least);
        // Computed constants may have no result.
        let refused = full.as_ref().err().map(String::as_str);
        let is_constant = matches!(refused, Some("the result is out of range" | "division by zero"));
        // Numbers alone are no query, whatever is done with them.
        let functions = ["{", "by(", "select(", "count(", "min(", "max(", "avg(", "sum(", "rate("];
        let is_number = !functions.iter().any(|name| query.full.contains(name))
            && !query.full.contains("_over_time(");
        let may_fail = is_constant || is_number || query.full.len() > OPERATORS_MAX;
        prop_assert!(full.is_ok() || may_fail, "{}", query.full);
    }

    #[test]
    fn what_is_printed_is_the_same_query(query in query()) {
        let Ok(read) = parse_unchecked(&query.least) else {
            return Ok(());
        };
        let printed = read.to_string();
        let (again, first) = (shape(&printed), shape(&query.least));
        let differ = difference(&format!("{again:?}"), &format!("{first:?}"));
        prop_assert_eq!(differ, None, "{}", printed);
        prop_assert_eq!(parse_unchecked(&printed).unwrap().to_string(), printed);
    }

    /// However a query is cut, what a request for tags takes from it can be read again.
    #[test]
    fn what_is_typed_so_far_is_a_query(query in query(), cut in any::<prop::sample::Index>()) {
        let ends: Vec<usize> = query.least.char_indices().map(|(at, _)| at).collect();
        let typed = &query.least[..ends[cut.index(ends.len())]];
        let printed = tag_query(typed).to_string();
        prop_assert_eq!(parse_unchecked(&printed).unwrap().to_string(), printed);
    }
}
