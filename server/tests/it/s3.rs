//! A bucket that speaks the S3 protocol, and processes of the binary that use it. Where no such store is
//! installed, tests that ask for one say so and do nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::client::{Request, Response, request};
use crate::moto::{self, BUCKET, Moto};
use crate::process::{Launch, Process};
use crate::storage::until;

/// A prefix of a bucket, and directories for those who use it.
pub(crate) struct S3 {
    store: Arc<Moto>,
    prefix: String,
    root: tempfile::TempDir,
}

impl S3 {
    /// An empty prefix of the store that all tests of this process share.
    pub(crate) fn start(prefix: &str) -> Option<Self> {
        static SHARED: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match shared.upgrade() {
            Some(store) => store,
            None => Arc::new(Moto::start()?),
        };
        *shared = Arc::downgrade(&store);
        Some(Self {
            store,
            prefix: prefix.to_owned(),
            root: tempfile::tempdir().unwrap(),
        })
    }

    /// Where the store itself listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.store.address()
    }

    pub(crate) fn url(&self) -> String {
        format!("s3://{BUCKET}/{}", self.prefix)
    }

    /// A directory of this name.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The environment of who reaches the store at `address`.
    pub(crate) fn environment(address: SocketAddr) -> Vec<(String, String)> {
        let environment = moto::environment(address).into_iter();
        environment
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// How a server of this name is started, with a directory and a log of the same name.
    pub(crate) fn launch(&self, name: &str, flags: &[&str]) -> Launch {
        self.launch_over(self.address(), name, flags)
    }

    /// As [`S3::launch`], for a server that reaches the store at `address`.
    pub(crate) fn launch_over(&self, address: SocketAddr, name: &str, flags: &[&str]) -> Launch {
        let url = self.url();
        let mut all = vec!["--storage", &url, "--instance-name", name];
        all.extend(["--follow-interval", "200ms", "--self-observe=false"]);
        all.extend(["--web.enable-admin-api", "--shutdown-timeout", "1s"]);
        all.extend(flags);
        Launch {
            data_dir: self.dir(name),
            flags: all.into_iter().map(str::to_owned).collect(),
            environment: Self::environment(address),
            log: Some(self.dir(&format!("{name}.log"))),
        }
    }

    /// A server that only reads, with an empty directory at first.
    pub(crate) fn reader(&self, name: &str) -> Process {
        self.launch(name, &["--read-only"]).start().until_ready()
    }

    /// A request of somebody with credentials, which nobody looks at.
    fn request<'a>(&self, method: &'a str, path: &'a str) -> Request<'a> {
        let credentials = "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        request(self.address(), method, path).header("Authorization", credentials)
    }

    fn path(&self, key: &str) -> String {
        format!("/{BUCKET}/{}/{key}", self.prefix)
    }

    /// An object, as anybody could read it.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let answer = self.request("GET", &self.path(key)).send();
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
        answer.body
    }

    /// Writes an object, as anybody could.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        let put = self.request("PUT", &path);
        let answer = put.body("application/octet-stream", bytes).send();
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
    }

    pub(crate) fn delete(&self, key: &str) {
        let answer = self.request("DELETE", &self.path(key)).send();
        assert_eq!(answer.status, 204, "{key}: {answer:?}");
    }

    /// The names of all objects below `dir`, sorted: not more than one page of a list has.
    pub(crate) fn keys(&self, dir: &str) -> Vec<String> {
        let prefix = format!("{}/", self.prefix);
        let path = format!("/{BUCKET}?list-type=2&prefix={prefix}{dir}");
        let answer = self.request("GET", &path).send();
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text();
        assert!(text.contains("<IsTruncated>false"), "{text}");
        let keys = text.split("<Key>").skip(1);
        let keys = keys.map(|rest| rest.split("</Key>").next().unwrap());
        let keys = keys.map(|key| key.strip_prefix(&prefix).unwrap().to_owned());
        let mut keys: Vec<String> = keys.collect();
        keys.sort();
        keys
    }

    /// What the newest version of the catalog of a store says, as text, and its number.
    pub(crate) fn catalog(&self, signal: &str) -> (u64, String) {
        let dir = format!("tenants/anonymous/{signal}/catalog/");
        let versions = self.keys(&dir).into_iter();
        let numbers = versions.filter_map(|key| key.strip_prefix(&dir)?.parse().ok());
        let newest: u64 = numbers.max().unwrap();
        let text = self.get(&format!("{dir}{newest:020}"));
        (newest, String::from_utf8(text).unwrap())
    }

    /// How many blocks of a store the catalog names.
    pub(crate) fn blocks(&self, signal: &str) -> usize {
        let (_, text) = self.catalog(signal);
        let (_, json) = text.split_once('\n').unwrap();
        let document: serde_json::Value = serde_json::from_str(json).unwrap();
        document["catalog"]["blocks"].as_array().unwrap().len()
    }

    /// Makes the lease free, as a minute would whose holder has ended without a word.
    pub(crate) fn end_lease(&self) {
        for key in self.keys("lease/") {
            if key.ends_with(".beat") {
                self.put(&key, br#"{"beats":1000000,"released":true}"#);
            }
        }
    }
}

/// Ships everything, as often as the bucket fails.
pub(crate) fn flush(process: &Process) {
    until("everything is shipped", || try_flush(process).status == 204);
}

pub(crate) fn try_flush(process: &Process) -> Response {
    process.post("/flush").send()
}
