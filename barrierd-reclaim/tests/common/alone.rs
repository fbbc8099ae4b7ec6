//! Tests that need a process of their own.

use std::process::Command;

/// Set in that process.
pub(crate) const CHILD: &str = "BARRIERD_TEST_CHILD";

/// Whether this is the process in which the test `name` (with its modules) runs alone. If not, it has run there.
pub(crate) fn is_alone(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    // A name of no test's would run none, and pass.
    let listed = Command::new(&program).args(["--list", "--exact", name]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line == format!("{name}: test")), "{name}: {listed}");
    let status = Command::new(program).args(["--exact", name]).env(CHILD, "1").status().unwrap();
    assert!(status.success(), "{status}");
    false
}
