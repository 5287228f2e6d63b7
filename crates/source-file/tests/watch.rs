//! Changes are told, however they are made.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use l4way_resources::ReadOptions;
use l4way_source_file::{FileSource, Follower, Load};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

/// Long enough for any machine: only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n---\n")
}

struct Watched {
    loads: Receiver<Load>,
    _follower: Follower,
}

impl Watched {
    fn new(path: &Path) -> Self {
        let source = FileSource::new([path.to_owned()], ReadOptions::default());
        let (told, loads) = mpsc::channel();
        // Nobody waits for the changes that come after a test's end.
        let follower = source.follow(move |load| told.send(load).unwrap_or_default());
        Self { loads, _follower: follower.expect("a thread starts") }
    }

    /// Waits until these are the objects.
    fn expect(&self, names: &[&str]) {
        loop {
            let load = self.loads.recv_timeout(DEADLINE).expect("a change is told");
            let found: Vec<_> = load.snapshot.config_maps.keys().map(|key| &*key.name).collect();
            if found == names {
                return;
            }
        }
    }
}

#[test]
fn files_are_watched_as_they_come_change_and_go() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    fs::write(root.join("a.yaml"), config_map("a")).unwrap();
    let watched = Watched::new(root);
    watched.expect(&["a"]);

    fs::write(root.join("a.yaml"), config_map("a2")).unwrap();
    watched.expect(&["a2"]);
    // As editors do it: a new file takes the name.
    fs::write(root.join("a.tmp"), config_map("a3")).unwrap();
    fs::rename(root.join("a.tmp"), root.join("a.yaml")).unwrap();
    watched.expect(&["a3"]);
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/b.yaml"), config_map("b")).unwrap();
    watched.expect(&["a3", "b"]);
    fs::write(root.join("sub/b.yaml"), config_map("b2")).unwrap();
    watched.expect(&["a3", "b2"]);
    fs::remove_dir_all(root.join("sub")).unwrap();
    watched.expect(&["a3"]);
}

#[test]
fn a_directory_may_be_replaced() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), config_map("a")).unwrap();
    let watched = Watched::new(&root);
    watched.expect(&["a"]);

    fs::rename(&root, directory.path().join("old")).unwrap();
    // It is told that the directory is gone.
    watched.expect(&["a"]);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), config_map("b")).unwrap();
    watched.expect(&["b"]);
    fs::write(root.join("a.yaml"), config_map("c")).unwrap();
    watched.expect(&["c"]);
}

#[test]
fn a_file_is_watched_where_its_link_leads() {
    let directory = TempDir::new().unwrap();
    let (here, there) = (directory.path().join("here"), directory.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    fs::write(there.join("a.yaml"), config_map("a")).unwrap();
    symlink(there.join("a.yaml"), here.join("a.yaml")).unwrap();
    let watched = Watched::new(&here.join("a.yaml"));
    watched.expect(&["a"]);

    fs::write(there.join("a.yaml"), config_map("b")).unwrap();
    watched.expect(&["b"]);
    fs::remove_file(here.join("a.yaml")).unwrap();
    fs::write(here.join("a.yaml"), config_map("c")).unwrap();
    watched.expect(&["c"]);
}

#[test]
fn a_config_map_mount_is_watched() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    for (version, name) in [("..1", "old"), ("..2", "new")] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("a.yaml"), config_map(name)).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let directory_watched = Watched::new(root);
    let file_watched = Watched::new(&root.join("a.yaml"));
    directory_watched.expect(&["old"]);
    file_watched.expect(&["old"]);

    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    directory_watched.expect(&["new"]);
    file_watched.expect(&["new"]);
}

#[test]
fn what_is_put_in_the_way_stops_nothing() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    fs::write(root.join("a.yaml"), config_map("a")).unwrap();
    let watched = Watched::new(root);
    watched.expect(&["a"]);

    mknodat(CWD, root.join("fifo.yaml"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    symlink("/dev/zero", root.join("endless.yaml")).unwrap();
    symlink(root, root.join("loop")).unwrap();
    fs::File::create(root.join("huge.yaml")).unwrap().set_len(1 << 30).unwrap();
    fs::write(root.join("a.yaml"), config_map("b")).unwrap();
    watched.expect(&["b"]);
}
