//! The two nginx: the service behind, and the proxy that Farebox is compared with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use farebox::regtest::free_port;

use crate::Outcome;
use crate::process::Process;

/// What the service answers, in bytes.
const BODY: usize = 1024;
/// What it answers below [`LARGE`], in MiB.
pub(crate) const LARGE_MIB: usize = 64;
/// Where the long answers are.
const LARGE: &str = "/large";
/// Where Debian has it, which is not on everybody's `PATH`.
const DEBIAN: &str = "/usr/sbin/nginx";
/// How long one may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// Starts the service behind: one worker, which answers the same to everything, and a file to
    /// everything below [`LARGE`].
    pub(crate) fn upstream(folder: &Path) -> Outcome<Self> {
        let file = folder.join("large");
        fs::write(&file, vec![b'x'; LARGE_MIB << 20])?;
        let (root, body) = (folder.display(), "x".repeat(BODY));
        let location = format!(
            "return 200 \"{body}\";
                }}
                location {LARGE} {{
                    root {root};
                    try_files /large =404;
                    sendfile on;"
        );
        Self::start(folder, "upstream", 1, "", &location)
    }

    /// Starts a proxy before a service, which keeps its connections to it, and puts nothing that
    /// passes on the disk.
    pub(crate) fn proxy(folder: &Path, upstream: SocketAddr, workers: usize) -> Outcome<Self> {
        let outside = format!(
            "upstream api {{
                server {upstream};
                keepalive 128;
                keepalive_requests 1000000000;
                keepalive_timeout 3600s;
            }}"
        );
        let location = "proxy_pass http://api;
                proxy_http_version 1.1;
                proxy_max_temp_file_size 0;
                proxy_set_header Connection \"\";";
        Self::start(folder, "proxy", workers, &outside, location)
    }

    fn start(
        folder: &Path,
        name: &str,
        workers: usize,
        outside: &str,
        location: &str,
    ) -> Outcome<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        fs::write(folder.join("nginx.conf"), configuration(address, workers, outside, location))?;
        let prefix = folder.display().to_string();
        let log = folder.join("error.log");
        let arguments = ["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"];
        let process = Process::start(&program(), &arguments, &log)?;
        let mut nginx = Self { process, address };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() || nginx.process.look_for_workers()? < workers {
            if Instant::now() > deadline {
                let words = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("nginx ({name}) did not start: {words}").into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(nginx)
    }
}

/// Returns the program to start.
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("nginx"));
    found.into_iter().find(|program| program.is_file()).unwrap_or_else(|| DEBIAN.into())
}

/// Returns a configuration file. With `reuseport` the connections are shared out among the workers
/// evenly, and not to whoever is first.
fn configuration(address: SocketAddr, workers: usize, outside: &str, location: &str) -> String {
    format!(
        "daemon off;
        worker_processes {workers};
        pid nginx.pid;
        error_log stderr;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            default_type text/plain;
            keepalive_requests 1000000000;
            keepalive_timeout 3600s;
            client_body_temp_path client_body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            {outside}
            server {{
                listen {address} reuseport;
                location / {{
                    {location}
                }}
            }}
        }}
        "
    )
}
