//! Logs of several tenants read as one: every stream has a label more, which says whose it is, and
//! matchers on that label choose tenants. `source` puts it together.

use std::collections::BTreeSet;

use trine_query::logql::source::{
    Batch, Batches, Counts, Direction, Lines, Request, RowBatch, Rows, Source,
};
use trine_storage::{Error, Kind, Labels, Matcher, TimeRange};

use crate::api::prometheus::federation::{TENANT_LABEL, chosen, labelled};

/// Sources by tenant.
pub(super) struct Several {
    members: Vec<(String, Box<dyn Source>)>,
}

impl Several {
    /// Sources of `members` (tenant and source).
    pub(super) fn new(members: Vec<(String, Box<dyn Source>)>) -> Self {
        Self { members }
    }

    /// The members that the matchers choose, with what is left of the matchers.
    fn chosen<'a>(
        &'a self,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a str, &'a dyn Source, Vec<Matcher>)> + 'a {
        self.members.iter().filter_map(|(tenant, source)| {
            let left = chosen(matchers, tenant)?;
            Some((tenant.as_str(), source.as_ref(), left))
        })
    }
}

/// The batch of a tenant, whose streams are named as its.
fn of_tenant(mut batch: Batch, tenant: &str) -> Batch {
    let streams = match &mut batch {
        Batch::Rows(rows) => &mut rows.streams,
        Batch::Counts(counts) => &mut counts.streams,
    };
    for labels in streams {
        *labels = labelled(labels, tenant);
    }
    batch
}

