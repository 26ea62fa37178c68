use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Guards only: a report takes well under a tenth of a second, and two where events are lost.
const GUARD: Duration = Duration::from_secs(20);

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn watch(paths: &[&Path]) -> FileWatch {
    FileWatch::new(paths.iter().map(|path| path.to_path_buf()).collect()).unwrap()
}

/// Waits for a report of what `change` does while the watch is waiting.
async fn reports(watch: &mut FileWatch, change: impl FnOnce()) {
    // `join!` polls in order: the change is made once the watch waits.
    let both = async { tokio::join!(watch.changed(), async { change() }) };
    timeout(GUARD, both).await.expect("no report of the change");
}

/// With the clock paused: looks for a minute of virtual time, and finds nothing to report.
async fn reports_nothing(watch: &mut FileWatch) {
    timeout(Duration::from_secs(60), watch.changed()).await.expect_err("a report without a change");
}

#[tokio::test]
async fn a_file_renamed_over_is_reported() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    fs::write(&file, "one").unwrap();
    let mut watch = watch(&[&file]);
    for text in ["two", "six", "ten"] {
        let new = directory.path().join("new");
        fs::write(&new, text).unwrap();
        reports(&mut watch, || fs::rename(&new, &file).unwrap()).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[tokio::test]
async fn events_come_long_before_the_next_look() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    fs::write(&file, "one").unwrap();
    let mut watch = watch(&[&file]);
    let start = std::time::Instant::now();
    for text in ["two", "three", "four", "five", "six"] {
        reports(&mut watch, || fs::write(&file, text).unwrap()).await;
    }
    // Five looks without an event take ten seconds.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_file_written_in_parts_is_reported_when_it_is_whole() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    fs::write(&file, "old").unwrap();
    let mut watch = watch(&[&file]);
    let write_slowly = async {
        // Just before the watch looks again, so that it finds the file half-written.
        sleep(Duration::from_secs(2)).await;
        let mut open = fs::File::create(&file).unwrap();
        for part in ["a", "b", "c", "d", "e"] {
            sleep(Duration::from_millis(20)).await;
            open.write_all(part.as_bytes()).unwrap();
        }
    };
    let read = async {
        watch.changed().await;
        fs::read_to_string(&file).unwrap()
    };
    let (text, ()) = tokio::join!(read, write_slowly);
    assert_eq!(text, "abcde");
    reports_nothing(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_rests_is_reported_all_the_same() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    let mut watch = watch(&[&file]);
    let mut open = fs::File::create(&file).unwrap();
    let write_for_ever = async {
        loop {
            open.write_all(b"x").unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let first_report = timeout(PATIENCE * 2, watch.changed());
    tokio::select! {
        reported = first_report => reported.expect("no report"),
        () = write_for_ever => {}
    }
}

#[tokio::test]
async fn a_kubernetes_mount_that_is_swapped_is_reported() {
    let directory = directory();
    let mount = directory.path().join("mount");
    let version = |name: &str, text: &str| {
        fs::create_dir_all(mount.join(name)).unwrap();
        fs::write(mount.join(name).join("routes.toml"), text).unwrap();
    };
    version("..1", "one");
    symlink("..1", mount.join("..data")).unwrap();
    symlink("..data/routes.toml", mount.join("routes.toml")).unwrap();
    let file = mount.join("routes.toml");
    let mut watch = watch(&[&file]);
    for (new, old, text) in [("..2", "..1", "two"), ("..3", "..2", "three")] {
        version(new, text);
        symlink(new, mount.join("..data_tmp")).unwrap();
        reports(&mut watch, || {
            fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
            fs::remove_dir_all(mount.join(old)).unwrap();
        })
        .await;
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    // And the target is watched as well, in the directory that is now the current one.
    reports(&mut watch, || fs::write(mount.join("..3/routes.toml"), "four").unwrap()).await;
}

#[tokio::test]
async fn a_file_deleted_and_created_again_is_reported_each_time() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    fs::write(&file, "one").unwrap();
    let mut watch = watch(&[&file]);
    reports(&mut watch, || fs::remove_file(&file).unwrap()).await;
    reports(&mut watch, || fs::write(&file, "one").unwrap()).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_reported_when_it_comes() {
    let directory = directory();
    let below = directory.path().join("not/yet");
    let file = below.join("routes.toml");
    let mut watch = watch(&[&file]);
    reports(&mut watch, || {
        fs::create_dir_all(&below).unwrap();
        fs::write(&file, "one").unwrap();
    })
    .await;
    reports(&mut watch, || fs::write(&file, "two").unwrap()).await;
}

#[tokio::test]
async fn a_directory_replaced_as_a_whole_is_reported() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    for name in ["conf", "new"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("routes.toml"), name).unwrap();
    }
    let mut watch = watch(&[&path("conf").join("routes.toml")]);
    reports(&mut watch, || {
        fs::rename(path("conf"), path("old")).unwrap();
        fs::rename(path("new"), path("conf")).unwrap();
    })
    .await;
    reports(&mut watch, || fs::write(path("conf").join("routes.toml"), "two").unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_watched_file_is_reported_and_only_once() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    let other = directory.path().join("other.toml");
    fs::write(&file, "one").unwrap();
    let mut watch = watch(&[&file]);
    reports_nothing(&mut watch).await;
    fs::write(&other, "one").unwrap();
    reports_nothing(&mut watch).await;
    fs::read(&file).unwrap();
    reports_nothing(&mut watch).await;
    fs::write(&file, "two").unwrap();
    timeout(GUARD, watch.changed()).await.expect("no report of the change");
    reports_nothing(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn the_set_of_files_can_change() {
    let directory = directory();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let mut watch = watch(&[&a]);
    fs::write(&a, "1").unwrap();
    fs::write(&b, "1").unwrap();
    // What happened to `a` is not forgotten; `b` is taken as it is.
    watch.set_paths(vec![a.clone(), b.clone()]);
    timeout(GUARD, watch.changed()).await.expect("no report of a");
    reports_nothing(&mut watch).await;
    fs::write(&b, "2 bytes").unwrap();
    timeout(GUARD, watch.changed()).await.expect("no report of b");
    watch.set_paths(vec![a.clone()]);
    fs::write(&b, "3 more bytes").unwrap();
    reports_nothing(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_loses_nothing() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    let mut watch = watch(&[&file]);
    reports_nothing(&mut watch).await;
    fs::write(&file, "one").unwrap();
    // Dropped in the middle of settling.
    timeout(STEP, watch.changed()).await.expect_err("it cannot have settled yet");
    timeout(GUARD, watch.changed()).await.expect("no report of the change");
}

#[test]
fn a_wait_can_move_between_threads() {
    fn is_send(_: &impl Send) {}
    is_send(&watch(&[]).changed());
}

#[test]
fn a_path_must_not_be_empty() {
    assert!(FileWatch::new(vec![PathBuf::new()]).is_err());
}
