//! Section E: what a payload uses up is its own, and the limit that ends it is named.
//!
//! Every payload is bounded by itself as well, at a few times the limit, so that a hole does no harm.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::attack::{Answer, Attack, Attempt, Control, Gap, Stage, Tried, not_there, prepare, said};
use super::attacker::pour;
use super::calls::{call, fd, owned};
use super::drive::Driver;
use super::processes::judge_limit;
use crate::base::size::Size;
use crate::sandbox::Cause;

/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;
const MIB: u64 = 1 << 20;
/// What the bombs use, against a limit of 64 MiB: harmless on any host that this runs on.
const BOMB: u64 = 128 * MIB;
const MEMORY: &[&str] = &["--memory", "64MiB"];
const NO_ROOM: &[i32] = &[libc::ENOSPC, libc::EDQUOT, libc::EFBIG];

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("E-cgroup", "find the cgroup files", &[], |_| {
        let mounts = prepare("read /proc/self/mounts", fs::read_to_string("/proc/self/mounts"))?;
        let mounted = mounts.lines().find(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
        let there = fs::symlink_metadata("/sys/fs/cgroup").is_ok();
        mounted.map(str::to_owned).or_else(|| there.then(|| "/sys/fs/cgroup".to_owned())).map_or_else(|| not_there("none is mounted"), Ok)
    }),
    Attack::new("E-descriptors", "open 100,000 files", &[libc::EMFILE], |_| {
        let mut kept = Vec::new();
        for _ in 0..100_000 {
            kept.push(said("open", File::open("/dev/null"))?);
        }
        Ok(format!("{} open files", kept.len()))
    })
    .control(Control::No("a host's own limit may be lower or higher")),
    Attack::new("E-pipe-size", "make a pipe of 64 MiB", &[libc::EPERM, libc::ENOSYS], |_| {
        let pipe = prepare("pipe", std::io::pipe())?;
        said("fcntl(F_SETPIPE_SZ)", call(libc::SYS_fcntl, [fd(&pipe.0), libc::F_SETPIPE_SZ as usize, (64 * MIB) as usize]))
            .map(|_| "made".into())
    })
    .control(Control::WorksForRoot)
    .needs(SYS_RESOURCE),
    Attack::driven("E-memory", "use memory beyond the limit", |_| Ok(hold(BOMB)), |d| limit(d, MEMORY, &[Cause::Memory])),
    Attack::driven(
        "E-shm",
        "fill /dev/shm beyond the limit",
        |_| fill_folder(Path::new("/dev/shm")),
        |d| limit(d, MEMORY, &[Cause::Memory, Cause::Disk]),
    ),
    Attack::driven(
        "E-tmp",
        "fill /tmp beyond the limit",
        |_| fill_folder(&std::env::temp_dir()),
        |d| limit(d, &["--memory", "64MiB", "--disk", "64MiB"], &[Cause::Memory, Cause::Disk]),
    ),
    Attack::driven("E-memfd", "fill a memfd beyond the limit", memfd, |d| limit(d, MEMORY, &[Cause::Memory])).gap_without(Gap::Group),
    Attack::driven("E-shared-memory", "fill SysV memory beyond the limit", |_| shared_memory(true), |d| limit(d, MEMORY, &[Cause::Memory])),
    Attack::driven("E-shared-apart", "fill SysV memory and let go of it", |_| shared_memory(false), |d| limit(d, MEMORY, &[Cause::Memory]))
        .gap_without(Gap::Group),
    Attack::driven("E-pipes", "hold memory in pipes beyond the limit", pipes, |d| limit(d, MEMORY, &[Cause::Memory]))
        .gap_without(Gap::Group)
        .control(Control::No("pipes are counted per user: it would be felt outside")),
    Attack::driven(
        "E-disk",
        "fill the workspace beyond the limit",
        |s| fill_file(&here(s).join("fill"), BOMB),
        |d| limit(d, &["--disk", "32MiB"], &[Cause::Disk]),
    ),
    Attack::driven("E-sparse", "make a sparse file of 1 TiB", sparse, |d| limit(d, &["--disk", "32MiB"], &[Cause::Disk]))
        .absent(&[libc::EFBIG]),
    Attack::driven("E-files", "make empty files beyond the limit", many_files, |d| {
        limit(d, &["--files", "500"], &[Cause::Files, Cause::Disk])
    }),
    Attack::driven("E-output", "write output without end", |_| flood(b"y\n"), flooded),
    Attack::driven("E-long-line", "write one line of 24 MiB", |_| flood(b"aaaaaaaa"), flooded),
    Attack::driven("E-escapes", "write NULs and escapes without end", |_| flood(b"\0\x1b[2J\x1b]0;x\x07\xff\r"), flooded),
    Attack::driven("E-errors", "write errors without end", flood_errors, flooded),
    Attack::driven(
        "E-stdin",
        "wait for input that never comes",
        |_| {
            let mut rest = Vec::new();
            let length = said("read", std::io::stdin().take(16).read_to_end(&mut rest))?;
            Ok(format!("standard input ended after {length} bytes"))
        },
        |d| {
            let ended = d.run(&["--wall", "5s"])?;
            if ended.took < Duration::from_secs(4) && ended.code == 0 {
                not_there("its input is at its end at once")
            } else {
                Ok("it hung".into())
            }
        },
    )
    .control(Control::No("it ends outside too: it is the supervisor that must not hang")),
    Attack::driven(
        "E-stdin-unread",
        "never read an endless input",
        |_| Ok("the main process ended".into()),
        |d| {
            let zeros = File::open("/dev/zero").map_err(|error| Attempt::NoAnswer { why: error.to_string() })?;
            let ended = d.start_with(&["--wall", "10s"], zeros.into())?.end()?;
            match ended.code {
                0 if ended.supervisor_peak < 256 * MIB => not_there("the run ended with its command"),
                0 => Ok(format!("the supervisor took {}", Size(ended.supervisor_peak))),
                code => Err(Attempt::NoAnswer { why: format!("exec said {code}: {}", ended.errors) }),
            }
        },
    )
    .control(Control::No("it ends outside too: it is the supervisor that must not hang")),
    Attack::driven("E-connect-flood", "keep the supervisor busy with connections", connect_flood, |d| {
        limit(d, &["--wall", "1s"], &[Cause::Wall])
    })
    .control(Control::No("outside nobody watches them")),
    Attack::driven("E-cpu", "use a processor beyond its share", burn, burned).control(Control::No("it ends outside too, after a second")),
    Attack::driven(
        "E-cpu-time",
        "use processor time without end",
        |_| {
            spin(Duration::from_secs(4));
            Ok("used 4 s".into())
        },
        |d| limit(d, &["--wall", "1s"], &[Cause::Wall, Cause::Cpu]),
    )
    .control(Control::No("it would keep a processor busy for nothing")),
];

