//! Three processes share a map: one writes it and one reads it in Rust, and one reads it in C. They are the examples that
//! the READMEs show.

#[path = "../../../tests/common/built.rs"]
mod built;
#[path = "../../../tests/common/c/mod.rs"]
mod c;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use c::{BARRIERD_SHARED, Language, Link};

/// Stops it when the test ends, however it does.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Running { child, lines }
    }

    /// The next thing that it says.
    fn says(&mut self) -> String {
        self.lines.next().expect("it ended and said nothing").expect("UTF-8")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[test]
fn one_writes_and_one_reads_in_rust_and_one_reads_in_c() {
    let (dir, rust) = (tempfile::tempdir().expect("a directory"), built::example("shared_map"));
    let routes = dir.path().join("routes");
    for language in Language::BOTH {
        let source = "examples/read_map.c";
        let compiled = BARRIERD_SHARED.compile(source, language, Link::Shared, &[], dir.path());
        let Some(c) = compiled else { return };
        let mut command = c::program(&rust);
        let mut writer = Running::start(command.arg(&routes).arg("write").stdin(Stdio::piped()));
        let mut typed = writer.child.stdin.take().expect("piped");
        let mut set = |line: &str| writeln!(typed, "{line}").expect("it reads");
        set("8 192.0.2.8");
        let listed = || {
            let output = c::program(&rust).arg(&routes).arg("list").output().expect("it runs");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        while !listed().contains("8 192.0.2.8\n") {
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert_eq!(writer.child.try_wait().expect("ours"), None, "the writer has ended");
        }
        let mut readers = [&rust, &c].map(|program| {
            let mut command = c::program(program);
            command.arg(&routes);
            if program == &rust {
                command.arg("read");
            }
            Running::start(command.arg("7"))
        });
        for address in ["10.0.0.1", "10.0.0.2", "10.255.0.1"] {
            set(&format!("7 {address}"));
            for reader in &mut readers {
                assert_eq!(reader.says(), address, "{language:?}");
            }
        }
        set("7 -");
        assert_eq!(readers[0].says(), "-");
        // What the next round finds; and by the writer's death.
        set("7 10.0.0.9");
        assert_eq!(readers.each_mut().map(Running::says), ["10.0.0.9", "10.0.0.9"]);
        set("7 -");
        assert_eq!(readers[0].says(), "-");
        writer.child.kill().expect("ours");
    }
}
