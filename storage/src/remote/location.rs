//! Where a bucket is: the one setting, and what the environment says to it. Used by
//! [`super::bucket`] when it is opened.

use std::collections::BTreeMap;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, RealFs};

/// A store, and its interface for uploads in parts if it has one.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) parts: Option<Arc<dyn MultipartStore>>,
}

impl Backend {
    pub(crate) fn of<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Self {
        Self {
            store: Arc::clone(&store) as Arc<dyn ObjectStore>,
            parts: Some(store),
        }
    }
}

/// The kinds of store, by the scheme of their URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Store {
    S3(String),
    Google(String),
    Azure(String),
    Directory(PathBuf),
    Memory,
}

/// A parsed setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    store: Store,
    /// What every key begins with; empty, or without a slash at either end.
    pub(crate) prefix: String,
    /// The setting without a slash at its end, for errors.
    pub(crate) shown: String,
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        // What stands before an `@` or behind a `?` may be a secret.
        let cut = url
            .find(['?', '#'])
            .map_or(url, |end| url.get(..end).unwrap_or(""));
        let shown = match (cut.split_once("://"), cut.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
            _ => cut.to_owned(),
        };
        let bad = |what: &str| {
            Error::invalid(format!(
                "{shown:?} is not a place for objects: {what}; write s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory"
            ))
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("it has no scheme"))?;
        if rest.contains(['?', '#', '@']) {
            return Err(bad("it has more than a bucket and a prefix"));
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = path.trim_matches('/');
        let store = match (scheme, host) {
            ("s3" | "gs" | "az", "") => return Err(bad("the bucket is missing")),
            ("s3", bucket) => Store::S3(bucket.to_owned()),
            ("gs", bucket) => Store::Google(bucket.to_owned()),
            ("az", container) => Store::Azure(container.to_owned()),
            ("file", "") if prefix.is_empty() => return Err(bad("the directory is missing")),
            ("file", "") => Store::Directory(FsPath::new("/").join(prefix)),
            ("memory", "") => Store::Memory,
            ("file" | "memory", _) => return Err(bad("it needs three slashes")),
            _ => return Err(bad("the scheme is unknown")),
        };
        let prefix = match store {
            Store::Directory(_) => "",
            _ => prefix,
        };
        Path::parse(prefix).map_err(|e| bad(&e.to_string()))?;
        Ok(Self {
            store,
            prefix: prefix.to_owned(),
            shown: url.trim_end_matches('/').to_owned(),
        })
    }
}

impl Location {
    /// The client of the store. Nothing is asked of it yet.
    pub(crate) fn open(
        &self,
        environment: &BTreeMap<String, String>,
        request_time_max: Duration,
    ) -> Result<Backend> {
        let failed = |e: object_store::Error| {
            let shown = &self.shown;
            let hint = "set what its own tools need in the environment";
            let what = format!("cannot open {shown}: {e}; {hint}");
            Error::caused_by(Kind::Invalid, what, e)
        };
        // An error says that somebody else chose a provider before, which is as good.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        // Requests are repeated by the bucket, which counts them and bounds their time.
        let retries = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let client = ClientOptions::new().with_timeout(request_time_max);
        Ok(match &self.store {
            Store::S3(bucket) => {
                // A digest of each body takes twice as long as everything else of an upload. TLS vouches
                // for bodies, pages have checksums; `AWS_UNSIGNED_PAYLOAD=false` has them signed.
                let mut builder = AmazonS3Builder::new().with_unsigned_payload(true);
                for (key, value) in settings::<AmazonS3ConfigKey>(environment, "aws_") {
                    builder = builder.with_config(key, value);
                }
                let client = client.with_allow_http(plain_http(environment, "AWS"));
                Backend::of(Arc::new(
                    builder
                        .with_client_options(client)
                        .with_retry(retries)
                        .with_bucket_name(bucket)
                        .build()
                        .map_err(failed)?,
                ))
            }
            Store::Google(bucket) => {
                let mut builder = GoogleCloudStorageBuilder::new();
                for (key, value) in settings::<GoogleConfigKey>(environment, "google_") {
                    builder = builder.with_config(key, value);
                }
                let client = client.with_allow_http(plain_http(environment, "GOOGLE"));
                Backend::of(Arc::new(
                    builder
                        .with_client_options(client)
                        .with_retry(retries)
                        .with_bucket_name(bucket)
                        .build()
                        .map_err(failed)?,
                ))
            }
            Store::Azure(container) => {
                let mut builder = MicrosoftAzureBuilder::new();
                for (key, value) in settings::<AzureConfigKey>(environment, "azure_") {
                    builder = builder.with_config(key, value);
                }
                let client = client.with_allow_http(plain_http(environment, "AZURE"));
                Backend::of(Arc::new(
                    builder
                        .with_client_options(client)
                        .with_retry(retries)
                        .with_container_name(container)
                        .build()
                        .map_err(failed)?,
                ))
            }
            Store::Directory(dir) => {
                RealFs
                    .create_dir_all(dir)
                    .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
                let store = LocalFileSystem::new_with_prefix(dir).map_err(failed)?;
                Backend {
                    store: Arc::new(store.with_fsync(true)),
                    parts: None,
                }
            }
            Store::Memory => Backend::of(Arc::new(InMemory::new())),
        })
    }
}

