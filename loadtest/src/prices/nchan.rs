//! The peer nchan: Debian's nginx with one worker on the server's core, and a publisher in this
//! process that reads the exchange's feed and posts each print to its symbol's channel. Each client
//! is an EventSource of several channels.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use procfs::process::Process;

use super::feed::{Feed, RECONNECT_PAUSE, write_data};
use crate::{
    cpu,
    error::{Context, Error, Result},
    phase::Interrupt,
    spawn::{Program, free_address},
};

/// Where distributions install nginx's modules.
const MODULE_FOLDERS: [&str; 3] =
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"];
const MODULE: &str = "ngx_nchan_module.so";
/// How long nginx may take to accept connections.
const START_SECONDS: f64 = 10.0;

/// Options of nginx.
#[derive(Debug, Clone)]
pub(super) struct NchanOptions {
    /// Core of the single worker.
    pub server_core: usize,
    /// Core of the publisher.
    pub publisher_core: usize,
    /// Most connections of the worker.
    pub connections: usize,
    /// The exchange whose prints are published.
    pub exchange: SocketAddr,
}

/// A running nginx with its publisher. Dropping it stops both.
#[derive(Debug)]
pub(super) struct Nchan {
    publisher: Option<JoinHandle<()>>,
    publishing: Arc<Publishing>,
    _master: Program,
    /// Process id of the worker.
    pub worker: i32,
    /// Where clients connect.
    pub address: SocketAddr,
}

/// State shared with the publisher.
#[derive(Debug, Default)]
struct Publishing {
    stop: AtomicBool,
    /// Whether the feed is connected.
    feed_up: AtomicBool,
    /// Events that the clients together must receive for what was published.
    owed: AtomicU64,
    /// Publications refused by nginx.
    refused: AtomicU64,
}

impl Nchan {
    /// Starts nginx.
    ///
    /// # Errors
    /// [`Error::Answer`] if nginx or nchan is not installed, [`Error::Timeout`] if it does not start.
    pub(super) fn start(
        options: &NchanOptions,
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let module = module()?;
        let address = free_address()?;
        let home = directory.join("nchan");
        fs::create_dir_all(&home).context("making a directory for nginx")?;
        let file = home.join("nginx.conf");
        fs::write(&file, configuration(&module, &home, address, options))
            .context("writing nginx.conf")?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file);
        let (mut master, _) = Program::spawn(command, "nginx", directory).map_err(not_installed)?;
        // The master listens before the worker exists.
        let mut worker = None;
        interrupt.wait_until(START_SECONDS, || {
            worker = worker_of(master.pid()).filter(|_| TcpStream::connect(address).is_ok());
            Ok(worker.is_some() || master.has_ended())
        })?;
        let worker = worker.ok_or_else(|| Error::Timeout {
            what: "the start of nginx".to_owned(),
            seconds: 10,
            detail: master.log_end(),
        })?;
        cpu::place_threads(worker, options.server_core, |_| true)?;
        let publishing = Arc::default();
        Ok(Self { publisher: None, publishing, _master: master, worker, address })
    }

    /// Starts publishing. `watchers` has the number of clients by symbol; symbols without any are not
    /// published.
    ///
    /// # Errors
    /// [`Error::Io`] when nginx cannot be reached.
    pub(super) fn publish(
        &mut self,
        options: &NchanOptions,
        watchers: HashMap<String, u64>,
    ) -> Result<()> {
        let publishing = Arc::clone(&self.publishing);
        let (exchange, core) = (options.exchange, options.publisher_core);
        let nginx = TcpStream::connect(self.address).context("connecting to nginx")?;
        nginx.set_nodelay(true).context("a socket option")?;
        let answers = nginx.try_clone().context("sharing a socket")?;
        let answers_publishing = Arc::clone(&publishing);
        let publish = move || {
            let _ = cpu::pin(core, "client-core");
            let drain = thread::Builder::new()
                .name("publisher-answers".to_owned())
                .spawn(move || read_answers(answers, &answers_publishing));
            publish(exchange, &nginx, &watchers, &publishing);
            let _ = nginx.shutdown(Shutdown::Both);
            if let Ok(drain) = drain {
                let _ = drain.join();
            }
        };
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(publish);
        self.publisher = Some(thread.context("starting the publisher")?);
        Ok(())
    }

    /// Whether the publisher is connected to the feed.
    #[must_use]
    pub(super) fn is_feed_up(&self) -> bool {
        self.publishing.feed_up.load(Ordering::Relaxed)
    }

    /// Events that the clients together must have received once nothing is in flight.
    #[must_use]
    pub(super) fn owed(&self) -> u64 {
        self.publishing.owed.load(Ordering::Relaxed)
    }

    /// Publications refused by nginx.
    #[must_use]
    pub(super) fn refused(&self) -> u64 {
        self.publishing.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        self.publishing.stop.store(true, Ordering::Relaxed);
        if let Some(publisher) = self.publisher.take() {
            let _ = publisher.join();
        }
    }
}

