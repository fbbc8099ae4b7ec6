//! barrierctl as a user without any privilege runs it.
//!
//! Owns the copy that such a user can execute.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A copy where everyone can run it: the build may lie in a closed directory.
fn copy() -> &'static Path {
    static COPY: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("barrierctl");
        fs::copy(crate::common::barrierctl(), &copy).expect("copied");
        for path in [dir.path(), &copy] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        (dir, copy)
    });
    &COPY.1
}

/// barrierctl of `file` with these arguments, as uid 65534, without a group or a capability.
pub(crate) fn barrierctl(file: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
    command.arg(copy()).arg("--file").arg(file).args(args);
    command
}
