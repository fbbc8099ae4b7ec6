//! The header under every compiler and language that is here, with more warnings than most programs ask for.

use std::process::Command;

const PROGRAM: &str = "#include <barrierd_shared.h>\n\
    int main(void)\n{\n\
    struct barrierd_shared_region *region;\n\
    struct barrierd_shared_reader *reader;\n\
    unsigned char value[13];\n\
    struct barrierd_shared_map map;\n\
    uint64_t key = 7;\n\
    int found;\n\
    if (barrierd_shared_open(\"/dev/shm/limits\", &region) < 0)\n\treturn 1;\n\
    if (barrierd_shared_join(region, &reader) < 0)\n\treturn 1;\n\
    found = barrierd_shared_cell_get(reader, 0, value, sizeof(value));\n\
    if (barrierd_shared_map_at(&map, 1, sizeof(key), sizeof(value), NULL) == 0)\n\
    \tfound += barrierd_shared_map_get(reader, &map, &key, value);\n\
    barrierd_shared_leave(reader);\n\
    barrierd_shared_close(region);\n\
    return found;\n}\n";

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
