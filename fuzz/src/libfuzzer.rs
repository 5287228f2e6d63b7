//! Inputs of libFuzzer, in the place of those of an ordinary test.

use std::{
    env,
    ffi::{CString, c_char, c_int},
    iter, process, ptr,
    sync::OnceLock,
};

// What libFuzzer is linked by.
use libfuzzer_sys as _;

use crate::{LONGEST, Target, corpus};

/// The longest input that is added to a corpus, in bytes: small ones are as good, and quicker.
const LONGEST_KEPT: usize = 4 << 10;

/// What the inputs are for; libFuzzer calls a function that nothing can be passed to.
static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();

unsafe extern "C" {
    /// libFuzzer itself (`FuzzerInterface.h`).
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        callback: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

/// libfuzzer-sys calls this where a program is made by its macro. Nobody does here, and it has to be there.
#[allow(improper_ctypes_definitions, reason = "it is declared so")]
#[unsafe(no_mangle)]
extern "C" fn rust_fuzzer_test_input(_input: &[u8]) -> c_int {
    0
}

extern "C" fn try_input(data: *const u8, size: usize) -> c_int {
    let input = match size {
        0 => &[],
        // SAFETY: libFuzzer passes the beginning and length of an input, which it leaves alone until this
        // returns.
        _ => unsafe { std::slice::from_raw_parts(data, size) },
    };
    if let Some(check) = CHECK.get() {
        check(input);
    }
    0
}

/// Has libFuzzer make inputs for `L4WAY_FUZZ_SECONDS`. What takes a new way through the code goes to
/// `fuzz/found/NAME`.
pub(crate) fn run(target: &Target, check: fn(&[u8])) {
    CHECK.get_or_init(|| check);
    let panicked = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panicked(info);
        // Where libFuzzer writes the input down.
        process::abort();
    }));
    let found = corpus::fuzz().join("found").join(target.name);
    let artifacts = corpus::fuzz().join("artifacts").join(target.name);
    std::fs::create_dir_all(&found).expect("a folder for what is found");
    std::fs::create_dir_all(&artifacts).expect("a folder for what fails");
    for seed in &target.seeds {
        corpus::write(&found, seed);
    }
    if env::var_os("L4WAY_FUZZ_MERGE").is_some() {
        return merge(target, check);
    }
    let seconds = env::var("L4WAY_FUZZ_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let options = [
        "fuzz".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-max_len={LONGEST}"),
        "-rss_limit_mb=2048".to_owned(),
        "-timeout=20".to_owned(),
        format!("-artifact_prefix={}/", artifacts.display()),
    ];
    let folders = iter::once(&found).chain(target.folders.iter().filter(|folder| folder.exists()));
    let folders = folders.map(|folder| folder.display().to_string());
    let arguments: Vec<_> = options
        .into_iter()
        .chain(folders)
        .map(|argument| CString::new(argument).expect("no argument has a zero"))
        .collect();
    let mut pointers: Vec<_> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let mut count = c_int::try_from(pointers.len()).expect("few arguments");
    pointers.push(ptr::null_mut());
    let mut arguments_of_c = pointers.as_mut_ptr();
    // SAFETY: the arguments are strings of C, as many as `count` says and then a null, and live until
    // libFuzzer returns, if it does: mostly it ends the process.
    let code = unsafe { LLVMFuzzerRunDriver(&mut count, &mut arguments_of_c, try_input) };
    assert_eq!(code, 0, "libFuzzer");
}

/// Adds to the corpus what was found and takes an edge of the code that nothing before it takes. libFuzzer's own
/// merge starts its program anew, which a test isn't.
fn merge(target: &Target, check: fn(&[u8])) {
    let mut seen = vec![false; counters().len()];
    let mut is_new = |input: &[u8]| {
        counters().fill(0);
        check(input);
        let mut any = false;
        for (_, seen) in counters().iter().zip(&mut seen).filter(|(count, _)| **count > 0) {
            any |= !std::mem::replace(seen, true);
        }
        any
    };
    let kept = target.folders.iter().flat_map(|folder| corpus::read(folder));
    let kept = kept.map(|(_, input)| input).chain(target.seeds.clone());
    kept.for_each(|input| drop(is_new(&input)));
    let mut found = corpus::read(&corpus::fuzz().join("found").join(target.name));
    found.retain(|(_, input)| input.len() <= LONGEST_KEPT);
    found.sort_by_key(|(_, input)| input.len());
    for (_, input) in found.iter().filter(|(_, input)| is_new(input)) {
        corpus::write(&target.folders[0], input);
    }
}

unsafe extern "C" {
    /// The linker's own names of where the section of counters begins and ends.
    #[link_name = "__start___sancov_cntrs"]
    static mut FIRST: u8;
    #[link_name = "__stop___sancov_cntrs"]
    static mut END: u8;
}

/// How often each edge of the code was taken, modulo 256.
fn counters() -> &'static mut [u8] {
    let (first, end) = (&raw mut FIRST, &raw mut END);
    // SAFETY: it is one section of bytes, which the instrumented code adds to and nobody else keeps a reference of;
    // `merge` runs in one thread.
    unsafe { std::slice::from_raw_parts_mut(first, end.addr() - first.addr()) }
}
