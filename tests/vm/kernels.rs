//! The distribution's kernels: found, fetched and unpacked, never installed.
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
    apt: Apt,
    known: HashMap<&'static str, Image>,
}

/// The packages that depend on the newest kernel of their kind, in order of preference. Debian 12
/// has 6.12 beside its own 6.1, for later releases their own is the newest; the last of each list is
/// Ubuntu's.
fn packages(kernel: Kernel) -> &'static [&'static str] {
    match kernel {
        Kernel::Cloud => &["linux-image-cloud-amd64", "linux-image-virtual"],
        Kernel::Rt => &["linux-image-rt-amd64", "linux-image-realtime"],
        Kernel::NewCloud => {
            &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-virtual"]
        }
        Kernel::NewRt => {
            &["linux-image-6.12-rt-amd64", "linux-image-rt-amd64", "linux-image-realtime"]
        }
        Kernel::Arm => &["linux-image-cloud-arm64", "linux-image-virtual"],
        Kernel::NewArm => {
            &["linux-image-6.12-cloud-arm64", "linux-image-cloud-arm64", "linux-image-virtual"]
        }
        Kernel::Arm16k => &["linux-image-6.12-arm64-16k", "linux-image-arm64-16k"],
    }
}

impl Kernels {
    /// Kernels of this machine's kind, or of the one that the file `apt` configures apt for.
    pub(crate) fn new(cache: &Path, apt: Option<PathBuf>) -> Kernels {
        create_dir_all(cache).expect("target/vm/kernels");
        Kernels { cache: cache.into(), apt: Apt { config: apt }, known: HashMap::new() }
    }

    /// The kernel of a kind, or why there is none.
    pub(crate) fn get(&mut self, kernel: Kernel) -> Result<Image, String> {
        let apt = &self.apt;
        let find = || packages(kernel).iter().find_map(|&meta| Some((meta, apt.dependency(meta)?)));
        // A machine that is new has no lists.
        let found = find().or_else(|| apt.update().then(find).flatten());
        let Some((meta, package)) = found else {
            return Err(format!("apt knows none of {:?}", packages(kernel)));
        };
        if let Some(image) = self.known.get(meta) {
            return Ok(image.clone());
        }
        let image = self.apt.fetch(&self.cache, package)?;
        self.known.insert(meta, image.clone());
        Ok(image)
    }
}

/// The distribution's packages.
struct Apt {
    /// What tells apt that another machine is meant than this one.
    config: Option<PathBuf>,
}

impl Apt {
    fn command(&self, command: &str) -> Command {
        let mut apt = Command::new(command);
        apt.env("LC_ALL", "C");
        if let Some(config) = &self.config {
            apt.env("APT_CONFIG", config);
        }
        apt
    }

    fn update(&self) -> bool {
        let mut apt = self.command("apt-get");
        apt.args(["update", "-qq"]).status().is_ok_and(|status| status.success())
    }

    /// The value of a field of `apt-cache COMMAND... PACKAGE`, the first that `is` takes.
    fn field(
        &self,
        command: &[&str],
        package: &str,
        name: &str,
        is: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let mut apt = self.command("apt-cache");
        let output = apt.args(command).arg(package).output().expect("apt-cache");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut values =
            text.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        values.find(|value| is(value)).map(ToOwned::to_owned)
    }

    /// The kernel that a package without content depends on.
    fn dependency(&self, meta: &str) -> Option<String> {
        self.field(&["depends"], meta, "Depends", |package| package.starts_with("linux-image-"))
    }

    /// `package`'s kernel, from the cache or from the distribution.
    fn fetch(&self, cache: &Path, package: String) -> Result<Image, String> {
        let version = package.trim_start_matches("linux-image-").to_owned();
        // A kernel may be built anew under the same name.
        let build = self.field(&["show", "--no-all-versions"], &package, "Version", |_| true);
        let build = build.ok_or_else(|| format!("apt-cache show {package} has no version"))?;
        let image = cache.join(format!("vmlinuz-{version}_{build}"));
        if !image.exists() {
            println!("fetching {package} {build}");
            let download = || {
                let mut apt = self.command("apt-get");
                // Else it warns that its own user can't write here.
                apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root", &package]);
                apt.current_dir(cache).status().expect("apt-get").success()
            };
            // A list that is too old names a package that is gone.
            if !(download() || (self.update() && download())) {
                return Err(format!("apt-get download {package} failed"));
            }
            unpack(cache, &package, &version, &image);
        }
        Ok(Image { version, image })
    }
}

/// Takes the kernel out of the package in `cache`, and drops the rest.
fn unpack(cache: &Path, package: &str, version: &str, image: &Path) {
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
    let kernel = whole.join("boot").join(format!("vmlinuz-{version}"));
    fs::rename(kernel, image).expect("the kernel is in its package's boot/");
    fs::remove_dir_all(&whole).expect("the rest goes");
    fs::remove_file(&deb).expect("the package goes");
}
