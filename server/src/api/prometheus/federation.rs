//! Several tenants read as one: every series has a label more, which says whose it is, and matchers
//! on that label choose tenants. `source` puts it together.

use std::collections::BTreeSet;

use trine_query::promql::{SelectRequest, Series, SeriesIter, Source};
use trine_storage::{Error, Labels, Matcher, TimeRange};

/// The label that holds the tenant.
pub(in crate::api) const TENANT_LABEL: &str = "__tenant_id__";

/// What a label of that name which a series has already is called.
const ORIGINAL_LABEL: &str = "original___tenant_id__";

/// Sources by tenant.
pub(super) struct Federation {
    members: Vec<(String, Box<dyn Source>)>,
}

/// The matchers that choose tenants, and those that choose their series.
struct Split {
    tenants: Vec<Matcher>,
    series: Vec<Matcher>,
}

impl Split {
    fn of(matchers: &[Matcher]) -> Self {
        let mut split = Self {
            tenants: Vec::new(),
            series: Vec::new(),
        };
        for matcher in matchers {
            match matcher.name() {
                TENANT_LABEL => split.tenants.push(matcher.clone()),
                ORIGINAL_LABEL => split.series.push(renamed(matcher)),
                _ => split.series.push(matcher.clone()),
            }
        }
        split
    }

    fn has(&self, tenant: &str) -> bool {
        self.tenants.iter().all(|matcher| matcher.matches(tenant))
    }
}

/// The matcher as the store knows the label. It was valid under another name, so it is valid.
fn renamed(matcher: &Matcher) -> Matcher {
    Matcher::new(matcher.op(), TENANT_LABEL, matcher.value()).unwrap_or_else(|_| matcher.clone())
}

/// Whether the tenant is one of those that `matchers` choose, and what is left for its series.
pub(in crate::api) fn chosen(matchers: &[Matcher], tenant: &str) -> Option<Vec<Matcher>> {
    let split = Split::of(matchers);
    split.has(tenant).then_some(split.series)
}

/// The labels of a series of `tenant`.
pub(in crate::api) fn labelled(labels: &Labels, tenant: &str) -> Labels {
    match labels.get(TENANT_LABEL) {
        Some(own) => labels.with(ORIGINAL_LABEL, own),
        None => labels.clone(),
    }
    .with(TENANT_LABEL, tenant)
}

impl Federation {
    /// Sources of `members` (tenant and source), in order of the tenants.
    pub(super) fn new(members: Vec<(String, Box<dyn Source>)>) -> Self {
        Self { members }
    }

    /// The members that the matchers choose.
    fn chosen<'a>(
        &'a self,
        split: &'a Split,
    ) -> impl Iterator<Item = (&'a str, &'a dyn Source)> + 'a {
        let members = self.members.iter();
        members
            .filter(|(tenant, _)| split.has(tenant))
            .map(|(tenant, source)| (tenant.as_str(), source.as_ref()))
    }
}

/// The series of one of several tenants in label order, as [`Merge`] needs them. They come in the
/// order that they had without the label more.
pub(super) fn ordered<T: Labelled + Send + 'static>(
    source: &dyn Source,
    series: impl Iterator<Item = Result<T, Error>> + Send + 'static,
) -> Result<Input<T>, Error> {
    if !changes_order(source)? {
        return Ok(Box::new(series));
    }
    let mut all = series.collect::<Result<Vec<T>, Error>>()?;
    all.sort_unstable_by(|a, b| a.labels().cmp(b.labels()));
    Ok(Box::new(all.into_iter().map(Ok)))
}

/// Whether the label more may change the order of series: only where another one is before it.
fn changes_order(source: &dyn Source) -> Result<bool, Error> {
    let names = source.label_names(&[], TimeRange::ALL, None)?;
    let before = names.iter().take_while(|name| name.as_str() < TENANT_LABEL);
    Ok(before.filter(|name| *name != "__name__").count() > 0)
}

