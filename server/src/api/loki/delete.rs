//! Deletes of log entries: asked for, listed and taken back. The texts are Loki's.

use trine_logstore::{Deletion, LineFilter};
use trine_query::logql::ast::{Expr, LogExpr, StageKind};
use trine_query::logql::{self, logstore};
use trine_query::text::{parse_go_duration, quote};
use trine_storage::{Kind, Matcher, TimeRange};

use super::answer::Failure;
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;
use crate::params::Params;

const SECOND_NS: i64 = 1_000_000_000;

/// What is to be deleted.
#[derive(Debug)]
struct Wanted {
    matchers: Vec<Matcher>,
    lines: Vec<LineFilter>,
    /// The query, when matchers and filters do not say all of it.
    condition: Option<String>,
    range: TimeRange,
}

/// Whether the tenant may delete at all.
fn check_allowed(asked: &Asked) -> Result<(), Failure> {
    let config = &asked.app.config;
    let mut tenants = asked.tenants.iter();
    if tenants.all(|(id, _)| config.of(id.as_str()).logs.deletes) {
        return Ok(());
    }
    Err(Failure::forbidden(
        "deletion is not available for this tenant",
    ))
}

/// `POST`: deletes what the query finds in the range.
pub(super) fn add(asked: &Asked) -> Result<(), Failure> {
    check_allowed(asked)?;
    asked.app.tenants.may_write()?;
    let wanted = wanted(&asked.params, asked.app.clock.now_ns())?;
    let Some(tenant) = &asked.tenant else {
        return Ok(());
    };
    if let Some(store) = tenant.read_logs()? {
        let Wanted {
            matchers,
            lines,
            condition,
            range,
        } = wanted;
        match condition {
            Some(text) => store.delete_where(&matchers, &lines, &text, range)?,
            None => store.delete(&matchers, &lines, range)?,
        };
    }
    Ok(())
}

/// `GET`: the deletes that are not done with.
pub(super) fn list(asked: &Asked) -> Result<String, Failure> {
    check_allowed(asked)?;
    let store = asked.tenant.as_ref().map(|tenant| tenant.read_logs());
    let store = store.transpose()?.flatten();
    let deletes = store.map(|store| store.deletes()).unwrap_or_default();
    let mut out = String::new();
    json::array(&mut out, &deletes, |out, deletion| {
        let mut object = Object::begin(out);
        object.text("request_id", &id_of(deletion.number));
        let range = deletion.range;
        let last = range.end.saturating_sub(1);
        for (name, ms) in [
            ("start_time", range.start.div_euclid(1_000_000)),
            ("end_time", last.div_euclid(1_000_000)),
        ] {
            object.raw(name, ms as f64 / 1000.0);
        }
        object.text("query", &query_of(deletion));
        let status = if deletion.cancellable {
            "received"
        } else {
            "processed"
        };
        object.text("status", status);
        object.raw("created_at", deletion.created_ms as f64 / 1000.0);
        object.end();
    });
    Ok(out)
}

/// `DELETE`: takes a delete back.
pub(super) fn cancel(asked: &Asked) -> Result<(), Failure> {
    check_allowed(asked)?;
    asked.app.tenants.may_write()?;
    let id = asked.params.get("request_id");
    let unknown = || Failure::not_found("could not find delete request with given id");
    let number = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    let number = number.ok_or_else(unknown)?;
    let store = asked.tenant.as_ref().map(|tenant| tenant.read_logs());
    let store = store.transpose()?.flatten().ok_or_else(unknown)?;
    let deletes = store.deletes();
    let held = deletes.iter().find(|deletion| deletion.number == number);
    if !held.ok_or_else(unknown)?.cancellable {
        return Err(processed());
    }
    match store.cancel_delete(number) {
        Err(error) if error.kind() == Kind::Invalid => Err(processed()),
        other => Ok(other?),
    }
}

fn processed() -> Failure {
    Failure::bad("deletion of request which is in process or already processed is not allowed")
}

fn id_of(number: u64) -> String {
    format!("{number:08x}")
}

fn wanted(params: &Params, now_ns: i64) -> Result<Wanted, Failure> {
    let query = params
        .get("query")
        .ok_or_else(|| Failure::bad("query not set"))?;
    let Ok(Expr::Log(expr)) = logql::parse(query) else {
        return Err(Failure::bad("invalid query expression"));
    };
    let start = params
        .get("start")
        .ok_or_else(|| Failure::bad("start time not set"))?;
    let start_ns = instant(start, "start")?;
    let end_ns = match params.get("end") {
        Some(end) => instant(end, "end")?,
        None => now_ns,
    };
    if end_ns > now_ns {
        return Err(Failure::bad("deletes in the future are not allowed"));
    }
    if start_ns >= end_ns {
        let text = "start time can't be greater than or equal to end time";
        return Err(Failure::bad(text));
    }
    if let Some(interval) = params.get("max_interval")
        && !parse_go_duration(interval).is_ok_and(|interval| interval > 0)
    {
        let text = "invalid max_interval: valid time units are 's', 'm', 'h'";
        return Err(Failure::bad(text));
    }
    let (lines, is_all) = filters(&expr)?;
    Ok(Wanted {
        lines,
        condition: (!is_all).then(|| expr.to_string()),
        matchers: expr.selector.matchers,
        range: TimeRange::inclusive(start_ns, end_ns),
    })
}

/// Nanoseconds of a time in seconds or RFC 3339.
fn instant(text: &str, name: &str) -> Result<i64, Failure> {
    let wrong = || {
        Failure::bad(format!(
            "invalid {name} time: require unix seconds or RFC3339 format"
        ))
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.saturating_mul(SECOND_NS));
    }
    let time = text.parse::<jiff::Timestamp>().map_err(|_| wrong())?;
    i64::try_from(time.as_nanosecond()).map_err(|_| wrong())
}

/// The filters of lines before all other stages, and whether they say all that the stages do.
fn filters(expr: &LogExpr) -> Result<(Vec<LineFilter>, bool), Failure> {
    let mut filters = Vec::new();
    let mut is_all = true;
    for stage in &expr.stages {
        let StageKind::LineFilter(filter) = &stage.kind else {
            return Ok((filters, false));
        };
        let (conditions, are_all) = logstore::conditions(filter).map_err(Failure::bad)?;
        filters.extend(conditions);
        is_all &= are_all;
    }
    Ok((filters, is_all))
}

/// The query of a delete.
fn query_of(deletion: &Deletion) -> String {
    if let Some(text) = &deletion.condition {
        return text.clone();
    }
    let matchers: Vec<String> = deletion.matchers.iter().map(ToString::to_string).collect();
    let mut out = format!("{{{}}}", matchers.join(", "));
    let text = |bytes: &bytes::Bytes| quote(&String::from_utf8_lossy(bytes));
    for filter in &deletion.lines {
        let part = match filter {
            LineFilter::Contains(bytes) => format!(" |= {}", text(bytes)),
            LineFilter::NotContains(bytes) => format!(" != {}", text(bytes)),
            LineFilter::ContainsAny(all) => {
                let all: Vec<String> = all.iter().map(text).collect();
                format!(" |= {}", all.join(" or "))
            }
            // No query says it; programs do.
            LineFilter::ContainsWhole { .. } => format!(" {filter}"),
            LineFilter::Matches(regex) => format!(" |~ {}", quote(regex.pattern())),
            LineFilter::NotMatches(regex) => format!(" !~ {}", quote(regex.pattern())),
        };
        out.push_str(&part);
    }
    out
}
