//! What is in force as files come, change, break and go.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use l4way_resources::{ReadOptions, Severity, api::ObjectKey};
use l4way_source_file::{FileSource, Load};
use tempfile::TempDir;

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  key: \"{value}\"\n---\n"
    )
}

fn source(directory: &Path) -> FileSource {
    FileSource::new([directory.to_owned()], ReadOptions::default())
}

fn names(load: &Load) -> Vec<&str> {
    load.snapshot.config_maps.keys().map(|key| &*key.name).collect()
}

fn value<'a>(load: &'a Load, name: &str) -> &'a str {
    &load.snapshot.config_maps[&ObjectKey::new("default", name)].data["key"]
}

fn errors(load: &Load) -> Vec<String> {
    let errors = load.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(ToString::to_string).collect()
}

/// Writes a file that has settled: its last change was a while ago.
fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(&path, text)?;
    let earlier = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(&path)?.set_modified(earlier)
}

#[test]
fn directories_are_read_in_order_and_hidden_names_are_not() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("sub/.git")).unwrap();
    write(root.join("b.yaml"), config_map("b", "b.yaml")).unwrap();
    write(root.join("a.yml"), config_map("a", "a.yml")).unwrap();
    write(
        root.join("sub/c.json"),
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#,
    )
    .unwrap();
    write(root.join(".hidden.yaml"), config_map("hidden", "x")).unwrap();
    write(root.join("sub/.git/d.yaml"), config_map("git", "x")).unwrap();
    write(root.join("README.md"), "not a manifest").unwrap();
    symlink(root, root.join("sub/loop")).unwrap();
    let load = source(root).load();
    assert_eq!(errors(&load), Vec::<String>::new());
    assert_eq!(names(&load), ["a", "b", "c"]);
}

#[test]
fn what_is_first_seen_is_used_as_far_as_it_is_valid() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("good", "1") + "kind: ConfigMap\n").unwrap();
    let load = source(directory.path()).load();
    assert_eq!(names(&load), ["good"]);
    assert_eq!(errors(&load).len(), 1);
}

#[test]
fn a_file_that_turns_bad_keeps_its_last_good_version() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "old") + &config_map("b", "old")).unwrap();
    let mut source = source(directory.path());
    source.load();

    write(&file, config_map("a", "new") + "kind: ConfigMap\n").unwrap();
    let load = source.reload().expect("the error is news");
    assert_eq!(names(&load), ["a", "b"]);
    assert_eq!(value(&load, "a"), "old");
    assert_eq!(errors(&load).len(), 1);
    let notes = load.diagnostics.iter().filter(|said| said.severity == Severity::Note);
    assert!(notes.clone().any(|note| note.message.contains("last good version")));

    write(&file, b"\xff\xfe").unwrap();
    let load = source.reload().expect("the error is another one");
    assert_eq!(value(&load, "a"), "old");

    write(&file, config_map("a", "new")).unwrap();
    let load = source.reload().expect("it is good again");
    assert_eq!(names(&load), ["a"]);
    assert_eq!(value(&load, "a"), "new");
    assert_eq!(errors(&load), Vec::<String>::new());
}

#[test]
fn a_file_that_is_gone_takes_its_objects_with_it() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "1")).unwrap();
    let mut source = source(directory.path());
    source.load();
    fs::remove_file(&file).unwrap();
    let load = source.reload().expect("its objects are gone");
    assert!(names(&load).is_empty());
    assert!(load.diagnostics.iter().any(|said| said.message.contains("no manifests")));
}

#[test]
fn a_path_that_is_gone_as_a_whole_changes_nothing_in_force() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("manifests");
    fs::create_dir(&directory).unwrap();
    write(directory.join("a.yaml"), config_map("a", "1")).unwrap();
    let mut source = source(&directory);
    source.load();
    fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
    let load = source.reload().expect("there is something to say about it");
    assert_eq!(value(&load, "a"), "1");
    assert!(errors(&load).iter().any(|error| error.contains("can't be read")));
    fs::create_dir(&directory).unwrap();
    write(directory.join("a.yaml"), config_map("a", "2")).unwrap();
    let load = source.reload().expect("it is back");
    assert_eq!((value(&load, "a"), errors(&load).len()), ("2", 0));
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let directory = TempDir::new().unwrap();
    let load = source(&directory.path().join("missing")).load();
    let errors = errors(&load);
    assert!(errors.len() == 1 && errors[0].contains("missing: can't be read"), "{errors:?}");
}

