//! Inputs within an ordinary test.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    Target, corpus,
    mutate::{Random, mutate},
};

/// How long inputs are made unless `L4WAY_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 2;

pub(crate) fn run(target: &Target, check: fn(&[u8])) {
    let artifacts = corpus::fuzz().join("artifacts").join(target.name);
    let mut inputs = target.seeds.clone();
    inputs.push(Vec::new());
    for input in &inputs {
        attempt(input, check).unwrap_or_else(|said| panic!("the seed {input:?} fails: {said}"));
    }
    for folder in &target.folders {
        for (path, input) in corpus::read(folder) {
            if let Err(said) = attempt(&input, check) {
                panic!("the kept input {} fails: {said}", path.display());
            }
            inputs.push(input);
        }
    }
    let seed = RandomState::new().hash_one(target.name);
    let end = Instant::now() + seconds();
    try_mutations(&inputs, Random(seed), &artifacts, check, || Instant::now() < end);
}

fn seconds() -> Duration {
    let seconds = env::var("L4WAY_FUZZ_SECONDS").ok();
    let seconds =
        seconds.map(|text| text.parse().expect("L4WAY_FUZZ_SECONDS is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(SECONDS))
}

/// Runs `check`, and says what it panicked with.
fn attempt(input: &[u8], check: fn(&[u8])) -> Result<(), String> {
    catch_unwind(|| check(input)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
    })
}

/// Tries what becomes of inputs as long as `goes_on`. One that fails is written into `artifacts`.
fn try_mutations(
    inputs: &[Vec<u8>],
    mut random: Random,
    artifacts: &Path,
    check: fn(&[u8]),
    mut goes_on: impl FnMut() -> bool,
) {
    let mut input = Vec::new();
    while goes_on() {
        input.clone_from(&inputs[random.below(inputs.len())]);
        mutate(&mut input, &inputs[random.below(inputs.len())], &mut random);
        if let Err(said) = attempt(&input, check) {
            let path = corpus::write(artifacts, &input);
            panic!("the input {} fails: {said}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_fails_is_kept_and_named() {
        let check = |input: &[u8]| assert!(!input.starts_with(b"portal"), "found");
        let folder = env::temp_dir().join(format!("l4way-fuzz-{}", std::process::id()));
        let inputs = [b"port".to_vec(), b"al".to_vec()];
        let run = || try_mutations(&inputs, Random(7), &folder, check, || true);
        let panic = catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        let kept = corpus::read(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        let [(path, input)] = &kept[..] else { panic!("{kept:?}") };
        assert!(input.starts_with(b"portal"));
        assert!(said.contains(&path.display().to_string()), "{said}");
    }
}