/// Where a payload may write: its workspace, or its temporary folder when the workspace is read-only.
fn here(stage: &Stage) -> std::path::PathBuf {
    stage.scratch().unwrap_or_else(|_| std::env::temp_dir())
}

fn hold(bytes: u64) -> String {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes / MIB {
        held.push(vec![1; MIB as usize]);
    }
    // The engine may look a moment later.
    std::thread::sleep(Duration::from_millis(300));
    format!("held {}", Size(held.len() as u64 * MIB))
}

/// Writes until it is done or told to stop; being told is an answer the engine may turn into a cause, so it is given time to.
fn fill(mut file: File, bytes: u64) -> Tried {
    let chunk = vec![1_u8; MIB as usize];
    for written in 0..bytes / MIB {
        if let Err(error) = file.write_all(&chunk) {
            std::thread::sleep(Duration::from_millis(300));
            return said(&format!("write after {written} MiB"), Err(error));
        }
    }
    drop(file.sync_data());
    Ok(format!("wrote {}", Size(bytes)))
}

fn fill_file(path: &Path, bytes: u64) -> Tried {
    let file = prepare("create", File::create(path))?;
    let done = fill(file, bytes);
    // The engine may look a moment later; outside, the space is given back at once.
    std::thread::sleep(Duration::from_millis(300));
    drop(fs::remove_file(path));
    done
}

fn fill_folder(folder: &Path) -> Tried {
    fill_file(&folder.join(format!("cofferdam-probe-{}", std::process::id())), BOMB)
}

fn memfd(_: &Stage) -> Tried {
    let file = prepare("memfd_create", owned(call(libc::SYS_memfd_create, [c"probe".as_ptr() as usize, 0])))?;
    fill(File::from(file), BOMB)
}

/// What nobody has attached belongs to no process that could be looked at.
fn shared_memory(attached: bool) -> Tried {
    let id = said("shmget", call(libc::SYS_shmget, [0, BOMB as usize, (libc::IPC_CREAT | 0o600) as usize]))?.cast_unsigned();
    let filled = prepare("shmat", call(libc::SYS_shmat, [id, 0, 0])).and_then(|address| {
        let address = address.cast_unsigned();
        // Reading zeros into it makes the kernel touch every page.
        let zeros = prepare("open", File::open("/dev/zero"))?;
        let mut done = 0_usize;
        while done < BOMB as usize {
            done += prepare("read", call(libc::SYS_read, [fd(&zeros), address + done, MIB as usize]))?.cast_unsigned();
        }
        if attached { Ok(()) } else { prepare("shmdt", call(libc::SYS_shmdt, [address, 0, 0])).map(drop) }
    });
    // The engine may look a moment later.
    std::thread::sleep(Duration::from_millis(300));
    drop(call(libc::SYS_shmctl, [id, libc::IPC_RMID as usize, 0]));
    filled.map(|()| format!("filled {}", Size(BOMB)))
}

fn pipes(_: &Stage) -> Tried {
    let chunk = vec![1_u8; 1 << 16];
    let (mut kept, mut held) = (Vec::new(), 0_u64);
    while held < BOMB {
        let Ok(mut pipe) = std::io::pipe() else { break };
        drop(call(libc::SYS_fcntl, [fd(&pipe.1), libc::F_SETPIPE_SZ as usize, 1 << 20]));
        drop(call(libc::SYS_fcntl, [fd(&pipe.1), libc::F_SETFL as usize, libc::O_NONBLOCK as usize]));
        while let Ok(length) = pipe.1.write(&chunk) {
            held += length as u64;
        }
        kept.push(pipe);
    }
    // The kernel's own bound on pipes for each user may end it first.
    if held < 64 * MIB {
        not_there(format!("the kernel allows {} in {} pipes", Size(held.max(1)), kept.len()))
    } else {
        Ok(format!("held {}", Size(held)))
    }
}

