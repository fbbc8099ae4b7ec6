//! The promise of the first line of the documentation, held to the machine code: on the path that `pin`,
//! unpin, `retire` and `retire_born` take nearly always there is no locked instruction, no fence and no system call.

#![cfg(all(target_arch = "x86_64", target_os = "linux", not(barrierd_plain)))]

#[path = "common/release.rs"]
mod release;

use release::build;
use std::collections::HashMap;
use std::process::Command;

/// A function's instructions, in order: address and text.
type Code = Vec<(u64, String)>;

/// The functions of `examples/taken_path.rs`, and all that they may jump to.
fn disassemble() -> HashMap<String, Code> {
    let program = build("taken_path", None);
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(&program)
        .output()
        .expect("objdump comes with every linker (binutils)");
    let (mut functions, mut current) = (HashMap::<String, Code>::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            current = name.into();
        } else if let Some((address, text)) = line.split_once(":\t") {
            let address = u64::from_str_radix(address.trim(), 16).expect("an address");
            functions.entry(current.clone()).or_default().push((address, text.trim().into()));
        }
    }
    functions
}

/// What may run of a function until it returns or calls: every way through its first conditional jumps.
fn paths(functions: &HashMap<String, Code>, name: &str) -> Vec<Vec<String>> {
    const JUMPS: u32 = 9;
    let all: All<'_> = functions
        .values()
        .flat_map(|code| {
            let next = code.iter().skip(1).map(|(address, _)| Some(*address)).chain([None]);
            code.iter().zip(next).map(|((at, text), next)| (*at, (text.as_str(), next)))
        })
        .collect();
    let begin = functions[name][0].0;
    (0..1 << JUMPS).filter_map(|taken: u32| path(&all, begin, taken)).collect()
}

/// An instruction, and the address of the next one, by its address.
type All<'f> = HashMap<u64, (&'f str, Option<u64>)>;

/// One of them: conditional jump n is taken if bit n of `taken` says so. `None`: it goes round.
fn path(all: &All<'_>, begin: u64, mut taken: u32) -> Option<Vec<String>> {
    let (mut at, mut ran) = (begin, Vec::new());
    while ran.len() < 200 {
        let (text, next) = all[&at];
        ran.push(text.to_owned());
        let target = || {
            let word = text.split_whitespace().nth(1).expect("a target");
            u64::from_str_radix(word, 16).expect("a plain address")
        };
        let ends = text.starts_with("jmp") && text.contains('*');
        if ends || text.starts_with("ret") || text.starts_with("call") || text.starts_with("ud2") {
            return Some(ran);
        }
        let jumps = text.starts_with("jmp")
            || text.starts_with('j') && {
                taken = taken.rotate_right(1);
                taken >> 31 == 1
            };
        at = if jumps { target() } else { next.expect("it goes on") };
    }
    None
}

fn is_free(name: &str, path: &[String], most: usize) {
    println!("{name}: {} instructions\n  {}", path.len(), path.join("\n  "));
    for text in path {
        let bad = ["lock ", "xchg", "mfence", "lfence", "sfence", "syscall", "cpuid", "rdtsc"];
        assert!(!bad.iter().any(|word| text.starts_with(word)), "{name}: {text}");
    }
    println!("{name}: {} of {most}", path.len());
    assert!(path.len() <= most, "{name}: {} instructions, more than {most}", path.len());
}

#[test]
fn the_taken_paths_are_free() {
    let functions = disassemble();
    let shortest = |name: &str, end: &str| {
        let all = paths(&functions, name);
        let ends = all.into_iter().filter(|path| path.last().is_some_and(|l| l.starts_with(end)));
        ends.min_by_key(Vec::len).unwrap_or_else(|| panic!("no way through {name} to {end}"))
    };
    // Beside the pin and the unpin these functions keep a register and show the guard to `black_box`.
    // That the drop-in's may protect nothing is looked at there, and only there.
    for (name, most) in
        [("taken_path_pin", 28), ("taken_path_handle", 20), ("taken_path_epoch", 22)]
    {
        let all = paths(&functions, name).into_iter().filter(|path| ends_section(path));
        is_free(name, &all.min_by_key(Vec::len).expect("a way through"), most);
    }
    // Until the destructor of an item that may go.
    for (name, most) in
        [("taken_path_retire", 40), ("taken_path_retire_born", 43), ("taken_path_destroy", 42)]
    {
        is_free(name, &shortest(name, "call   *%"), most);
    }

    // The fence that crossbeam-deque expects where it is told that nobody has pinned.
    let is_fence = |text: &String| text.starts_with("mfence") || text.starts_with("lock ");
    assert!(paths(&functions, "taken_path_is_pinned").iter().any(|path| path.iter().any(is_fence)));
}

/// A slot is marked idle, in one instruction, and the return.
fn ends_section(path: &[String]) -> bool {
    path.last().is_some_and(|last| last.starts_with("ret"))
        && path.iter().any(|text| text.starts_with("or") && text.contains("$0x1,"))
}

/// The mutant: a locked instruction is found where there is one.
#[test]
#[should_panic(expected = "lock xadd")]
fn a_locked_instruction_is_found() {
    let code = ["mov (%rdi),%rax", "lock xadd %rax,(%rdi)", "ret"];
    let code = (0..).zip(code.map(String::from)).collect();
    let functions = HashMap::from([(String::from("mutant"), code)]);
    is_free("mutant", &paths(&functions, "mutant")[0], 10);
}