fn publish(
    exchange: SocketAddr,
    mut nginx: &TcpStream,
    watchers: &HashMap<String, u64>,
    publishing: &Publishing,
) {
    let stopped = || publishing.stop.load(Ordering::Relaxed);
    let (mut requests, mut data) = (Vec::new(), Vec::new());
    while !stopped() {
        if let Ok(mut feed) = Feed::open(exchange) {
            publishing.feed_up.store(true, Ordering::Relaxed);
            let mut read = Ok(true);
            while matches!(read, Ok(true)) && !stopped() {
                requests.clear();
                let mut owed = 0;
                read = feed.read(|print| {
                    let Some(count) = watchers.get(print.symbol) else { return };
                    owed += count;
                    data.clear();
                    write_data(&mut data, print);
                    // Writing to a vector cannot fail.
                    let _ = write!(
                        requests,
                        "POST /pub/{} HTTP/1.1\r\nHost: n\r\nContent-Length: {}\r\n\r\n",
                        print.symbol,
                        data.len()
                    );
                    requests.extend_from_slice(&data);
                });
                publishing.owed.fetch_add(owed, Ordering::Relaxed);
                // One write per read of the feed: nginx processes the requests one by one.
                if nginx.write_all(&requests).is_err() {
                    return;
                }
            }
            publishing.feed_up.store(false, Ordering::Relaxed);
        }
        thread::sleep(RECONNECT_PAUSE);
    }
}

/// Reads nginx's responses, so that it never blocks, and counts refusals.
fn read_answers(mut answers: TcpStream, publishing: &Publishing) {
    let refusals =
        ["HTTP/1.1 4", "HTTP/1.1 5"].map(|start| memchr::memmem::Finder::new(start).into_owned());
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = answers.read(&mut buffer) {
        let data = buffer.get(..length).unwrap_or_default();
        let refused: usize = refusals.iter().map(|start| start.find_iter(data).count()).sum();
        publishing.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }
}

fn not_installed(error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::Answer {
                what: "nginx is not installed".to_owned(),
                answer: "on Debian: apt-get install nginx libnginx-mod-nchan".to_owned(),
            }
        }
        other => other,
    }
}

fn module() -> Result<PathBuf> {
    let mut files = MODULE_FOLDERS.iter().map(|folder| Path::new(folder).join(MODULE));
    files.find(|file| file.exists()).ok_or_else(|| Error::Answer {
        what: "the nginx module nchan is not installed".to_owned(),
        answer: "on Debian: apt-get install nginx libnginx-mod-nchan".to_owned(),
    })
}

/// The first child of a process.
fn worker_of(master: i32) -> Option<i32> {
    let children = Process::new(master).ok()?.task_main_thread().ok()?.children().ok()?;
    i32::try_from(*children.first()?).ok()
}

/// No logs, messages kept only for slow clients, pipelined publications on one connection, and no
/// pings.
fn configuration(
    module: &Path,
    home: &Path,
    address: SocketAddr,
    options: &NchanOptions,
) -> String {
    let module = module.display();
    let home = home.display();
    let connections = options.connections;
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "load_module {module};
{user}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile {connections};
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_buffer_size 16k;
    large_client_header_buffers 4 16k;
    tcp_nodelay on;
    nchan_shared_memory_size 512M;
    server {{
        listen {address} backlog=4096;
        location ~ ^/pub/(.+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 5s;
        }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_channel_id_split_delimiter \",\";
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 0;
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_nginx_is_told_in_a_sentence() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = not_installed(Error::Io { what: "starting nginx".to_owned(), source: missing });
        assert!(error.to_string().contains("apt-get install nginx libnginx-mod-nchan"), "{error}");
    }
}
