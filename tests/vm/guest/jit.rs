//! What the kernel's BPF compiler has made of the daemon's exchanges, on arm64.
//!
//! Owns the instructions, and the way to them through the kernel's log. Knows nothing of why they are barriers: see
//! `docs/proofs/daemon.md`, "On arm64".

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};

/// An instruction: the bits that say which it is, and what they are.
#[derive(Clone, Copy)]
struct Is(u32, u32);

const SWPAL: Is = Is(0xffe0_fc00, 0xf8e0_8000);
const CASAL: Is = Is(0xffe0_fc00, 0xc8e0_fc00);
const STLXR: Is = Is(0xffe0_fc00, 0xc800_fc00);
const CBNZ: Is = Is(0xff00_0000, 0x3500_0000);
const DMB_ISH: Is = Is(u32::MAX, 0xd503_3bbf);

/// With LSE each exchange is one instruction that acquires and releases; without it, each ends with a barrier.
pub(crate) fn check(lse: bool) {
    let code = code();
    let is = |&Is(mask, bits): &Is, word: &u32| word & mask == bits;
    let count = |what: &Is| code.iter().filter(|word| is(what, word)).count();
    let looped = [STLXR, CBNZ, DMB_ISH];
    let loops = code.windows(3).filter(|words| looped.iter().zip(*words).all(|(a, b)| is(a, b)));
    let found = (count(&SWPAL), count(&CASAL), count(&STLXR), loops.count());
    println!("  {} instructions; SWPAL, CASAL, STLXR, STLXR with DMB: {found:?}", code.len());
    match found {
        (swaps, compares, 0, 0) if lse => assert!(swaps > 0 && compares > 0, "{found:?}"),
        (0, 0, all, loops) if !lse => assert!(all > 0 && all == loops, "{found:?}"),
        _ => panic!("not as arm64's compiler does it, LSE {lse}: {found:?}"),
    }
}

/// All that `net.core.bpf_jit_enable` at 2 has the kernel show, in the order of the programs.
fn code() -> Vec<u32> {
    let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("the log");
    let mut bytes = Vec::new();
    let mut record = [0; 8192];
    loop {
        let text = match read(&log, &mut record) {
            Ok(length) => String::from_utf8_lossy(&record[..length]).into_owned(),
            Err(Errno::AGAIN) => break,
            // What was there has been overwritten.
            Err(Errno::PIPE) => continue,
            Err(error) => panic!("/dev/kmsg: {error}"),
        };
        // 6,339,5140900,-;JIT code: 00000010: 5f 24 03 d5 ...
        let Some((_, line)) = text.split_once("JIT code: ") else { continue };
        let line = line.lines().next().expect("a line");
        let words = line.split_whitespace().skip(1);
        bytes.extend(words.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")));
    }
    let word = |word: &[u8]| u32::from_le_bytes(word.try_into().expect("4 bytes"));
    bytes.chunks_exact(4).map(word).collect()
}