impl Source for Several {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let matchers = match request {
            Request::Rows(rows) => &rows.matchers,
            Request::Counts(counts) => &counts.matchers,
        };
        let mut inputs: Vec<Batches> = Vec::new();
        for (tenant, source, matchers) in self.chosen(matchers) {
            let request = match request {
                Request::Rows(rows) => Request::Rows(Rows {
                    matchers,
                    ..rows.clone()
                }),
                Request::Counts(counts) => Request::Counts(Counts {
                    matchers,
                    ..counts.clone()
                }),
            };
            let tenant = tenant.to_owned();
            let batches = source.scan(&request)?;
            inputs.push(Box::new(
                batches.map(move |batch| batch.map(|batch| of_tenant(batch, &tenant))),
            ));
        }
        match request {
            Request::Rows(rows) if rows.direction != Direction::Any => {
                Ok(Box::new(Merge::of(inputs, rows.direction)))
            }
            _ => Ok(Box::new(inputs.into_iter().flatten())),
        }
    }

    fn streams(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        let mut found = BTreeSet::new();
        for (tenant, source, matchers) in self.chosen(matchers) {
            let streams = source.streams(&matchers, range)?;
            found.extend(streams.iter().map(|labels| labelled(labels, tenant)));
        }
        Ok(found.into_iter().collect())
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, Error> {
        let streams = self.streams(matchers, range)?;
        let names: BTreeSet<&str> = streams.iter().flatten().map(|(name, _)| name).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let mut found = BTreeSet::new();
        for (tenant, source, matchers) in self.chosen(matchers) {
            if name == TENANT_LABEL {
                if !source.streams(&matchers, range)?.is_empty() {
                    found.insert(tenant.to_owned());
                }
            } else if source
                .label_names(&matchers, range)?
                .iter()
                .any(|n| n == TENANT_LABEL)
            {
                let streams = source.streams(&matchers, range)?;
                let labels = streams.iter().map(|labels| labelled(labels, tenant));
                found.extend(labels.filter_map(|labels| Some(labels.get(name)?.to_owned())));
            } else {
                found.extend(source.label_values(name, &matchers, range)?);
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// Rows of several sources in the order of time. There are as many sources as a header names, so the
/// next row is found by looking at all of them.
struct Merge {
    inputs: Vec<Input>,
    direction: Direction,
}

struct Input {
    batches: Batches,
    /// The batch in hand, and how many of its rows were given.
    head: Option<(RowBatch, usize)>,
    failed: Option<Error>,
}

impl Input {
    /// Takes the next batch in hand when the last one was given whole.
    fn fill(&mut self) {
        while self
            .head
            .as_ref()
            .is_none_or(|(batch, given)| *given >= batch.timestamps.len())
        {
            self.head = match self.batches.next() {
                None => None,
                Some(Ok(Batch::Rows(rows))) => Some((rows, 0)),
                Some(Ok(Batch::Counts(_))) => {
                    let text = "a log store answered a query for lines with counts";
                    self.failed = Some(Error::new(Kind::Unsupported, text));
                    None
                }
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return;
                }
            };
            if self.head.is_none() {
                return;
            }
        }
    }

    fn time(&self) -> Option<i64> {
        let (batch, given) = self.head.as_ref()?;
        batch.timestamps.get(*given).copied()
    }

    /// The rows up to the last one that `belongs`, at least one.
    fn take(&mut self, belongs: impl Fn(i64) -> bool) -> Option<RowBatch> {
        let (batch, given) = self.head.as_mut()?;
        let rest = batch.timestamps.get(*given..)?;
        let more = rest.iter().skip(1).take_while(|time| belongs(**time));
        let end = *given + 1 + more.count();
        let rows = slice(batch, *given, end);
        *given = end;
        Some(rows)
    }
}

/// The rows `[start, end)` of a batch.
fn slice(batch: &RowBatch, start: usize, end: usize) -> RowBatch {
    let ends = batch.lines.ends.get(start..end).unwrap_or_default();
    let before = start.checked_sub(1).and_then(|at| batch.lines.ends.get(at));
    let first = before.copied().unwrap_or(0);
    let last = ends.last().copied().unwrap_or(first);
    let part = |column: &[u32]| column.get(start..end).unwrap_or_default().to_vec();
    RowBatch {
        streams: batch.streams.clone(),
        stream: part(&batch.stream),
        timestamps: batch
            .timestamps
            .get(start..end)
            .unwrap_or_default()
            .to_vec(),
        lines: Lines {
            blob: batch.lines.blob.slice(first as usize..last as usize),
            ends: ends.iter().map(|end| end - first).collect(),
        },
        // These come in no order, and such batches are not cut.
        skeletons: None,
        metadata_sets: batch.metadata_sets.clone(),
        metadata: part(&batch.metadata),
    }
}

impl Merge {
    fn of(batches: Vec<Batches>, direction: Direction) -> Self {
        let input = |batches| Input {
            batches,
            head: None,
            failed: None,
        };
        Self {
            inputs: batches.into_iter().map(input).collect(),
            direction,
        }
    }
}

impl Iterator for Merge {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        for input in &mut self.inputs {
            input.fill();
            if let Some(error) = input.failed.take() {
                return Some(Err(error));
            }
        }
        let forward = self.direction == Direction::Forward;
        // Later is larger in the order asked for.
        let place = |time: i64| {
            if forward {
                i128::from(time)
            } else {
                -i128::from(time)
            }
        };
        let heads = self.inputs.iter().enumerate();
        let mut heads: Vec<(i128, usize)> = heads
            .filter_map(|(at, input)| Some((place(input.time()?), at)))
            .collect();
        heads.sort_unstable();
        let (_, at) = *heads.first()?;
        let next = heads.get(1).map(|(place, _)| *place);
        let input = self.inputs.get_mut(at)?;
        let rows = input.take(|time| next.is_none_or(|next| place(time) <= next))?;
        Some(Ok(Batch::Rows(rows)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trine_query::logql::source::Projection;
    use trine_storage::MatchOp;

    use super::*;

    /// Rows in the order of time, each a batch of two at most.
    struct Fixed(Vec<(i64, &'static str)>);

    fn stream(name: &str) -> Labels {
        Labels::from_pairs([("app", name)]).unwrap()
    }

    impl Source for Fixed {
        fn scan(&self, request: &Request) -> Result<Batches, Error> {
            let Request::Rows(Rows { direction, .. }) = request else {
                return Ok(Box::new(std::iter::empty()));
            };
            let mut rows = self.0.clone();
            if *direction == Direction::Backward {
                rows.reverse();
            }
            let batches: Vec<_> = rows
                .chunks(2)
                .map(|rows| {
                    let blob: String = rows.iter().map(|(_, line)| *line).collect();
                    let ends = rows.iter().scan(0, |end, (_, line)| {
                        *end += line.len() as u32;
                        Some(*end)
                    });
                    Ok(Batch::Rows(RowBatch {
                        streams: vec![stream("a")],
                        stream: vec![0; rows.len()],
                        timestamps: rows.iter().map(|(time, _)| *time).collect(),
                        lines: Lines {
                            ends: ends.collect(),
                            blob: Bytes::from(blob),
                        },
                        ..RowBatch::default()
                    }))
                })
                .collect();
            Ok(Box::new(batches.into_iter()))
        }

        fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
            Ok(vec![stream("a")])
        }

        fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
            Ok(vec!["app".to_owned()])
        }

        fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
            Ok(vec!["a".to_owned()])
        }
    }

    fn several() -> Several {
        Several::new(vec![
            (
                "x".to_owned(),
                Box::new(Fixed(vec![(1, "one"), (4, "four"), (5, "five")])),
            ),
            (
                "y".to_owned(),
                Box::new(Fixed(vec![(2, "two"), (3, "three"), (5, "fifth")])),
            ),
        ])
    }

    fn read(several: &Several, matchers: Vec<Matcher>, direction: Direction) -> Vec<String> {
        let request = Request::Rows(Rows {
            matchers,
            range: TimeRange::ALL,
            lines: Vec::new(),
            metadata: Vec::new(),
            either: None,
            direction,
            limit_hint: None,
            projection: Projection {
                lines: true,
                metadata: true,
                skeletons: false,
            },
            threads: 1,
        });
        let mut found = Vec::new();
        for batch in several.scan(&request).unwrap() {
            let Batch::Rows(rows) = batch.unwrap() else {
                panic!("counts")
            };
            for row in 0..rows.timestamps.len() {
                let tenant = rows.stream_of(row).unwrap().get(TENANT_LABEL).unwrap();
                let line = String::from_utf8_lossy(rows.lines.get(row)).into_owned();
                found.push(format!("{tenant}:{line}"));
            }
        }
        found
    }

    #[test]
    fn rows_come_in_the_order_of_time() {
        let several = several();
        let forward = ["x:one", "y:two", "y:three", "x:four", "x:five", "y:fifth"];
        assert_eq!(read(&several, Vec::new(), Direction::Forward), forward);
        let backward = ["x:five", "y:fifth", "x:four", "y:three", "y:two", "x:one"];
        assert_eq!(read(&several, Vec::new(), Direction::Backward), backward);
        let one = vec![Matcher::new(MatchOp::NotEqual, TENANT_LABEL, "x").unwrap()];
        let only = ["y:two", "y:three", "y:fifth"];
        assert_eq!(read(&several, one, Direction::Forward), only);
    }

    #[test]
    fn tenants_are_values_of_a_label() {
        let several = several();
        let names = several.label_names(&[], TimeRange::ALL).unwrap();
        assert_eq!(names, [TENANT_LABEL, "app"]);
        let values = several
            .label_values(TENANT_LABEL, &[], TimeRange::ALL)
            .unwrap();
        assert_eq!(values, ["x", "y"]);
        let values = several.label_values("app", &[], TimeRange::ALL).unwrap();
        assert_eq!(values, ["a"]);
        assert_eq!(several.streams(&[], TimeRange::ALL).unwrap().len(), 2);
    }
}
