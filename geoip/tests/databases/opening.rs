use std::fs;
use std::path::{Path, PathBuf};

use geoip::{Database, DatabaseError, GeoDatabases};
use serde_json::json;

use crate::sample::Sample;

/// A path for a test's own file, below the build directory.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_database_tells_what_it_is() {
    let sample = Sample::new("Sample-Country").with("81.2.69.0/24", json!({"country": "GB"}));
    let path = written("told.mmdb", &sample.bytes());
    let database = Database::open(&path).unwrap();
    assert_eq!(database.path(), path);
    assert_eq!(database.kind(), "Sample-Country");
    assert_eq!(database.build_epoch(), 1_700_000_000);
}

#[test]
fn every_problem_is_told_at_once_with_its_file() {
    let country = Sample::new("Country").with("81.2.69.0/24", json!({"country": "GB"}));
    let irrelevant = Sample::new("Connection-Type").with("81.2.69.0/24", json!({"connection_type": "Corporate"}));
    let directory = path("directory.mmdb");
    fs::create_dir_all(&directory).unwrap();
    let paths = [
        path("missing.mmdb"),
        directory,
        written("good.mmdb", &country.bytes()),
        written("empty.mmdb", b""),
        written("page.mmdb", b"<html>you have exceeded your daily download limit</html>"),
        written("irrelevant.mmdb", &irrelevant.bytes()),
    ];
    let problems = GeoDatabases::open_all(&paths).unwrap_err();
    let bad: Vec<&PathBuf> = paths.iter().filter(|path| !path.ends_with("good.mmdb")).collect();
    assert_eq!(problems.iter().map(DatabaseError::path).collect::<Vec<_>>(), bad);
    for problem in &problems {
        assert!(problem.to_string().contains(&problem.path().display().to_string()), "{problem}");
    }
    assert!(matches!(problems[0], DatabaseError::Unreadable { .. }));
    assert!(matches!(problems[1], DatabaseError::NotAFile { .. }));
    assert!(matches!(problems[2], DatabaseError::Damaged { .. }));
    assert!(matches!(problems[3], DatabaseError::Damaged { .. }));
    assert!(matches!(&problems[4], DatabaseError::Irrelevant { kind, .. } if kind == "Connection-Type"));
}

#[test]
fn open_all_keeps_the_order() {
    let paths = ["FR", "DE"].map(|code| {
        let sample = Sample::new(code).with("81.2.69.0/24", json!({"country": code}));
        written(&format!("{code}.mmdb"), &sample.bytes())
    });
    let databases = GeoDatabases::open_all(&paths).unwrap();
    assert_eq!(databases.databases().map(Database::kind).collect::<Vec<_>>(), ["FR", "DE"]);
    let place = databases.lookup("81.2.69.142".parse().unwrap());
    assert_eq!(place.country.map(|country| country.to_string()), Some("FR".into()));
    assert_eq!(GeoDatabases::open_all(&[]).unwrap().databases().count(), 0);
}
