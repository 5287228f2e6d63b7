//! Fuzz targets as ordinary tests. A target is a function of bytes that panics where something is wrong
//! with what is made of them, in a test beside the code that it is about, so that nothing becomes public
//! for its sake:
//!
//! ```no_run
//! # fn is_right(_: &[u8]) -> bool { true }
//! l4way_fuzz::Target::new("greeting").seeds("crates/proxy-core/tests/hellos").run(|bytes| {
//!     assert!(is_right(bytes));
//! });
//! ```
//!
//! # Who makes the inputs
//! In `cargo test`, the target gets every input that is kept (`fuzz/corpus/NAME`, and the seeds), and then
//! for two seconds, or `L4WAY_FUZZ_SECONDS`, what simple mutations make of them. That needs no build
//! beside the tests' own, and holds what was found before. In `make fuzz`, with the feature `libfuzzer` and
//! an instrumented workspace, libFuzzer looks for inputs that take new ways through the code.
//!
//! # What was found
//! An input that makes a target panic is written into `fuzz/artifacts/NAME`, and the test names the
//! file. Once the fault is mended, the input belongs into `fuzz/corpus/NAME`.

mod corpus;
#[cfg(feature = "libfuzzer")]
mod libfuzzer;
mod mutate;
#[cfg(not(feature = "libfuzzer"))]
mod run;

use std::path::PathBuf;

/// The longest input that is made, in bytes.
pub(crate) const LONGEST: usize = 64 << 10;

/// What is fuzzed, and where its first inputs are.
#[derive(Debug)]
pub struct Target {
    name: &'static str,
    folders: Vec<PathBuf>,
    seeds: Vec<Vec<u8>>,
}

impl Target {
    /// A target whose inputs are kept in `fuzz/corpus/NAME`. `fuzz/targets` has to have it as well.
    pub fn new(name: &'static str) -> Self {
        Self { name, folders: vec![corpus::fuzz().join("corpus").join(name)], seeds: Vec::new() }
    }

    /// The files of one more folder of the project, and of those in it.
    #[must_use]
    pub fn seeds(mut self, folder: &str) -> Self {
        self.folders.push(corpus::fuzz().join("..").join(folder));
        self
    }

    /// One more input, for what shouldn't lie in a repository, such as a private key.
    #[must_use]
    pub fn seed(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(input.into());
        self
    }

    /// Runs `check` on the inputs that are kept, and on others for a while.
    ///
    /// # Panics
    /// If `check` does; the message names the input's file.
    pub fn run(self, check: fn(&[u8])) {
        #[cfg(not(feature = "libfuzzer"))]
        run::run(&self, check);
        #[cfg(feature = "libfuzzer")]
        libfuzzer::run(&self, check);
    }
}
