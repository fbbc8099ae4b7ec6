//! The inline sections as compilers make them: no fence, no locked instruction, and no call, except where x86-64's rules are not
//! the target's.
//!
//! It reads the assembly of each function that the header defines, by every compiler that is here, at -O2. Where there is no
//! compiler it says so and passes, except where `CI` is set.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Each inline function of a section, called once by a function that can be found again. What calls the library is left out.
const PROGRAM: &str = "#include <barrierd_shared.h>
int at_pin(struct barrierd_shared_reader *r) { return barrierd_shared_pin(r); }
void at_unpin(struct barrierd_shared_reader *r) { barrierd_shared_unpin(r); }
uint64_t at_link(const uint64_t *l) { return barrierd_shared_link(l); }
const uint64_t *at_root(const struct barrierd_shared_reader *r, uint64_t i) { return barrierd_shared_root(r, i); }
const void *at_follow(const struct barrierd_shared_reader *r, uint64_t l) { return barrierd_shared_follow(r, l, 64); }
uint64_t at_word(const void *at) { return barrierd_shared_word(at, 3); }
void at_copy(void *to, const void *at) { barrierd_shared_copy(to, at, 2, 32); }
int at_cell(struct barrierd_shared_reader *r, void *v) { return barrierd_shared_cell_get(r, 0, v, 32); }
int at_barrier(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); return 0; }
void at_locked(uint64_t *w) { __atomic_fetch_add(w, 1, __ATOMIC_RELAXED); }
extern int outside(void);
int at_call(void) { return outside() + 1; }
";

/// Where Debian's cross compilers have the C library's headers.
const ARM64: &str = "/usr/aarch64-linux-gnu/include";

/// Instructions of each function.
type Code = BTreeMap<String, Vec<String>>;

fn compiled(compiler: &str, flags: &[&str], dir: &Path) -> Option<Code> {
    let source = dir.join("sections.c");
    std::fs::write(&source, PROGRAM).expect("written");
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let mut command = Command::new(compiler);
    command.args(["-std=c99", "-O2", "-fno-asynchronous-unwind-tables", "-S", "-o", "-", "-I"]);
    command.arg(include).args(flags).arg(&source);
    let output = match command.output() {
        Err(error) => {
            eprintln!("\n*** NOT RUN: {compiler}: {error} ***\n");
            return None;
        }
        Ok(output) => output,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}");
    let mut code = Code::new();
    let mut function = None;
    for line in String::from_utf8(output.stdout).expect("assembly").lines() {
        // What clang adds behind, and gcc by itself.
        let comment = if line.contains("//") { "//" } else { "# " };
        let text = line.split(comment).next().expect("a part").trim();
        let text = if text.starts_with('#') { "" } else { text };
        if let Some(label) = text.strip_suffix(':') {
            if label.starts_with("at_") {
                function = Some(label.to_owned());
            }
        } else if let Some(function) = function.as_ref().filter(|_| !text.starts_with('.')) {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            code.entry(function.clone()).or_default().extend((!words.is_empty()).then_some(words));
        }
    }
    Some(code)
}

/// Whether it waits for other CPUs' stores or takes a line for itself. An exchange with memory is locked by itself.
fn is_dear(instruction: &str) -> bool {
    let word = instruction.split(' ').next().expect("a word");
    let x86 = ["lock", "mfence", "lfence", "sfence", "cpuid"].contains(&word)
        || word.starts_with("xchg") && instruction.contains('(');
    let exclusive = ["ldxr", "ldaxr", "stxr", "stlxr", "ldadd", "cas", "swp"];
    let arm = word == "dmb" || word == "dsb" || exclusive.iter().any(|one| word.starts_with(one));
    x86 || arm
}

fn is_call(instruction: &str) -> bool {
    let word = instruction.split(' ').next().expect("a word");
    ["call", "callq", "bl", "blr"].contains(&word)
        // A call in a function's last place.
        || ["jmp", "b"].contains(&word) && !instruction.contains(".L")
}

#[test]
fn a_section_in_c_has_no_fence_no_locked_instruction_and_no_call() {
    let dir = tempfile::tempdir().expect("a directory");
    // (compiler, options, must be there where CI is)
    let native = cfg!(target_arch = "x86_64");
    let all = [
        ("gcc", &[][..], native),
        ("clang", &[][..], false),
        ("aarch64-linux-gnu-gcc", &["-mno-outline-atomics"][..], false),
        (
            "clang",
            &["--target=aarch64-linux-gnu", "-mno-outline-atomics", "-isystem", ARM64][..],
            false,
        ),
    ];
    let all = all.into_iter().filter(|all| !all.1.contains(&ARM64) || Path::new(ARM64).exists());
    let mut seen = 0;
    for (compiler, flags, always) in all {
        let Some(code) = compiled(compiler, flags, dir.path()) else {
            assert!(!always || std::env::var_os("CI").is_none(), "CI must run {compiler}");
            continue;
        };
        seen += 1;
        assert_eq!(code.len(), 11, "{compiler}: {code:?}");
        for (function, instructions) in &code {
            let dear: Vec<_> = instructions.iter().filter(|one| is_dear(one)).collect();
            let calls: Vec<_> = instructions.iter().filter(|one| is_call(one)).collect();
            // These three show that the test would see one.
            let wanted = match function.as_str() {
                "at_barrier" | "at_locked" => (true, false),
                "at_call" => (false, true),
                _ => (false, false),
            };
            let found = (!dear.is_empty(), !calls.is_empty());
            assert_eq!(found, wanted, "{compiler} {flags:?}: {function}: {instructions:#?}");
        }
        let length = |name: &str| code[name].len();
        eprintln!("{compiler} {flags:?}: pin {}, unpin {}", length("at_pin"), length("at_unpin"));
    }
    assert!(seen > 0 || std::env::var_os("CI").is_none(), "CI must run this");
}
