//! What is in force as files come, change, break and go.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use l4way_resources::{ReadOptions, Severity, api::ObjectKey};
use l4way_source_file::{FileSource, Load};
use rustix::fs::{CWD, FileType, Mode, mknodat};
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

fn notes(load: &Load) -> Vec<&str> {
    let notes = load.diagnostics.iter().filter(|said| said.severity == Severity::Note);
    notes.map(|note| &*note.message).filter(|message| message.contains("stays in force")).collect()
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
fn a_refused_document_keeps_its_last_good_version_and_no_other() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let refused = |name| config_map(name, "new").replace("\ndata:", "\ndat:");
    write(&file, config_map("a", "old") + &config_map("b", "old") + &config_map("c", "old"))
        .unwrap();
    let mut source = source(directory.path());
    source.load();

    // One changes, one is refused, one is deleted, and one comes that is refused.
    write(&file, config_map("a", "new") + &refused("b") + &refused("d")).unwrap();
    let load = source.reload().expect("much has changed");
    assert_eq!(names(&load), ["a", "b"]);
    assert_eq!((value(&load, "a"), value(&load, "b")), ("new", "old"));
    assert_eq!(errors(&load).len(), 2, "{:?}", errors(&load));
    assert_eq!(notes(&load), ["the last good version of ConfigMap default/b stays in force"]);

    // It is in force until it is deleted or good.
    write(&file, config_map("a", "newer") + &refused("b")).unwrap();
    let load = source.reload().expect("a document has changed");
    assert_eq!((value(&load, "a"), value(&load, "b")), ("newer", "old"));
    write(&file, config_map("b", "good")).unwrap();
    let load = source.reload().expect("it is good again");
    assert_eq!((names(&load), value(&load, "b")), (vec!["b"], "good"));
    write(&file, refused("b") + &config_map("a", "1")).unwrap();
    assert_eq!(names(&source.reload().expect("one has come")), ["a", "b"]);
    write(&file, config_map("a", "1")).unwrap();
    let load = source.reload().expect("it is deleted");
    assert_eq!((names(&load), errors(&load).len()), (vec!["a"], 0));
}

#[test]
fn a_foreign_or_new_mistake_freezes_nothing() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let foreign = "apiVersion: example.com/v1\nkind: Service\nmetadata: {name: x}\n---\n";
    write(&file, config_map("a", "1") + foreign).unwrap();
    let mut source = source(directory.path());
    source.load();
    write(&file, config_map("a", "2") + foreign + &config_map("x", "1").replace("v1", "v7"))
        .unwrap();
    assert_eq!(value(&source.reload().expect("it has changed"), "a"), "2");
}

#[test]
fn of_what_cannot_be_told_apart_nothing_is_gone() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let both = config_map("a", "old") + &config_map("b", "old");
    for (bad, a) in [
        // Which object is it?
        (config_map("a", "new") + "kind: ConfigMap\n", "new"),
        (config_map("a", "new") + &config_map("b", "new").replace("ConfigMap", "ConfigMp"), "new"),
        (config_map("a", "new") + &config_map("b", "new").replace("name: b", "name: B"), "new"),
        (config_map("a", "new") + "kind: [\n", "new"),
        ("kind: {\n".to_owned(), "old"),
        // Somebody still writes.
        (config_map("a", "new")[..62].to_owned(), "old"),
    ] {
        write(&file, &both).unwrap();
        let mut source = source(directory.path());
        source.load();
        write(&file, &bad).unwrap();
        let load = source.reload().expect("the error is news");
        assert_eq!((value(&load, "a"), value(&load, "b")), (a, "old"), "{bad}");
        let said = notes(&load);
        let told = said.iter().any(|said| said.contains("ConfigMap default/b stays"));
        assert!(told, "{said:?}");
    }
}

#[test]
fn a_file_that_turns_bad_keeps_its_last_good_version() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "old")).unwrap();
    let mut source = source(directory.path());
    source.load();
    for (bad, said) in [(b"\xff\xfe".as_slice(), "UTF-16"), (b"# caf\xe9", ":1:6: ")] {
        write(&file, bad).unwrap();
        let load = source.reload().expect("the error is another one");
        assert_eq!(value(&load, "a"), "old");
        assert!(errors(&load)[0].contains(said), "{:?}", errors(&load));
    }
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let load = source.reload().expect("the error is another one");
    assert_eq!(value(&load, "a"), "old");
    assert!(errors(&load)[0].contains("FIFO"), "{:?}", errors(&load));
    fs::remove_file(&file).unwrap();
    write(&file, config_map("a", "new")).unwrap();
    let load = source.reload().expect("it is good again");
    assert_eq!((value(&load, "a"), errors(&load).len()), ("new", 0));
}

#[test]
fn a_file_with_another_name_is_the_same() {
    let directory = TempDir::new().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| directory.path().join(name));
    let moved = |bad: &str| {
        write(&one, config_map("a", "1")).unwrap();
        let mut source = source(directory.path());
        source.load();
        write(&one, bad).unwrap();
        source.reload().expect("the error is news");
        fs::rename(&one, &two).unwrap();
        let load = source.reload().expect("it is elsewhere");
        assert_eq!(names(&load), ["a"], "{bad}");
        fs::remove_file(&two).unwrap();
        assert!(names(&source.reload().expect("it is gone")).is_empty(), "{bad}");
    };
    moved(&config_map("a", "2").replace("\ndata:", "\ndat:"));
    moved("kind: [\n");
}

