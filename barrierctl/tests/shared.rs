//! `barrierctl shared`: what it says of a region, of files that are none, and that it writes nothing.

#[path = "common/asked.rs"]
mod asked;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use asked::{json, printed};
use barrierd_shared::{Options, Region, SharedCell, SharedMap, WriterOptions};
use tempfile::TempDir;

const CELL: SharedCell<u64> = SharedCell::at(0);

fn made() -> (TempDir, PathBuf, Region) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 16).readers(5).writers(3)).expect("made");
    (dir, path, region)
}

fn shared(region: &Path, args: &[&str]) -> Command {
    let mut command = asked::barrierctl(
        env!("CARGO_BIN_EXE_barrierctl").as_ref(),
        "/nowhere/barrier".as_ref(),
        args,
    );
    command.arg("shared").arg(region);
    command
}

fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("reads");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut all: Vec<_> =
        paths.map(|path| (path.clone(), fs::read(&path).expect("reads"))).collect();
    all.sort();
    all
}

#[test]
fn a_section_that_holds_back_is_named_and_nothing_is_written() {
    let (_dir, path, region) = made();
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    let mut writer = region.writer_with(&options).expect("a slot");
    CELL.set(&mut writer, 1).expect("room");
    let said = json(&mut shared(&path, &["--json"]), 0);
    assert_eq!((&said["waiting_blocks"], &said["oldest_waiting_ns"]), (&0.into(), &().into()));
    assert!(!printed(&mut shared(&path, &[]), 0).contains("held back"));

    let (mut holder, _idle) = (region.reader().expect("a slot"), region.reader().expect("a slot"));
    let section = holder.pin();
    CELL.set(&mut writer, 2).expect("room");
    let before = contents(&path);
    let said = json(&mut shared(&path, &["--json"]), 0);
    let text = printed(&mut shared(&path, &[]), 0);
    assert_eq!(contents(&path), before, "written to");

    assert_eq!(said["region"], path.display().to_string());
    let sum =
        ["free_bytes", "live_bytes", "waiting_bytes"].map(|name| said[name].as_u64().expect(name));
    // All but the header and the roots.
    assert_eq!((said["bytes"].as_u64(), sum.iter().sum()), (Some(1 << 16), (1u64 << 16) - 8192));
    assert!(sum.iter().all(|&bytes| bytes > 0), "{said}");
    assert_eq!((&said["waiting_blocks"], &said["reader_slots"]), (&1.into(), &5.into()));
    assert_eq!((&said["writer_slots"], &said["dead_readers"]), (&3.into(), &0.into()));
    let (pid, readers) = (std::process::id(), &said["readers"]);
    assert_eq!(readers.as_array().expect("a list").len(), 2);
    assert_eq!((&readers[0]["pid"], &readers[0]["lives"]), (&pid.into(), &true.into()));
    assert_eq!(
        (&readers[0]["holds_back"], &readers[1]["holds_back"]),
        (&true.into(), &false.into())
    );
    assert!(readers[0]["section_ns"].is_u64() && readers[1]["section_ns"].is_null(), "{said}");
    assert_eq!(
        (&said["writers"][0]["pid"], &said["writers"][0]["has_turn"]),
        (&pid.into(), &false.into())
    );
    assert!(said["oldest_waiting_ns"].is_u64());
    assert!(["membarrier", "none"].contains(&said["barriers"].as_str().expect("a word")));
    let missing = said["daemon_missing"].as_str().expect("why");
    assert!(missing.contains("/nowhere"), "{missing}");

    let held = format!("held back  by reader 0, process {pid} (");
    assert!(text.contains(&held) && text.contains("), in a section for "), "{text}");
    assert!(text.contains("readers    2 of 5 at most, 1 in a section; 0 dead"), "{text}");
    assert!(text.contains(" bytes, 1 block, the oldest for "), "{text}");
    drop(section);
    assert!(printed(&mut shared(&path, &[]), 0).contains("held back  by "), "idle readers");
}

