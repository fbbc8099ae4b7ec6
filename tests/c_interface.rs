//! C programs on the live daemon: the sample client, as C99 and as C++17, with the shared and with the
//! static library; and a program as they were written for the C daemon, unchanged.

#[path = "common/c/mod.rs"]
mod c;
mod common;

use c::{BARRIERD, Language, Link, run};
use common::{Daemon, directory, have_root};

#[test]
fn the_sample_client_waits_in_every_way() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    for language in Language::BOTH {
        for link in [Link::Shared, Link::Static] {
            let source = "examples/client.c";
            let Some(client) = BARRIERD.compile(source, language, link, &[], dir.path()) else {
                return;
            };
            let printed = run(&client, &[daemon.file.to_str().expect("UTF-8"), "10"]);
            assert!(printed.contains("requests   are taken\n"), "{printed}\n{}", daemon.log());
            for kind in ["expedited", "passive", "virtual"] {
                let there = printed.lines().any(|l| l.starts_with(kind) && l.contains(" 10 waits"));
                assert!(there, "{language:?} {link:?}: {printed}");
            }
        }
    }
}

#[test]
fn a_program_for_the_c_daemon_runs_unchanged() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    for options in [&[][..], &["-DOLD_HEADER"]] {
        let source = "tests/old_client.c";
        let Some(client) = BARRIERD.compile(source, Language::C99, Link::None, options, dir.path())
        else {
            return;
        };
        let printed = run(&client, &[daemon.file.to_str().expect("UTF-8")]);
        assert!(printed.starts_with("50 waits each; woken "), "{printed}\n{}", daemon.log());
    }
}
