//! What the API server was asked, by its audit log.

use std::{
    env,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

/// The log from some time on.
pub(crate) struct Audit {
    log: PathBuf,
    begin: u64,
}

/// A request that was answered, or begun to be.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) uri: String,
}

impl Audit {
    /// What is asked from now on.
    pub(crate) fn from_now() -> Self {
        let log = env::var_os("L4WAY_AUDIT_LOG").expect("e2e/kubernetes/run says where it is");
        let log = PathBuf::from(log);
        let begin = log.metadata().unwrap_or_else(|error| panic!("{log:?}: {error}")).len();
        Self { log, begin }
    }

    /// What a pod of l4way's namespace has asked.
    pub(crate) fn requests_of(&self, pod: &str) -> Vec<Request> {
        let mut text = String::new();
        let mut log = File::open(&self.log).expect("the audit log");
        log.seek(SeekFrom::Start(self.begin)).expect("a file");
        log.read_to_string(&mut text).expect("text");
        // The last line may be half written.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_pod = events.filter(|event| {
            event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] == pod
        });
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        of_pod
            .map(|event| Request { verb: text(&event, "verb"), uri: text(&event, "requestURI") })
            .collect()
    }
}

impl Request {
    /// Whether it is to change something.
    pub(crate) fn changes(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch")
    }

    /// Whether it is about the Lease by which a controller leads.
    pub(crate) fn is_of_lease(&self) -> bool {
        self.uri.contains("/leases/l4way-controller")
    }
}
