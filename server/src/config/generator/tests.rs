use super::super::Config;
use super::*;

fn told(texts: &[&str]) -> Result<Generator, String> {
    let mut generator = Generator::default();
    for text in texts {
        generator.tell(text)?;
    }
    Ok(generator)
}

#[test]
fn the_default_is_tempos() {
    let generator = Generator::default();
    let of = &generator.processor;
    assert_eq!(of.service_graphs.histogram_buckets.len(), 8);
    assert_eq!(of.service_graphs.histogram_buckets.last(), Some(&12.8));
    assert_eq!(of.span_metrics.histogram_buckets.len(), 14);
    assert_eq!(of.span_metrics.histogram_buckets.last(), Some(&16.384));
    assert_eq!(generator.check(), Ok(()));
}

#[test]
fn what_is_told_is_put_over_what_was_told_before() {
    let first = "{processors: [span-metrics], collection_interval: 5s, processor: {span_metrics: \
                 {dimensions: [a, b], enable_target_info: true}, service_graphs: {wait: 2s}}}";
    let second = "processor:\n  span_metrics:\n    dimensions: [c]\n";
    let generator = told(&[first, second]).unwrap();
    assert_eq!(generator.processors, [Processor::SpanMetrics]);
    assert_eq!(generator.collection_interval, Duration::from_secs(5));
    let of = &generator.processor;
    assert_eq!(of.span_metrics.dimensions, ["c"]);
    assert!(of.span_metrics.enable_target_info);
    assert_eq!(of.service_graphs.wait, Duration::from_secs(2));
    assert_eq!(of.service_graphs.max_items, 100_000);
}

#[test]
fn processors_are_named_or_none() {
    let mut generator = Generator::default();
    generator.tell_processors("span-metrics-count").unwrap();
    assert!(generator.has(Processor::SpanMetricsCount));
    assert!(!generator.has(Processor::SpanMetrics));
    generator.tell_processors("none").unwrap();
    assert!(generator.processors.is_empty());
    let why = generator.tell_processors("local-blocks").unwrap_err();
    assert!(why.contains("local-blocks"), "{why}");
    generator.tell_series("0").unwrap();
    assert_eq!(generator.max_active_series, 0);
}

#[test]
fn a_filter_policy_names_attributes_with_their_scope() {
    let policy = |kind: &str, key: &str, value: &str| {
        let text = format!(
            "{{processor: {{span_metrics: {{filter_policies: [{{include: {{match_type: {kind}, \
             attributes: [{{key: {key}, value: {value}}}]}}}}]}}}}}}"
        );
        let generator = told(&[&text])?;
        let policies = &generator.processor.span_metrics.filter_policies;
        let include = policies[0].include.clone().unwrap();
        Ok::<_, String>(include.attributes[0].clone())
    };
    let resource = FilterAttribute::Resource("tier".to_owned());
    assert_eq!(
        policy("strict", "resource.tier", "1").unwrap().attribute,
        resource
    );
    let kind = policy("strict", "kind", "SPAN_KIND_SERVER").unwrap();
    assert_eq!(kind.attribute, FilterAttribute::Kind);
    assert_eq!(kind.test, FilterTest::Is("SPAN_KIND_SERVER".into()));
    assert!(matches!(
        policy("regex", "span.x", "a.*").unwrap().test,
        FilterTest::Matches(_)
    ));
    for (kind, key, value, why) in [
        ("strict", "tier", "1", "is not an attribute to filter by"),
        ("strict", "span.", "1", "is not an attribute to filter by"),
        ("regex", "span.x", "'('", "missing closing"),
        ("regex", "span.x", "1", "is no expression"),
        ("strict", "span.x", "[1]", "is no value"),
        ("loose", "span.x", "1", "unknown variant"),
    ] {
        let told = policy(kind, key, value).unwrap_err();
        assert!(told.contains(why), "{key} {value}: {told}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, why) in [
        (
            "{processor: {span_metrics: {histogram_buckets: []}}}",
            "1 to 200 numbers",
        ),
        (
            "{processor: {service_graphs: {histogram_buckets: [1, 1]}}}",
            "above the one before",
        ),
        ("{collection_interval: 1ms}", "from 1s to 1h"),
        ("{collection_interval: 2h}", "from 1s to 1h"),
        ("{collection_interval: soon}", "is not a duration"),
        ("{stale_duration: 1s}", "at least collection_interval"),
        ("{trace_id_label_name: ''}", "is empty"),
        ("{native_histogram_bucket_factor: 1}", "above 1"),
        ("{native_histogram_max_bucket_number: 0}", "at least 1"),
        ("{generate_native_histograms: some}", "unknown variant"),
        ("{procesors: []}", "unknown field"),
    ] {
        let told = told(&[text]).unwrap_err();
        assert!(told.contains(why), "{text}: {told}");
    }
    let bounds: Vec<usize> = (0..=BUCKETS_MAX).collect();
    let of = |bounds: &[usize]| {
        told(&[&format!(
            "{{processor: {{span_metrics: {{histogram_buckets: {bounds:?}}}}}}}"
        )])
    };
    assert!(of(&bounds[..BUCKETS_MAX]).is_ok());
    assert!(of(&bounds).is_err());
    let before = told(&["{collection_interval: 5s}"]).unwrap();
    let mut after = before.clone();
    assert!(after.tell("{collection_interval: 1ms}").is_err());
    assert!(after.tell("{trace_id_label_name: traceID}").is_ok());
    assert_eq!(after.collection_interval, before.collection_interval);
}

#[test]
fn a_tenant_may_have_settings_of_its_own() {
    let text = "metrics_generator: {processor: {span_metrics: {dimensions: [a]}}}\n\
                overrides:\n  one:\n    metrics_generator_processors: [span-metrics]\n    \
                metrics_generator:\n      processor:\n        span_metrics: {enable_target_info: true}\n  \
                two:\n    metrics_generator_processors: none\n";
    let read = |_: &str| Ok(text.to_owned());
    let outside = super::super::Outside {
        variable: &|_| None,
        read: &read,
    };
    let args = ["trine", "--config", "t.yaml"].map(str::to_owned);
    let Ok(super::super::Invocation::Serve(config)) =
        super::super::Invocation::load(args, &outside)
    else {
        panic!("it is refused");
    };
    let of = |tenant: &str| Config::of(&config, tenant).generator.clone();
    assert_eq!(of("one").processors, [Processor::SpanMetrics]);
    assert_eq!(of("one").processor.span_metrics.dimensions, ["a"]);
    assert!(of("one").processor.span_metrics.enable_target_info);
    assert!(of("two").processors.is_empty());
    assert_eq!(of("three").processors.len(), 2);
}
