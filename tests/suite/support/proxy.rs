//! nginx and HAProxy, with the configurations in `tuning/`.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::ports::free_port;
use super::{Program, Server, api};

/// A proxy in front of a server.
pub(crate) struct Proxy {
    /// `http://host:port`.
    pub address: String,
    program: Program,
    _folder: TempDir,
}

/// Nodes in the configurations for several.
const NODES: usize = 3;

impl Proxy {
    /// Debian's nginx with `tuning/nginx.conf`.
    pub(crate) fn nginx(server: &Server) -> Self {
        Self::start("nginx.conf", &[("127.0.0.1:8080".to_owned(), server)], nginx)
    }

    /// Debian's nginx with `tuning/nginx-cluster.conf`; these servers in turn are its nodes.
    pub(crate) fn nginx_cluster(servers: &[&Server]) -> Self {
        Self::start("nginx-cluster.conf", &nodes(servers), nginx)
    }

    /// Debian's HAProxy with `tuning/haproxy.cfg`.
    pub(crate) fn haproxy(server: &Server) -> Self {
        let servers = [("127.0.0.1:8080".to_owned(), server)];
        Self::start("haproxy.cfg", &servers, haproxy)
    }

    /// Debian's HAProxy with `tuning/haproxy-cluster.cfg`; these servers in turn are its nodes.
    pub(crate) fn haproxy_cluster(servers: &[&Server]) -> Self {
        Self::start("haproxy-cluster.cfg", &nodes(servers), haproxy)
    }

    /// Starts it with only the ports in the file changed. `servers`: by their documented addresses.
    fn start(
        file: &str,
        servers: &[(String, &Server)],
        command: impl Fn(&Path, &Path) -> Command,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tuning = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(file);
        let own = free_port();
        let mut text = std::fs::read_to_string(tuning).expect("a file of tuning/");
        for (documented, server) in servers {
            assert!(text.contains(documented.as_str()), "{documented} is not in {file}");
            text = text.replace(documented, &server.address.replace("http://", ""));
            let admin = documented.replace("127.0.0.1:808", "port 909");
            text = text.replace(&admin, &format!("port {}", port_of(&server.admin)));
        }
        text = text.replace("listen 8000", &format!("listen {own}"));
        text = text.replace("bind :8000", &format!("bind :{own}"));
        assert!(text.contains(&own.to_string()));
        let config = folder.path().join(file);
        std::fs::write(&config, text).expect("a file in a temporary folder");
        let program = Program::spawn(command(&config, folder.path()));
        Self { address: format!("http://127.0.0.1:{own}"), program, _folder: folder }
    }

    /// Waits until it reaches its server.
    pub(crate) fn await_server(&self, token: &str) {
        let client = api::Client::new(&self.address, token);
        api::until("the proxy to reach its server", || {
            let answer = client.try_send(http::Method::GET, "/orders", b"")?;
            (answer.status == 200).then_some(())
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Terminated, because a killed nginx leaves its workers behind.
        self.program.ask_to_stop();
        self.program.wait();
    }
}

/// The documented addresses of nodes, which these servers have in turn.
fn nodes<'a>(servers: &[&'a Server]) -> Vec<(String, &'a Server)> {
    let documented = (1..=NODES).map(|number| format!("127.0.0.1:808{number}"));
    documented.zip(servers.iter().copied().cycle()).collect()
}

fn haproxy(config: &Path, _folder: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(config);
    command
}

fn nginx(config: &Path, folder: &Path) -> Command {
    let more = format!("daemon off; pid {};", folder.join("pid").display());
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder).args(["-e", "stderr", "-g", &more, "-c"]).arg(config);
    command
}

fn port_of(address: &str) -> &str {
    address.rsplit_once(':').expect("an address with a port").1
}
