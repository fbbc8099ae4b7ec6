//! Debian's kernels: found, fetched and unpacked, never installed.
//!
//! Owns the packages' names and the cache in `target/vm/kernels`. Knows nothing of machines.

use crate::scenarios::Kernel;
use std::collections::HashMap;
use std::fs::{self, create_dir_all};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel on this disk.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// As `uname -r` has it.
    pub(crate) version: String,
    pub(crate) image: PathBuf,
}

/// Those that have been asked for.
pub(crate) struct Kernels {
    cache: PathBuf,
    known: HashMap<&'static str, Image>,
}

/// The packages that depend on the newest kernel of their kind, in order of preference: bookworm
/// has 6.12 beside its own 6.1, for later releases their own is the newest.
fn packages(kernel: Kernel) -> &'static [&'static str] {
    match kernel {
        Kernel::Cloud => &["linux-image-cloud-amd64"],
        Kernel::Rt => &["linux-image-rt-amd64"],
        Kernel::NewCloud => &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"],
        Kernel::NewRt => &["linux-image-6.12-rt-amd64", "linux-image-rt-amd64"],
    }
}

impl Kernels {
    pub(crate) fn new(cache: &Path) -> Kernels {
        create_dir_all(cache).expect("target/vm/kernels");
        Kernels { cache: cache.into(), known: HashMap::new() }
    }

    pub(crate) fn get(&mut self, kernel: Kernel) -> Image {
        let (meta, package) = packages(kernel)
            .iter()
            .find_map(|&meta| Some((meta, dependency(meta)?)))
            .unwrap_or_else(|| {
                panic!("apt knows none of {:?}: this needs Debian 12 or later", packages(kernel))
            });
        let fetch = || fetch(&self.cache, &package);
        self.known.entry(meta).or_insert_with(fetch).clone()
    }
}

/// The kernel that a package without content depends on.
fn dependency(meta: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", meta]).output().expect("apt-cache");
    let text = String::from_utf8_lossy(&output.stdout);
    let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends.map(ToOwned::to_owned).find(|package| package.starts_with("linux-image-"))
}

/// `package`'s kernel, from the cache or from Debian.
fn fetch(cache: &Path, package: &str) -> Image {
    let version = package.trim_start_matches("linux-image-").to_owned();
    let image = cache.join(format!("vmlinuz-{version}"));
    if !image.exists() {
        eprintln!("fetching {package}");
        let download = || {
            let mut apt = Command::new("apt-get");
            apt.args(["download", "-qq", package]).current_dir(cache);
            apt.status().expect("apt-get").success()
        };
        // A list that is too old names a package that is gone.
        let update = || Command::new("apt-get").args(["update", "-qq"]).status().is_ok();
        assert!(download() || (update() && download()), "apt-get download {package} failed");
        unpack(cache, package, &image);
    }
    Image { version, image }
}

/// Takes the kernel out of the package in `cache`, and drops the rest.
fn unpack(cache: &Path, package: &str, image: &Path) {
    let start = format!("{package}_");
    let is_package = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
    };
    let mut files = fs::read_dir(cache).expect("the cache").map(|entry| entry.expect("one").path());
    let deb = files.find(is_package).expect("apt-get has put it here");
    let whole = cache.join("unpacked");
    let status =
        Command::new("dpkg-deb").arg("-x").args([&deb, &whole]).status().expect("dpkg-deb");
    assert!(status.success(), "dpkg-deb -x {}: {status}", deb.display());
    let name = image.file_name().expect("a file");
    fs::rename(whole.join("boot").join(name), image).expect("the kernel is in its package's boot/");
    fs::remove_dir_all(&whole).expect("the rest goes");
    fs::remove_file(&deb).expect("the package goes");
}
