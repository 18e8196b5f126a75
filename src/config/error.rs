use std::path::PathBuf;

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// clap's error, which names flag, value and what is allowed; also `--help`.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// A setting of the file has a value that its flag does not take.
    #[error("in the configuration file {path}: {message}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// clap's message.
        message: String,
    },
    /// A variable has a value that its flag does not take.
    #[error("in the environment variable {variable}: {message}")]
    InEnvironment {
        /// The variable.
        variable: String,
        /// clap's message.
        message: String,
    },
    /// A setting of Postgres without Postgres.
    #[error("{setting} needs --postgres with the address of a server")]
    WithoutPostgres {
        /// The setting.
        setting: &'static str,
    },
    /// Which Postgres is not said.
    #[error(
        "`longbow nodes` needs --postgres, or the variable LONGBOW_POSTGRES, with the address of a server"
    )]
    NodesWithoutPostgres,
    /// The file cannot be read, or is not TOML.
    #[error("cannot read the configuration file {path}: {message}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        message: String,
    },
    /// The file has an unknown setting.
    #[error(
        "the configuration file {path} has an unknown setting `{setting}`{}; known settings: {known}",
        did_you_mean(meant.as_deref()),
        path = path.display()
    )]
    UnknownSetting {
        /// The file.
        path: PathBuf,
        /// The setting.
        setting: String,
        /// What was probably meant.
        meant: Option<String>,
        /// The known settings.
        known: String,
    },
    /// The environment has an unknown setting.
    #[error(
        "the environment has an unknown setting `{variable}`{}; correct it or unset it; `longbow help serve` lists the settings",
        did_you_mean(meant.as_deref())
    )]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// What was probably meant.
        meant: Option<String>,
    },
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