/// What the environment says to the clouds' clients. Names that they do not know are left out: a
/// shell has many that are meant for other programs.
fn settings<K: FromStr>(
    environment: &BTreeMap<String, String>,
    prefix: &str,
) -> impl Iterator<Item = (K, String)> {
    environment.iter().filter_map(move |(name, value)| {
        let name = name.to_ascii_lowercase();
        let key = name.starts_with(prefix).then(|| name.parse().ok())??;
        (!value.is_empty()).then(|| (key, value.clone()))
    })
}

/// Whether requests may go without TLS: `AWS_ALLOW_HTTP=true`, or an endpoint that says `http://`,
/// which nobody writes by accident.
fn plain_http(environment: &BTreeMap<String, String>, cloud: &str) -> bool {
    environment.iter().any(|(name, value)| {
        let name = name.to_ascii_uppercase();
        let is_of = name.starts_with(cloud);
        let allows = name.ends_with("_ALLOW_HTTP") && matches!(value.as_str(), "true" | "1");
        let endpoint = name.contains("_ENDPOINT") && value.starts_with("http://");
        is_of && (allows || endpoint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_refused_with_a_hint() {
        let s3 = |bucket: &str| Store::S3(bucket.to_owned());
        for (url, store, prefix, shown) in [
            ("s3://bucket", s3("bucket"), "", "s3://bucket"),
            ("s3://bucket/", s3("bucket"), "", "s3://bucket"),
            ("s3://b/a/p/", s3("b"), "a/p", "s3://b/a/p"),
            ("gs://b/p", Store::Google("b".to_owned()), "p", "gs://b/p"),
            ("az://c/p", Store::Azure("c".to_owned()), "p", "az://c/p"),
            (
                "file:///a/b",
                Store::Directory(PathBuf::from("/a/b")),
                "",
                "file:///a/b",
            ),
            ("memory:///", Store::Memory, "", "memory:"),
        ] {
            let location: Location = url.parse().unwrap();
            assert_eq!(location.store, store, "{url}");
            assert_eq!(location.prefix, prefix, "{url}");
            assert_eq!(location.shown, shown, "{url}");
        }
        for url in [
            "",
            "bucket",
            "s3://",
            "s3:///p",
            "http://host/bucket",
            "file://relative",
            "file:///",
            "memory://x",
            "s3://key@bucket/p",
            "s3://bucket/a?x=1",
            "s3://bucket/a//b",
            "s3://bucket/../b",
        ] {
            let error = url.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains("write s3://bucket/prefix"), "{url}: {error}");
        }
    }

    #[test]
    fn the_environment_is_read_as_the_clouds_say_it() {
        let environment = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let given = environment(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_PROFILE", "for others"),
            ("AWS_REGION", ""),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("HOME", "/"),
        ]);
        let keys: Vec<AmazonS3ConfigKey> = settings(&given, "aws_").map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                AmazonS3ConfigKey::AccessKeyId,
                AmazonS3ConfigKey::Endpoint,
                AmazonS3ConfigKey::SecretAccessKey,
            ]
        );
        assert!(plain_http(&given, "AWS"));
        for (pairs, expect) in [
            (&[("AWS_ALLOW_HTTP", "true")][..], true),
            (&[("AWS_ALLOW_HTTP", "false")], false),
            (&[("AWS_ENDPOINT_URL", "https://x")], false),
            (&[("GOOGLE_ALLOW_HTTP", "true")], false),
        ] {
            assert_eq!(plain_http(&environment(pairs), "AWS"), expect, "{pairs:?}");
        }
        let s3: Location = "s3://bucket/p".parse().unwrap();
        assert!(s3.open(&given, Duration::from_secs(1)).is_ok());
        for (url, pairs) in [
            (
                "s3://b",
                &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "s")][..],
            ),
            ("gs://b/p", &[]),
            (
                "az://c/p",
                &[
                    ("AZURE_STORAGE_ACCOUNT_NAME", "name"),
                    ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
                ],
            ),
        ] {
            let location: Location = url.parse().unwrap();
            let opened = location.open(&environment(pairs), Duration::from_secs(1));
            assert!(opened.is_ok(), "{url}");
        }
        let lacks = environment(&[("AWS_ACCESS_KEY_ID", "id")]);
        let error = s3.open(&lacks, Duration::from_secs(1)).map(|_| ());
        let told = error.unwrap_err().to_string();
        assert!(told.contains("SecretAccessKey"), "{told}");
    }
}
