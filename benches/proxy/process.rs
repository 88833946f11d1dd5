//! The processes that are measured: started, ended with their value, and how much they compute.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// How long a process may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Where the numbers of `/proc/PID/stat` stand after the name of the program (proc(5)).
const PARENT: usize = 1;
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;

/// For how long the machine is looked at, and what part of it others may have meanwhile.
const LOOK: Duration = Duration::from_millis(500);
const OTHERS_PART: u32 = 10;
/// Where the times that a machine was not busy stand in `/proc/stat`, and how many count.
const IDLE: [usize; 2] = [3, 4];
const TIMES: usize = 8;

/// A running program. It ends with this value.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    /// The processes that it has started, once they were looked for.
    pub(crate) workers: Vec<u32>,
}

impl Process {
    /// Starts a program, whose complaints go to a file. It does not outlive the bench, however that
    /// ends, where the system can see to it.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: &Path) -> Outcome<Self> {
        let start = |command: &mut Command| -> io::Result<Child> {
            command
                .arg(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(File::create(log)?)
                .spawn()
        };
        let started = match start(Command::new("setpriv").args(["--pdeathsig", "TERM"])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                start(&mut Command::new("env"))
            }
            started => started,
        };
        let child = started.map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { child, workers: Vec::new() })
    }

    /// Returns the time that the process and its workers have computed so far.
    pub(crate) fn computed(&self) -> Outcome<Duration> {
        let mut sum = ticks(self.child.id())?;
        for worker in &self.workers {
            sum += ticks(*worker)?;
        }
        time(sum)
    }

    /// Looks for the processes that it has started, and returns how many there are.
    pub(crate) fn look_for_workers(&mut self) -> Outcome<usize> {
        self.workers.clear();
        for entry in fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
            // Others come and go meanwhile.
            if number(pid, PARENT).is_ok_and(|parent| parent == u64::from(self.child.id())) {
                self.workers.push(pid);
            }
        }
        Ok(self.workers.len())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + END_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        // It may have ended already; either way it is gone after this.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Returns the time that this program has computed so far.
pub(crate) fn computed_here() -> Outcome<Duration> {
    time(ticks(std::process::id())?)
}

/// Returns the time that all cores together were busy, or taken away by the machine's host.
pub(crate) fn busy() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let times = stat.split_whitespace().skip(1).take(TIMES).enumerate();
    let mut sum = 0;
    for (place, ticks) in times {
        if !IDLE.contains(&place) {
            sum += ticks.parse::<u64>()?;
        }
    }
    time(sum)
}

/// Waits until the machine is idle but for a tenth, or until that has taken too long.
pub(crate) fn wait_until_idle(patience: Duration, cores: u32) -> Outcome<()> {
    let began = Instant::now();
    while began.elapsed() < patience {
        let before = busy()?;
        std::thread::sleep(LOOK);
        if busy()? - before < LOOK * cores / OTHERS_PART {
            return Ok(());
        }
    }
    Ok(())
}

fn time(ticks: u64) -> Outcome<Duration> {
    Ok(Duration::from_millis(ticks * 1_000 / clock_ticks_per_second()))
}

/// Returns the ticks that a process has computed, for itself and in the kernel.
fn ticks(pid: u32) -> Outcome<u64> {
    Ok(number(pid, USER_TICKS)? + number(pid, SYSTEM_TICKS)?)
}

/// Returns a number of `/proc/PID/stat`. The program's name, in brackets, may have spaces.
fn number(pid: u32, place: usize) -> Outcome<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, numbers) = stat.rsplit_once(')').ok_or("a process without a name")?;
    let number = numbers.split_whitespace().nth(place).ok_or("a process without numbers")?;
    Ok(number.parse()?)
}