#[test]
fn the_dead_are_counted_and_a_dead_writers_turn_is_named() {
    let (_dir, path, region) = made();
    let reader = region.reader().expect("a slot");
    let mut writer = region.writer().expect("a slot");
    let turn = writer.turn().expect("nobody has it");
    let text = printed(&mut shared(&path, &[]), 0);
    let held = format!("writers    1 of 3 at most; writer 0, process {} (", std::process::id());
    assert!(text.contains(&held) && text.contains("has the turn\n"), "{text}");
    drop(turn);
    drop((reader, writer));

    // As the dead leave them: in a section, and in a turn, with no lock.
    let patch = |file: &Path, at: u64, word: u64| {
        let file = OpenOptions::new().write(true).open(file).expect("opens");
        file.write_all_at(&word.to_le_bytes(), at).expect("written");
    };
    let slots = contents(&path).into_iter().map(|(path, _)| path).find(|other| *other != path);
    patch(&slots.expect("the slots"), 4096, 2);
    patch(&path, 128, 3);
    let said = json(&mut shared(&path, &["--json"]), 0);
    assert_eq!((&said["dead_readers"], &said["readers"][0]["lives"]), (&1.into(), &false.into()));
    assert_eq!(said["readers"][0]["holds_back"], false);
    let writer = &said["writers"][0];
    assert_eq!((&writer["slot"], &writer["lives"]), (&2.into(), &false.into()), "{said}");
    assert_eq!(writer["has_turn"], true);
    let text = printed(&mut shared(&path, &[]), 0);
    assert!(text.contains("0 of 5 at most, 0 in a section; 1 dead"), "{text}");
    assert!(text.contains("and is dead: the next writer completes or undoes it"), "{text}");
}

#[test]
fn what_is_no_region_is_refused_with_words_and_status_3() {
    let (dir, path, region) = made();
    drop(region);
    let refused = |path: &Path, words: &str| {
        let output = shared(path, &[]).output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{said}");
        assert!(said.starts_with("barrierctl: ") && said.contains(words), "{said}");
    };
    refused(&dir.path().join("nothing"), "does not exist");
    refused(dir.path(), "data file");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    let patched = |at: u64, word: u64, words: &str| {
        let mut before = [0; 8];
        file.read_exact_at(&mut before, at).expect("read");
        file.write_all_at(&word.to_le_bytes(), at).expect("written");
        refused(&path, words);
        file.write_all_at(&before, at).expect("written");
    };
    patched(0, 7, "no region's");
    patched(8, 2, "layout 2, and this version knows 1");
    patched(48, 1, "and this is boot");
    printed(&mut shared(&path, &[]), 0);
    file.set_len(10_000).expect("cut");
    refused(&path, "10000 bytes long and must be 65536");
    let other = dir.path().join("file");
    fs::write(&other, "some text, not a region").expect("written");
    refused(&other, "no region's");
}

#[test]
fn a_maps_entries_blocks_and_bytes_are_shown_and_a_cell_is_no_map() {
    let (_dir, path, region) = made();
    let mut writer = region.writer().expect("a slot");
    CELL.set(&mut writer, 1).expect("room");
    let (empty, named) = (region.stats().live_bytes, SharedMap::<u64, [u8; 4]>::at(9).schema("v1"));
    for key in 0..100 {
        SharedMap::<[u8; 3], u64>::at(7).insert(&mut writer, &[key, 0, 0], 7).expect("room");
        named.insert(&mut writer, &key.into(), [0; 4]).expect("room");
    }
    named.clear(&mut writer).expect("a turn");
    writer
        .synchronize(std::time::Instant::now() + std::time::Duration::from_secs(30))
        .expect("free");
    let said = json(&mut shared(&path, &["--json"]), 0);
    let maps = said["maps"].as_array().expect("a list");
    assert_eq!(maps.len(), 2, "{said}");
    let number = |map: usize, name: &str| maps[map][name].as_u64().expect("a number");
    let all = ["root", "key_bytes", "value_bytes", "entries", "buckets", "blocks"];
    assert_eq!(all.map(|name| number(0, name)), [7, 3, 8, 100, 99, 104], "{said}");
    assert_eq!(all.map(|name| number(1, name)), [9, 8, 4, 0, 64, 2], "{said}");
    assert_eq!((&maps[0]["has_schema"], &maps[1]["has_schema"]), (&false.into(), &true.into()));
    assert_eq!(maps[1]["clearing"], false);
    // All that is live is the cell and they.
    let live = said["live_bytes"].as_u64().expect("a number");
    assert_eq!(empty + number(0, "bytes") + number(1, "bytes"), live, "{said}");
    let text = printed(&mut shared(&path, &[]), 0);
    let wanted = format!(
        "map 7      100 entries, keys of 3 bytes, values of 8; 99 buckets; 104 blocks, {} bytes\n\
         map 9      0 entries, keys of 8 bytes, values of 4, with a schema; 64 buckets; ",
        number(0, "bytes")
    );
    assert!(text.contains(&wanted), "{text}");
}
