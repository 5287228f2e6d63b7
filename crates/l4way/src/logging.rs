//! Our own log, on standard error: standard output is for what a command answers.
//!
//! Its level and form may change while it runs. `reload` would do for the level alone: a layer that is
//! reloaded with another form meets spans that it hasn't seen begin, and panics
//! (tokio-rs/tracing#3511). So one layer has both forms, and shows no spans as JSON.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{
        self, FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Format, Full, Json, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::{
    cli::{LogArgs, LogFormat},
    outlet::Outlet,
};

/// The log of this process, once it is started.
static LOG: OnceLock<Log> = OnceLock::new();

/// What writes its lines.
static LINES: OnceLock<Outlet> = OnceLock::new();

/// Starts the log.
///
/// # Errors
/// If the level is neither a level nor a list of tracing directives, or no thread can be started.
pub(crate) fn start(args: &LogArgs) -> Result<(), String> {
    let lines = Outlet::start("log", io::stderr(), |lines| {
        tracing::error!(lines, "the log had no reader for a while: lines of it are lost");
    });
    let lines = lines.map_err(|error| format!("can't start the log: {error}"))?;
    let writer = lines.clone();
    let make_writer = move || Lines(writer.clone());
    let made = Log::make(&args.log_level, args.log_format, make_writer);
    let (log, subscriber) = made.map_err(|error| format!("--log-level {error}"))?;
    subscriber.init();
    let _ = LINES.set(lines);
    let _ = LOG.set(log);
    Ok(())
}

/// Goes on with another level and form, as far as they are others. Without a log nothing happens.
///
/// # Errors
/// If the level is neither a level nor a list of tracing directives. The old one stays then.
pub(crate) fn change(level: &str, format: LogFormat) -> Result<(), String> {
    let changed = LOG.get().map_or(Ok(()), |log| log.change(level, format));
    changed.map_err(|error| format!("log level {error}"))
}

/// Has what was logged written before the process ends, unless nobody reads it. Whether standard error
/// is read.
pub(crate) fn finish() -> bool {
    LINES.get().is_none_or(Outlet::finish)
}

/// Takes lines without ever waiting.
struct Lines(Outlet);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What changes a log.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    level: Mutex<String>,
    json: Arc<AtomicBool>,
}

impl Log {
    fn make<W>(
        level: &str,
        format: LogFormat,
        writer: W,
    ) -> Result<(Self, impl Subscriber + Send + Sync), String>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, handle) = reload::Layer::new(filter(level)?);
        let json = Arc::new(AtomicBool::new(format == LogFormat::Json));
        let lines = fmt::layer()
            .event_format(Forms::new(json.clone()))
            .with_ansi(io::stderr().is_terminal())
            .with_writer(writer);
        let log = Self { filter: handle, level: Mutex::new(level.to_owned()), json };
        Ok((log, tracing_subscriber::registry().with(filter).with(lines)))
    }

    fn change(&self, level: &str, format: LogFormat) -> Result<(), String> {
        self.json.store(format == LogFormat::Json, Relaxed);
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == level {
            return Ok(());
        }
        let reloaded = self.filter.reload(filter(level)?);
        reloaded.map_err(|error| format!("{level:?}: {error}"))?;
        // What comes from crates that know `log` and not `tracing`; the start has set it for good.
        log::set_max_level(as_log(LevelFilter::current()));
        level.clone_into(&mut current);
        Ok(())
    }
}

/// What is logged at a level, which is named in the error.
fn filter(level: &str) -> Result<EnvFilter, String> {
    // notify warns of directories that are gone before they are let go of, and kube of each request
    // that fails.
    EnvFilter::try_new(format!("notify=off,kube_client=off,kube_runtime=off,{level}"))
        .map_err(|error| format!("{level:?}: {error}; try error, warn, info, debug"))
}

/// The level as `log` has it.
fn as_log(level: LevelFilter) -> log::LevelFilter {
    match level.into_level() {
        None => log::LevelFilter::Off,
        Some(tracing::Level::ERROR) => log::LevelFilter::Error,
        Some(tracing::Level::WARN) => log::LevelFilter::Warn,
        Some(tracing::Level::INFO) => log::LevelFilter::Info,
        Some(tracing::Level::DEBUG) => log::LevelFilter::Debug,
        Some(tracing::Level::TRACE) => log::LevelFilter::Trace,
    }
}

/// Both forms of a line.
struct Forms {
    /// Which of them is in use.
    is_json: Arc<AtomicBool>,
    text: Format<Full>,
    json: Format<Json>,
}

impl Forms {
    fn new(is_json: Arc<AtomicBool>) -> Self {
        let json = fmt::format().json().flatten_event(true);
        Self {
            is_json,
            text: fmt::format().with_target(false),
            // The fields of a span that began as text aren't JSON.
            json: json.with_current_span(false).with_span_list(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Forms
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        if self.is_json.load(Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is logged, for a test to read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn level_and_form_change_while_it_runs() {
        let written = Written::default();
        let writer = written.clone();
        let (log, subscriber) = Log::make("info", LogFormat::Text, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("begun", as_text = 1).entered();
            let say = || {
                tracing::info!(port = 53, "listening");
                tracing::debug!("in detail");
            };
            say();
            log.change("debug", LogFormat::Json).unwrap();
            say();
            let error = log.change("l4way=nonsense", LogFormat::Json).unwrap_err();
            assert!(error.contains("nonsense"), "{error}");
            log.change("warn", LogFormat::Text).unwrap();
            say();
            drop(span);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].ends_with("listening port=53"), "{text}");
        let json = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let (info, debug) = (json(lines[1]), json(lines[2]));
        assert_eq!((&info["message"], &info["port"]), (&"listening".into(), &53.into()));
        assert_eq!((&debug["level"], &debug["message"]), (&"DEBUG".into(), &"in detail".into()));
    }
}