#[test]
fn an_object_that_moves_and_is_refused_keeps_its_last_good_version() {
    let directory = TempDir::new().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| directory.path().join(name));
    write(&one, config_map("a", "1") + &config_map("b", "1")).unwrap();
    let mut source = source(directory.path());
    source.load();
    write(&one, config_map("b", "1")).unwrap();
    write(&two, config_map("a", "2").replace("\ndata:", "\ndat:")).unwrap();
    assert_eq!(names(&source.reload().expect("it has moved")), ["a", "b"]);
    fs::remove_file(&two).unwrap();
    assert_eq!(names(&source.reload().expect("it is gone")), ["b"]);
}

#[test]
fn a_refused_document_does_not_give_its_object_away() {
    let directory = TempDir::new().unwrap();
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| directory.path().join(name));
    write(&one, config_map("a", "one")).unwrap();
    let mut source = source(directory.path());
    source.load();
    write(&two, config_map("a", "two")).unwrap();
    write(&one, config_map("a", "one").replace("\ndata:", "\ndat:")).unwrap();
    let load = source.reload().expect("there are two now");
    assert_eq!((value(&load, "a"), errors(&load).len()), ("one", 2));
    fs::remove_file(&one).unwrap();
    assert_eq!(value(&source.reload().expect("one is left"), "a"), "two");
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

/// A policy for the Service `db`, of this name and with this field beside.
fn policy(name: &str, field: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata:\n  name: {name}\n\
         spec:\n  targetRefs: [{{group: '', kind: Service, name: db}}]\n  {field}\n  validation: \
         {{hostname: db.example, wellKnownCACertificates: System}}\n---\n"
    )
}

/// The names of the policies that are refused; that of one that can't be told is `?`.
fn refused(load: &Load) -> Vec<&str> {
    let policies = load.snapshot.refused.iter().filter(|it| &*it.kind == "BackendTLSPolicy");
    policies.map(|it| it.name.as_deref().unwrap_or("?")).collect()
}

#[test]
fn an_object_with_an_error_is_refused_and_not_absent() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    write(&file, policy("p", "typo: x")).unwrap();
    let mut source = source(directory.path());
    assert_eq!(refused(&source.load()), ["p"]);
    // What it says counts, though the mistake is the same.
    write(&file, policy("p", "typo: x").replace("name: db", "name: bd")).unwrap();
    assert!(source.reload().is_some());
    write(&file, policy("p", "")).unwrap();
    assert!(refused(&source.reload().expect("it is good")).is_empty());

    // The last good version of it is in force; a new one has none.
    write(&file, policy("p", "typo: x") + &policy("new", "typo: x")).unwrap();
    let load = source.reload().expect("there are errors");
    assert_eq!(refused(&load), ["new"]);
    assert_eq!(load.snapshot.backend_tls_policies.len(), 1);

    // What can't be parsed may be what the file lacks, but not if it lacks none.
    write(&file, policy("p", "typo: [x")).unwrap();
    assert!(refused(&source.reload().expect("it is another error")).is_empty());
    write(&file, policy("p", "") + &policy("new", "typo: [x")).unwrap();
    let load = source.reload().expect("it is another error");
    assert_eq!(refused(&load), ["?"]);
}

#[test]
fn names_and_numbers_of_files_may_be_any() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for n in 0..2_000 {
        write(root.join(format!("{n}.yaml")), config_map(&format!("n-{n}"), "1")).unwrap();
    }
    // What editors leave beside a file.
    for name in [".a.yaml.swp", "a.yaml~", "#a.yaml#", "4913", "a.yaml.bak", "a.yaml.orig"] {
        write(root.join(name), "kind: [").unwrap();
    }
    symlink("user@host.1234:5678", root.join(".#a.yaml")).unwrap();
    let load = source(root).load();
    assert_eq!((load.snapshot.config_maps.len(), errors(&load).len()), (2_000, 0));
    write(root.join(OsStr::from_bytes(b"caf\xe9\x1b[2J.yaml")), "kind: [").unwrap();
    let load = source(root).load();
    assert_eq!(load.snapshot.config_maps.len(), 2_000);
    let said = &errors(&load)[0];
    assert!(said.contains("caf\u{fffd}\\u{1b}[2J.yaml:1:"), "{said}");
}

#[test]
fn what_was_named_itself_is_read_once_whatever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut source = source(&fifo);
    let load = thread::scope(|scope| {
        scope.spawn(|| fs::write(&fifo, config_map("a", "1")).unwrap());
        source.load()
    });
    assert_eq!((value(&load, "a"), errors(&load).len()), ("1", 0));
    // Nobody writes any more.
    assert_eq!(value(&source.load(), "a"), "1");
    // Neither is waited for what has taken a file's place.
    let file = directory.path().join("a.yaml");
    write(&file, config_map("a", "1")).unwrap();
    let mut source = self::source(&file);
    source.load();
    fs::rename(&fifo, &file).unwrap();
    let load = source.load();
    assert_eq!(value(&load, "a"), "1");
    assert!(errors(&load)[0].contains("FIFO"), "{:?}", errors(&load));
}