impl Source for Federation {
    fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error> {
        let split = Split::of(&request.matchers);
        let mut inputs = Vec::new();
        for (tenant, source) in self.chosen(&split) {
            let request = SelectRequest {
                matchers: split.series.clone(),
                ..request.clone()
            };
            let tenant = tenant.to_owned();
            let found = source.select(&request)?.map(move |series| {
                let mut series = series?;
                series.labels = labelled(&series.labels, &tenant);
                Ok(series)
            });
            inputs.push(ordered(source, found)?);
        }
        Ok(Box::new(Merge::of(inputs)))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        let split = Split::of(matchers);
        let mut found = BTreeSet::new();
        for (_, source) in self.chosen(&split) {
            let names = source.label_names(&split.series, range, limit)?;
            if names.iter().any(|name| name == TENANT_LABEL) {
                found.insert(ORIGINAL_LABEL.to_owned());
            }
            if !names.is_empty() {
                found.insert(TENANT_LABEL.to_owned());
            }
            found.extend(names);
        }
        Ok(cut(found, limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<String>, Error> {
        let split = Split::of(matchers);
        let stored_name = match name {
            ORIGINAL_LABEL => TENANT_LABEL,
            other => other,
        };
        let mut found = BTreeSet::new();
        for (tenant, source) in self.chosen(&split) {
            if name == TENANT_LABEL {
                found.insert(tenant.to_owned());
            } else {
                found.extend(source.label_values(stored_name, &split.series, range, limit)?);
            }
        }
        Ok(cut(found, limit))
    }

    fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: Option<usize>,
    ) -> Result<Vec<Labels>, Error> {
        let split = Split::of(matchers);
        let mut found = Vec::new();
        for (tenant, source) in self.chosen(&split) {
            let series = source.series(&split.series, range, limit)?;
            found.extend(series.iter().map(|labels| labelled(labels, tenant)));
        }
        found.sort_unstable();
        found.truncate(limit.unwrap_or(usize::MAX));
        Ok(found)
    }
}

fn cut(found: BTreeSet<String>, limit: Option<usize>) -> Vec<String> {
    found
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .collect()
}

/// Something that has its place in label order.
pub(super) trait Labelled {
    /// Its labels.
    fn labels(&self) -> &Labels;
}

impl Labelled for Series {
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// Series one after the other.
pub(super) type Input<T> = Box<dyn Iterator<Item = Result<T, Error>> + Send>;

/// Series of several sources in label order. There are as many sources as a header names, so the
/// next one is found by looking at all of them.
pub(super) struct Merge<T> {
    inputs: Vec<Input<T>>,
    heads: Vec<Option<Result<T, Error>>>,
}

impl<T: Labelled> Merge<T> {
    /// The series of `inputs`, each of which is in label order.
    pub(super) fn of(mut inputs: Vec<Input<T>>) -> Self {
        Self {
            heads: inputs.iter_mut().map(Iterator::next).collect(),
            inputs,
        }
    }
}

impl<T: Labelled> Iterator for Merge<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let waiting = self.heads.iter().enumerate();
        let (at, _) = waiting
            .filter_map(|(at, head)| Some((at, head.as_ref()?)))
            // An error has no place in the order, so it comes first.
            .min_by_key(|(_, head)| head.as_ref().ok().map(Labelled::labels))?;
        let input = self.inputs.get_mut(at)?;
        std::mem::replace(self.heads.get_mut(at)?, input.next())
    }
}

#[cfg(test)]
mod tests {
    use trine_query::promql::{Hints, Samples, Values};
    use trine_storage::MatchOp;

    use super::*;

    /// Series of one sample, in label order.
    struct Fixed(Vec<Labels>);

    impl Fixed {
        fn of(series: &[&[(&str, &str)]]) -> Box<dyn Source> {
            let labels = |pairs: &&[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
            let mut series: Vec<Labels> = series.iter().map(|s| labels(s).unwrap()).collect();
            series.sort();
            Box::new(Self(series))
        }

        fn matching(&self, matchers: &[Matcher]) -> Vec<Labels> {
            let matches = |labels: &&Labels| matchers.iter().all(|m| m.matches_labels(labels));
            self.0.iter().filter(matches).cloned().collect()
        }
    }

    impl Source for Fixed {
        fn select(&self, request: &SelectRequest) -> Result<SeriesIter, Error> {
            let series = self.matching(&request.matchers).into_iter().map(|labels| {
                let samples = Samples::new(vec![1], Values::Floats(vec![1.0]));
                Ok(Series { labels, samples })
            });
            Ok(Box::new(series))
        }

        fn label_names(
            &self,
            matchers: &[Matcher],
            _: TimeRange,
            _: Option<usize>,
        ) -> Result<Vec<String>, Error> {
            let found = self.matching(matchers);
            let names = found.iter().flat_map(|labels| labels.iter().map(|l| l.0));
            let names: BTreeSet<&str> = names.collect();
            Ok(names.into_iter().map(str::to_owned).collect())
        }

