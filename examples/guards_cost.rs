use barrierd_reclaim::{Reclaimer, Source};
use crossbeam_epoch as epoch;
use std::hint::black_box;
use std::sync::atomic::AtomicPtr;
use std::time::Instant;
fn main() {
    let r = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    let cell = AtomicPtr::new(Box::into_raw(Box::new(7u64)));
    let cell = &cell;
    let born = AtomicPtr::new(Box::into_raw(r.alloc(7u64)));
    let born = &born;
    let rr = &r;
    let ecell = epoch::Atomic::new(7u64);
    let ecell = &ecell;
    let mut all: Vec<(&str, Box<dyn FnMut(u64) + '_>)> = vec![
        (
            "empty loop + load",
            Box::new(move |n| {
                for _ in 0..n {
                    black_box(cell.load(std::sync::atomic::Ordering::Acquire));
                }
            }),
        ),
        (
            "barrierd pin+protect+unpin",
            Box::new(move |n| {
                for _ in 0..n {
                    let g = rr.pin();
                    black_box(g.protect(cell));
                }
            }),
        ),
        ("hazard protect", {
            let mut h = rr.hazard();
            Box::new(move |n| {
                for _ in 0..n {
                    black_box(h.protect(cell).as_ptr());
                }
            })
        }),
        ("robust protect", {
            let g = rr.pin_robust();
            Box::new(move |n| {
                for _ in 0..n {
                    black_box(g.protect(born));
                }
            })
        }),
        (
            "robust pin+protect+unpin",
            Box::new(move |n| {
                for _ in 0..n {
                    let g = rr.pin_robust();
                    black_box(g.protect(born));
                }
            }),
        ),
        (
            "owned pin+unpin",
            Box::new(move |n| {
                for _ in 0..n {
                    black_box(rr.pin_owned());
                }
            }),
        ),
        (
            "hazard make+drop",
            Box::new(move |n| {
                for _ in 0..n {
                    black_box(rr.hazard());
                }
            }),
        ),
        (
            "crossbeam pin+load+unpin",
            Box::new(move |n| {
                for _ in 0..n {
                    let g = epoch::pin();
                    black_box(ecell.load(std::sync::atomic::Ordering::Acquire, &g));
                }
            }),
        ),
        (
            "retire plain",
            Box::new(move |n| {
                for i in 0..n {
                    let old =
                        cell.swap(Box::into_raw(Box::new(i)), std::sync::atomic::Ordering::AcqRel);
                    unsafe { rr.retire(old) };
                }
            }),
        ),
        ("retire born", {
            let r2 = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
            let born = AtomicPtr::new(Box::into_raw(r2.alloc(7u64)));
            Box::new(move |n| {
                for i in 0..n {
                    let old =
                        born.swap(Box::into_raw(r2.alloc(i)), std::sync::atomic::Ordering::AcqRel);
                    unsafe { r2.retire_born(old) };
                }
            })
        }),
        ("retire plain, clean domain", {
            let r2 = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
            let c = AtomicPtr::new(Box::into_raw(Box::new(7u64)));
            Box::new(move |n| {
                for i in 0..n {
                    let old =
                        c.swap(Box::into_raw(Box::new(i)), std::sync::atomic::Ordering::AcqRel);
                    unsafe { r2.retire(old) };
                }
            })
        }),
        ("retire plain, one hazard", {
            let r2: &'static Reclaimer = Box::leak(Box::new(
                Reclaimer::builder().source(Source::Membarrier).build().unwrap(),
            ));
            let c = AtomicPtr::new(Box::into_raw(Box::new(7u64)));
            let mut h = r2.hazard();
            h.protect(&c);
            Box::new(move |n| {
                let _k = &h;
                for i in 0..n {
                    let old =
                        c.swap(Box::into_raw(Box::new(i)), std::sync::atomic::Ordering::AcqRel);
                    unsafe { r2.retire(old) };
                }
            })
        }),
    ];
    if let Ok(t) = std::env::var("COUNT") {
        let (i, n) = t.split_once(':').unwrap();
        let i: usize = i.parse().unwrap();
        (all[i].1)(n.parse().unwrap());
        std::process::exit(0);
    }
    let mut s = vec![vec![]; all.len()];
    for _ in 0..40 {
        for (a, s) in all.iter_mut().zip(&mut s) {
            let b = Instant::now();
            (a.1)(50_000);
            s.push(b.elapsed().as_secs_f64() * 1e9 / 50_000.0);
        }
    }
    for (i, (a, s)) in all.iter().zip(&mut s).enumerate() {
        s.sort_by(f64::total_cmp);
        let count = |n: u64| {
            let o = std::process::Command::new("valgrind")
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .arg(std::env::current_exe().unwrap())
                .env("COUNT", format!("{i}:{n}"))
                .output()
                .unwrap();
            String::from_utf8_lossy(&o.stderr)
                .lines()
                .find_map(|l| {
                    l.split_once("Collected : ").and_then(|x| x.1.trim().parse::<f64>().ok())
                })
                .unwrap_or(f64::NAN)
        };
        println!(
            "{:<30} best {:7.2} ns  median {:7.2}  instr {:7.1}",
            a.0,
            s[0],
            s[20],
            (count(40_000) - count(20_000)) / 20_000.0
        );
    }
}