#[test]
fn the_first_of_two_places_stays_in_force() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    write(root.join("b.yaml"), config_map("a", "b.yaml")).unwrap();
    let mut source = source(root);
    source.load();

    // `a.yaml` comes first by name, but `b.yaml` was there before.
    write(root.join("a.yaml"), config_map("a", "a.yaml")).unwrap();
    let load = source.reload().expect("there is an error now");
    assert_eq!(value(&load, "a"), "b.yaml");
    let errors = errors(&load);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("a.yaml:4:9: ConfigMap default/a"), "{errors:?}");
    assert!(errors[0].contains("b.yaml:4:9"), "{errors:?}");

    // Started anew, the first by name it is.
    let load = self::source(root).load();
    assert_eq!(value(&load, "a"), "a.yaml");

    fs::remove_file(root.join("b.yaml")).unwrap();
    let load = source.reload().expect("the other place takes over");
    assert_eq!(value(&load, "a"), "a.yaml");
    assert!(load.diagnostics.is_empty());
}

#[test]
fn the_first_of_two_places_in_a_file_is_in_force() {
    let directory = TempDir::new().unwrap();
    write(directory.path().join("a.yaml"), config_map("a", "1") + &config_map("a", "2")).unwrap();
    let mut source = source(directory.path());
    assert_eq!(value(&source.load(), "a"), "1");
    assert_eq!(value(&source.load(), "a"), "1");
}

#[test]
fn the_same_content_is_no_change() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "1")).unwrap();
    let mut source = source(directory.path());
    source.load();
    write(&file, config_map("a", "1")).unwrap();
    assert!(source.reload().is_none());
}

#[test]
fn generations_count_an_objects_changes() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let generation = |load: &Load, name| {
        load.snapshot.config_maps[&ObjectKey::new("default", name)].metadata.generation
    };
    write(&file, config_map("a", "1") + &config_map("b", "1")).unwrap();
    let mut source = source(directory.path());
    let load = source.load();
    assert_eq!((generation(&load, "a"), generation(&load, "b")), (1, 1));
    write(&file, config_map("a", "2") + &config_map("b", "1")).unwrap();
    let load = source.load();
    assert_eq!((generation(&load, "a"), generation(&load, "b")), (2, 1));
}

#[test]
fn a_config_map_mount_is_read_once_and_followed() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    for (version, value) in [("..1", "old"), ("..2", "new")] {
        fs::create_dir(root.join(version)).unwrap();
        write(root.join(version).join("a.yaml"), config_map("a", value)).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut source = source(root);
    let load = source.load();
    assert_eq!((names(&load).len(), value(&load, "a"), errors(&load).len()), (1, "old", 0));
    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    assert_eq!(value(&source.reload().expect("the mount was turned"), "a"), "new");
}

#[test]
fn a_file_that_is_being_written_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "1")).unwrap();
    let mut source = FileSource::new([directory.path().to_owned()], ReadOptions::default());
    assert_eq!(value(&source.load(), "a"), "1");
    fs::write(&file, config_map("a", "2")).unwrap();
    assert!(source.reload().is_none());
    write(&file, config_map("a", "2")).unwrap();
    assert_eq!(value(&source.reload().expect("it has settled"), "a"), "2");
}

#[test]
fn a_file_that_is_emptied_changes_nothing_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "1")).unwrap();
    let mut source = source(directory.path());
    source.load();
    // As cp and many editors begin, however long they take to go on.
    write(&file, "\n").unwrap();
    let load = source.reload().expect("there is an error now");
    assert_eq!(value(&load, "a"), "1");
    assert!(errors(&load)[0].contains("a.yaml: is empty"), "{:?}", errors(&load));
    write(&file, "# nothing at the moment\n").unwrap();
    let load = source.reload().expect("this is meant");
    assert!(load.snapshot.config_maps.is_empty() && errors(&load).is_empty());
}