        fn label_values(
            &self,
            name: &str,
            matchers: &[Matcher],
            _: TimeRange,
            _: Option<usize>,
        ) -> Result<Vec<String>, Error> {
            let found = self.matching(matchers);
            Ok(found
                .iter()
                .filter_map(|l| l.get(name))
                .map(str::to_owned)
                .collect())
        }

        fn series(
            &self,
            matchers: &[Matcher],
            _: TimeRange,
            _: Option<usize>,
        ) -> Result<Vec<Labels>, Error> {
            Ok(self.matching(matchers))
        }
    }

    fn federation() -> Federation {
        let member = |id: &str, source| (id.to_owned(), source);
        Federation::new(vec![
            member(
                "a",
                Fixed::of(&[
                    &[("__name__", "up"), ("A", "1")],
                    &[("__name__", "up"), ("A", "1"), ("B", "2")],
                    &[("__name__", "up"), ("job", "x")],
                ]),
            ),
            member(
                "b",
                Fixed::of(&[
                    &[("__name__", "down")],
                    &[("__name__", "up"), ("job", "x"), ("__tenant_id__", "z")],
                ]),
            ),
        ])
    }

    fn matcher(text: &str) -> Vec<Matcher> {
        trine_query::promql::parse_selector(text).unwrap()
    }

    #[test]
    fn series_say_whose_they_are() {
        let federation = federation();
        let check = |selector: &str, expect: &[&str]| {
            let matchers = matcher(selector);
            let texts = |series: Vec<Labels>| -> Vec<String> {
                series.iter().map(ToString::to_string).collect()
            };
            let request = SelectRequest {
                matchers: matchers.clone(),
                range: TimeRange::ALL,
                hints: Hints::default(),
            };
            let selected = federation.select(&request).unwrap();
            let selected: Vec<Labels> = selected.map(|series| series.unwrap().labels).collect();
            assert!(selected.is_sorted(), "{selected:?}");
            let listed = federation.series(&matchers, TimeRange::ALL, None).unwrap();
            assert_eq!(selected, listed);
            assert_eq!(texts(selected), expect, "{selector}");
        };
        let job_a = r#"{__name__="up", __tenant_id__="a", job="x"}"#;
        let job_b = r#"{__name__="up", __tenant_id__="b", job="x", original___tenant_id__="z"}"#;
        check(r#"up{job="x"}"#, &[job_a, job_b]);
        check(r#"up{job="x",__tenant_id__="b"}"#, &[job_b]);
        check(r#"up{job="x",__tenant_id__!="b"}"#, &[job_a]);
        check(r#"up{__tenant_id__=~"c|d"}"#, &[]);
        check(r#"{__name__=~".+",original___tenant_id__="z"}"#, &[job_b]);
        check(
            "{__name__=~\".+\",A=\"1\"}",
            &[
                r#"{A="1", B="2", __name__="up", __tenant_id__="a"}"#,
                r#"{A="1", __name__="up", __tenant_id__="a"}"#,
            ],
        );
    }

    #[test]
    fn names_and_values() {
        let federation = federation();
        let names = |selector: &str| {
            let matchers = if selector.is_empty() {
                Vec::new()
            } else {
                matcher(selector)
            };
            federation
                .label_names(&matchers, TimeRange::ALL, None)
                .unwrap()
        };
        let all = [
            "A",
            "B",
            "__name__",
            "__tenant_id__",
            "job",
            "original___tenant_id__",
        ];
        assert_eq!(names(""), all);
        assert_eq!(names("down"), ["__name__", "__tenant_id__"]);
        assert!(names("nothing").is_empty());
        let values = |name: &str, selector: &str, limit| {
            let matchers = if selector.is_empty() {
                Vec::new()
            } else {
                matcher(selector)
            };
            federation
                .label_values(name, &matchers, TimeRange::ALL, limit)
                .unwrap()
        };
        assert_eq!(values("__tenant_id__", "", None), ["a", "b"]);
        assert_eq!(
            values("__tenant_id__", r#"up{__tenant_id__!="a"}"#, None),
            ["b"]
        );
        assert_eq!(values("original___tenant_id__", "", None), ["z"]);
        assert_eq!(values("__name__", "", None), ["down", "up"]);
        assert_eq!(values("__name__", "", Some(1)), ["down"]);
        let all = Matcher::new(MatchOp::NotEqual, TENANT_LABEL, "b").unwrap();
        assert_eq!(chosen(std::slice::from_ref(&all), "a"), Some(Vec::new()));
        assert_eq!(chosen(&[all], "b"), None);
    }
}
