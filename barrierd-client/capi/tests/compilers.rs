//! The header under every compiler and language that is here, with more warnings than most programs ask for.

use std::process::Command;

const PROGRAM: &str = "#define _POSIX_C_SOURCE 200809L\n#include <barrierd.h>\n\
    int main(void)\n{\n\
    struct barrierd_barrier *barrier;\n\
    uint64_t stamp = barrierd_stamp_inline();\n\
    const struct barrierd_mapped_data *data;\n\
    if (barrierd_open(BARRIERD_DEFAULT_PATH, &barrier) < 0)\n\treturn 1;\n\
    data = barrierd_data(barrier);\n\
    return barrierd_data_passed(data, stamp) + (barrierd_word(data, BARRIERD_FLAGS) == 0)\n\
    \t+ barrierd_data_vpassed(data, barrierd_data_vstamp(data))\n\
    \t+ (barrierd_load(&data->per_cpu[0].last_interrupt_ns) == 0);\n}\n";

const WARNINGS: [&str; 8] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wundef",
    "-Werror",
];

#[test]
fn the_header_pleases_them_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let c = &["c99", "c11", "c17", "gnu17"][..];
    let cxx = &["c++11", "c++14", "c++17", "c++20"][..];
    for (compiler, suffix, standards, always) in [
        ("cc", "c", c, true),
        ("c++", "cc", cxx, true),
        ("clang", "c", c, false),
        ("clang++", "cc", cxx, false),
    ] {
        let source = dir.path().join(format!("header.{suffix}"));
        std::fs::write(&source, PROGRAM).expect("written");
        for standard in standards {
            let mut command = Command::new(compiler);
            command.arg(format!("-std={standard}")).args(WARNINGS).args(["-O2", "-c", "-o"]);
            command.arg(dir.path().join("header.o")).arg(&source);
            command.args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/include")]);
            match command.output() {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{command:?}:\n{said}");
                }
                Err(error) => {
                    let must = always && std::env::var_os("CI").is_some();
                    assert!(!must, "{compiler}: {error}, and CI must run this test");
                    eprintln!("\n*** NOT RUN: {compiler}: {error} ***\n");
                    break;
                }
            }
        }
    }
}
