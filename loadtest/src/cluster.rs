//! The simulated exchange and the server as two processes that are killed and started again, each
//! with a data directory that survives.

use std::{path::PathBuf, process::Command, time::Duration};

use crate::{
    api::ExchangeApi,
    error::{Error, Result},
    metrics,
    phase::Interrupt,
    spawn::{Directory, Program, token},
};

/// How long the server may take to become ready, in seconds.
const READY_SECONDS: f64 = 30.0;

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct ClusterOptions {
    /// The `longbow` binary.
    pub program: PathBuf,
    /// Where data and logs go; by default a temporary directory, kept only after a violation.
    pub directory: Option<PathBuf>,
    /// Replay speed of the tape.
    pub speed: f64,
    /// Faults of the exchange, in the format of `--fault`.
    pub faults: String,
    /// Number of users to create tokens for.
    pub users: usize,
    /// Extra arguments for `longbow serve`.
    pub serve_arguments: Vec<String>,
}

/// The running processes. Dropping it stops them, the server first.
#[derive(Debug)]
pub(crate) struct Cluster {
    options: ClusterOptions,
    server: Option<Program>,
    exchange: Option<Program>,
    /// Address of the exchange; it survives restarts.
    pub exchange_url: String,
    /// Address of the client listener; it changes at each restart.
    pub url: String,
    /// Address of the admin listener.
    pub admin: String,
    /// One token per user, valid as long as the data directory exists.
    pub tokens: Vec<String>,
    /// Where data and logs are.
    pub directory: Directory,
}

impl Cluster {
    /// Starts the exchange and the server.
    ///
    /// # Errors
    /// One of them does not come up.
    pub(crate) fn start(options: ClusterOptions, interrupt: &Interrupt) -> Result<Self> {
        let directory = Directory::new(options.directory.clone())?;
        let mut cluster = Self {
            options,
            server: None,
            exchange: None,
            exchange_url: String::new(),
            url: String::new(),
            admin: String::new(),
            tokens: Vec::new(),
            directory,
        };
        cluster.start_exchange(interrupt)?;
        cluster.start_server(interrupt)?;
        let data = cluster.directory.path.join("server");
        for user in 0..cluster.options.users {
            cluster.tokens.push(token(&cluster.options.program, &data, user)?);
        }
        Ok(cluster)
    }

    /// The exchange's own routes.
    pub(crate) fn exchange(&self) -> ExchangeApi {
        ExchangeApi::new(&self.exchange_url)
    }

    /// Starts the exchange, at its previous address if it had one.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) fn start_exchange(&mut self, interrupt: &Interrupt) -> Result<()> {
        let listen = self.exchange_url.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let mut command = self.longbow("exchange");
        command
            .args(["--listen", &listen, "--universe", "0"])
            .args(["--speed", &self.options.speed.to_string()])
            .args(["--fault", &self.options.faults])
            .arg("--data-dir")
            .arg(self.directory.path.join("exchange"));
        let wanted = ["exchange listening on "];
        let path = &self.directory.path;
        let (program, addresses) = Program::start(command, "exchange", path, &wanted, interrupt)?;
        self.exchange = Some(program);
        self.exchange_url = addresses.into_iter().next().unwrap_or_default();
        Ok(())
    }

    /// Kills the exchange.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn kill_exchange(&mut self) -> Result<()> {
        self.exchange.take().map_or(Ok(()), Program::kill)
    }

    /// Starts the server and waits until it listens, that is, until it has recovered.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) fn start_server(&mut self, interrupt: &Interrupt) -> Result<()> {
        let wanted = ["listening on ", "admin on "];
        let command = self.serve();
        let path = &self.directory.path;
        let (program, addresses) = Program::start(command, "serve", path, &wanted, interrupt)?;
        self.server = Some(program);
        let mut addresses = addresses.into_iter();
        self.url = addresses.next().unwrap_or_default();
        self.admin = addresses.next().unwrap_or_default();
        Ok(())
    }

    /// Starts the server and kills it `after` a while, possibly during recovery.
    ///
    /// # Errors
    /// It cannot be started or killed, or has ended by itself.
    pub(crate) fn start_and_kill_server(
        &mut self,
        after: Duration,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let (mut program, _) = Program::spawn(self.serve(), "serve", &self.directory.path)?;
        interrupt.sleep(after.as_secs_f64())?;
        if program.has_ended() {
            return Err(Error::Answer {
                what: "the server ended by itself as it started".to_owned(),
                answer: program.log_end(),
            });
        }
        program.kill()
    }

    /// Kills the server.
    ///
    /// # Errors
    /// It had already ended, or the system refuses.
    pub(crate) fn kill_server(&mut self) -> Result<()> {
        let Some(mut program) = self.server.take() else { return Ok(()) };
        if program.has_ended() {
            return Err(Error::Answer {
                what: "the server ended by itself".to_owned(),
                answer: program.log_end(),
            });
        }
        program.kill()
    }

    /// Waits until the server is ready.
    ///
    /// # Errors
    /// It does not within half a minute.
    pub(crate) fn wait_until_ready(&self, interrupt: &Interrupt) -> Result<()> {
        let url = format!("{}/readyz", self.admin);
        if interrupt.wait_until(READY_SECONDS, || Ok(metrics::get(&url).is_ok()))? {
            return Ok(());
        }
        Err(Error::Timeout {
            what: "readiness of the server".to_owned(),
            seconds: 30,
            detail: self.server.as_ref().map(Program::log_end).unwrap_or_default(),
        })
    }

    fn serve(&self) -> Command {
        let mut command = self.longbow("serve");
        command
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--shards", "1"])
            .args(["--exchange", &self.exchange_url])
            .arg("--data-dir")
            .arg(self.directory.path.join("server"))
            .args(&self.options.serve_arguments);
        command
    }

    /// The program, without `LONGBOW_` settings from the environment.
    fn longbow(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.options.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGBOW_") {
                command.env_remove(name);
            }
        }
        command.arg(subcommand);
        command
    }
}