fn sparse(stage: &Stage) -> Tried {
    let path = here(stage).join("sparse");
    let file = prepare("create", File::create(&path))?;
    let made = said("ftruncate", file.set_len(1 << 40));
    std::thread::sleep(Duration::from_millis(600));
    drop(fs::remove_file(&path));
    made.map(|()| "made a file of 1 TiB".into())
}

fn many_files(stage: &Stage) -> Tried {
    let folder = here(stage);
    for count in 0..4000 {
        if let Err(error) = OpenOptions::new().write(true).create_new(true).open(folder.join(count.to_string())) {
            std::thread::sleep(Duration::from_millis(300));
            return said(&format!("creating file {count}"), Err(error));
        }
    }
    std::thread::sleep(Duration::from_millis(600));
    Ok("made 4,000 files".into())
}

fn flood(chunk: &[u8]) -> Tried {
    let chunk = chunk.repeat((1 << 16) / chunk.len());
    said("write", pour(&chunk, 24 * MIB)).map(|()| "wrote 24 MiB".into())
}

fn flood_errors(_: &Stage) -> Tried {
    let chunk = b"error\n".repeat(10_000);
    let mut stream = std::io::stderr().lock();
    for _ in 0..400 {
        said("write", stream.write_all(&chunk))?;
    }
    Ok("wrote 23 MiB".into())
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::black_box(0);
    }
}

fn burn(_: &Stage) -> Tried {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| spin(Duration::from_secs(1)));
        }
    });
    Ok("four threads for a second".into())
}

/// Every connection is announced to the supervisor: as many as four threads can make.
fn connect_flood(_: &Stage) -> Tried {
    let until = Instant::now() + Duration::from_secs(8);
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            scope.spawn(move || {
                let mut port = thread;
                while Instant::now() < until {
                    port = port.wrapping_add(4).max(1);
                    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
                }
            });
        }
    });
    Ok("went on for 8 s".into())
}

fn burned(driver: &Driver) -> Tried {
    let ended = driver.run(&["--cpus", "0.5"])?;
    let Some(outcome) = &ended.outcome else {
        return Err(Attempt::NoAnswer { why: format!("no outcome was written: {}", ended.errors) });
    };
    // Half a processor; the first period may be overdrawn by what four threads use before they are stopped.
    let (used, wall) = (outcome.cpu_ms, outcome.wall_ms.max(1));
    let share = format!("{used} ms of processor time in {wall} ms");
    if used * 10 <= wall * 7 + 2000 { not_there(share) } else { Ok(share) }
}

/// Runs a bomb under a limit. For the control, its own word counts: it got what it wanted.
fn limit(driver: &Driver, options: &[&str], causes: &[Cause]) -> Tried {
    let ended = driver.run(options)?;
    if driver.control() {
        return match ended.answers.into_iter().next() {
            Some(answer) => match answer.attempt {
                Attempt::Succeeded { detail } => Ok(detail),
                other => Err(other),
            },
            None => Err(Attempt::NoAnswer { why: format!("it ended with {}", ended.code) }),
        };
    }
    // What the kernel bounds by itself, below the limit, needs no cause.
    if let [Answer { attempt: bounded @ Attempt::NotThere { .. }, .. }] = ended.answers.as_slice() {
        return Err(bounded.clone());
    }
    // A bound that the kernel keeps by an error, while the command goes on, is a limit too: the command was told.
    let told = ended.answers.first().map(|answer| &answer.attempt);
    if let Some(Attempt::Refused { call, errno }) = told
        && NO_ROOM.contains(errno)
        && ended.outcome.as_ref().is_some_and(|outcome| !causes.contains(&outcome.cause))
    {
        return Err(Attempt::Stopped { cause: super::judge::errno_name(*errno), detail: format!("{call} was refused") });
    }
    judge_limit(driver, &ended, causes)
}

/// The supervisor may not let through more than the limit and one buffer, nor hold more than a little memory for it.
fn flooded(driver: &Driver) -> Tried {
    if driver.control() {
        let ended = driver.run(&[])?;
        let bytes = ended.output_bytes + ended.error_bytes;
        return if bytes >= MIB { Ok(format!("{} came through", Size(bytes))) } else { not_there("no flood") };
    }
    let ended = driver.run(&["--output", "1MiB"])?;
    let through = ended.output_bytes + ended.error_bytes;
    if through > 2 * MIB {
        return Ok(format!("{} came through a limit of 1MiB", Size(through)));
    }
    if ended.supervisor_peak > 256 * MIB {
        return Ok(format!("the supervisor took {}", Size(ended.supervisor_peak)));
    }
    judge_limit(driver, &ended, &[Cause::Output])
}
