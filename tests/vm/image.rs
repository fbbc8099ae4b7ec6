//! The initramfs: programs, and the libraries that they are linked to.
//!
//! Owns the archive's format. Knows nothing of what the programs do.

use crate::places::Programs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories that the guest mounts on or that programs expect.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "etc", "proc", "run", "sys", "tmp"];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive of the programs, the guest as the first process, with all their libraries: those of this
/// machine, or those that lie in `arm`, for arm64.
pub(crate) fn build(programs: &Programs, arm: Option<&[PathBuf]>) -> Vec<u8> {
    let mut archive = Archive { bytes: Vec::new(), directories: BTreeSet::new() };
    for directory in DIRECTORIES {
        archive.directory(Path::new(directory));
    }
    let mut libraries = BTreeMap::new();
    let deaf = programs.deaf_daemon.as_ref().map(|deaf| (deaf, "bin/barrierd-deaf"));
    let barrierctl = programs.barrierctl.as_ref().map(|ctl| (ctl, "bin/barrierctl"));
    for (program, at) in [
        (&programs.guest, "init"),
        (&programs.daemon, "bin/barrierd"),
        (&programs.broken_daemon, "bin/barrierd-broken"),
    ]
    .into_iter()
    .chain(deaf)
    .chain(barrierctl)
    {
        archive.file(Path::new(at), program);
        match arm {
            None => libraries.extend(libraries_of(program)),
            Some(folders) => needed_by(program, folders, &mut libraries),
        }
    }
    for (at, library) in libraries {
        archive.file(&at, &library);
    }
    archive.entry(Path::new("TRAILER!!!"), 0, &[]);
    archive.bytes
}

/// What `ldd` finds, the loader included; where they go, and where they are.
fn libraries_of(program: &Path) -> Vec<(PathBuf, PathBuf)> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("not found"), "ldd: {text}");
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    let at = |library: &str| library.trim_start_matches('/').into();
    libraries.map(|library| (at(library), library.into())).collect()
}

/// The same for a program that doesn't run here: what it says that it needs, and what that needs.
fn needed_by(program: &Path, folders: &[PathBuf], libraries: &mut BTreeMap<PathBuf, PathBuf>) {
    let mut readelf = Command::new("aarch64-linux-gnu-readelf");
    let output = readelf.args(["-ld", "--wide"]).arg(program).output().expect("readelf");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "readelf {}: {text}", program.display());
    let named = text.lines().filter_map(|line| {
        let (_, name) = line
            .split_once("(NEEDED)")
            .and_then(|(_, rest)| rest.split_once('['))
            .or_else(|| line.split_once("program interpreter: /lib/"))?;
        Some(name.trim_end_matches(']'))
    });
    for name in named {
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
        let found = found.unwrap_or_else(|| panic!("no {name} in {folders:?}"));
        // The loader looks there on every system.
        if libraries.insert(Path::new("lib").join(name), found.clone()).is_none() {
            needed_by(&found, folders, libraries);
        }
    }
}

/// A cpio archive of the kind `newc`: Documentation/driver-api/early-userspace/buffer-format.rst.
struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    fn file(&mut self, at: &Path, from: &Path) {
        if let Some(parent) = at.parent() {
            self.directory(parent);
        }
        let content = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.entry(at, PROGRAM, &content);
    }

    /// With all above it.
    fn directory(&mut self, at: &Path) {
        if at.as_os_str().is_empty() || self.directories.contains(at) {
            return;
        }
        if let Some(parent) = at.parent() {
            self.directory(parent);
        }
        self.entry(at, DIRECTORY, &[]);
        self.directories.insert(at.into());
    }

    fn entry(&mut self, at: &Path, mode: u32, content: &[u8]) {
        let name = at.to_str().expect("plain names");
        let size = |n: usize| u32::try_from(n).expect("below 4 GiB");
        // Inode, mode, owner, group, links, time, size, device, device of a device file, name, sum.
        let header =
            [0, mode, 0, 0, 1, 0, size(content.len()), 0, 0, 0, 0, size(name.len() + 1), 0];
        self.bytes.extend_from_slice(b"070701");
        for number in header {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
