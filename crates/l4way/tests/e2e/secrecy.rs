//! Who may see the memory of a running l4way: it has private keys in it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    process::Command,
};

use super::{
    l4way::{BINARY, L4way, own_address},
    manifests::Manifests,
};

/// Who root isn't.
const USER: u32 = 65_532;

/// Who owns the files in /proc of an `l4way run` of [`USER`]: root if the process isn't dumpable (proc(5)).
/// And its limits.
fn seen(args: &[&str]) -> (u32, String) {
    // Neither the folder of the binary nor that of a temporary file need be open to others.
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = Manifests::copy_of("examples/tutorial");
    for path in [folder.path(), manifests.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("an open folder");
    }
    let binary = folder.path().join("l4way");
    fs::copy(BINARY, &binary).expect("a copy of l4way");
    let own = folder.path().join("own");
    fs::create_dir(&own).expect("a folder");
    chown(&own, Some(USER), Some(USER)).expect("root");
    let socket = own.join("admin.sock");

    let mut command = Command::new(binary);
    command.args(args).arg("run").arg("-f").arg(manifests.path());
    command.args(["--address", &own_address().to_string(), "--admin-address", "127.0.0.1:0"]);
    command.arg("--admin-socket").arg(&socket);
    command.uid(USER).gid(USER);
    let l4way = L4way::start_plain_at(command, socket);
    let file = |name: &str| format!("/proc/{}/{name}", l4way.pid());
    let owner = fs::metadata(file("environ")).expect("it runs").uid();
    (owner, fs::read_to_string(file("limits")).expect("it runs"))
}

fn core_limits(limits: &str) -> Vec<&str> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.expect("its limit").split_whitespace().collect()
}

#[test]
fn nobody_else_reads_its_memory() {
    let (owner, limits) = seen(&[]);
    assert_eq!(owner, 0, "it isn't dumpable");
    assert_eq!(core_limits(&limits), ["0", "0", "bytes"]);
}

#[test]
fn who_asks_for_core_dumps_has_them() {
    let (owner, limits) = seen(&["--core-dumps"]);
    assert_eq!(owner, USER, "it is dumpable");
    let own = fs::read_to_string("/proc/self/limits").expect("limits");
    assert_eq!(core_limits(&limits), core_limits(&own), "they are as it was started with");
}
