//! Checks the environment for misspelt settings.

use std::ffi::{OsStr, OsString};

use super::error::ConfigError;

/// The prefix of all variables.
const PREFIX: &str = "LONGBOW_";
/// Similarity, up to 1, from which a name counts as a misspelling of another.
const MIN_SIMILARITY: f64 = 0.8;

/// The name among `known` that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|&(similarity, _)| similarity >= MIN_SIMILARITY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// Refuses a variable that no subcommand knows: an ignored setting is worse than an error.
///
/// # Errors
/// The first unknown variable.
pub(super) fn check(
    command: &clap::Command,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    collect(command, &mut known);
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if known.iter().any(|known| known == name) || is_service_link(name, &value) {
            continue;
        }
        let meant = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        return Err(ConfigError::UnknownVariable { variable: name.to_owned(), meant });
    }
    Ok(())
}

fn collect(command: &clap::Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(variables.filter_map(OsStr::to_str).map(str::to_owned));
    known.extend(command.get_arguments().flat_map(former_variables));
    command.get_subcommands().for_each(|command| collect(command, known));
}

/// The variables that a setting had under former names.
fn former_variables(argument: &clap::Arg) -> impl Iterator<Item = String> {
    let former = argument.get_env().and(argument.get_all_aliases()).unwrap_or_default();
    former.into_iter().map(|name| format!("{PREFIX}{}", name.replace('-', "_").to_uppercase()))
}

/// A variable's value. An empty one counts as not set: that is how a container or a unit file
/// leaves a variable out.
pub(super) fn value(name: impl AsRef<OsStr>) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether the current variable of a setting is set.
fn is_set(argument: &clap::Arg) -> bool {
    argument.get_env().is_some_and(|name| value(name).is_some())
}

/// The value of a setting's former variable, unless its current one is set.
pub(super) fn former_value(argument: &clap::Arg) -> Option<OsString> {
    former_variables(argument).find_map(value).filter(|_| !is_set(argument))
}

/// The variable that gives a setting, if one does.
pub(super) fn variable_of(argument: &clap::Arg) -> Option<String> {
    let current = argument.get_env().and_then(OsStr::to_str).map(str::to_owned);
    current.into_iter().chain(former_variables(argument)).find(|name| value(name).is_some())
}

/// Kubernetes announces each service to containers by variables with the service's name, and a
/// service may be named `longbow` ("Service", "Environment variables").
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_address = value.to_str().is_some_and(|value| value.contains("://"));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_address)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            let link = name.split_once("_PORT_").map(|(_, link)| link);
            link.is_some_and(|link| link.starts_with(|c: char| c.is_ascii_digit()))
                && name.contains(protocol)
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Cli;

    fn check_one(name: &str, value: &str) -> Result<(), String> {
        let variables = [(name.into(), value.into())].into_iter();
        check(&Cli::command(), variables).map_err(|error| error.to_string())
    }

    #[test]
    fn misspelt_variables_are_refused_with_a_suggestion() {
        for (wrong, meant) in [
            ("LONGBOW_SHARD", Some("LONGBOW_SHARDS")),
            ("LONGBOW_LISTEN_", Some("LONGBOW_LISTEN")),
            ("LONGBOW_ADMIN_LITSEN", Some("LONGBOW_ADMIN_LISTEN")),
            ("LONGBOW_POSTGRES_URL", None),
            ("LONGBOW_", None),
            ("LONGBOW_PORT", None),
            ("LONGBOW_listen", None),
        ] {
            let error = check_one(wrong, "1").unwrap_err();
            assert!(error.contains(wrong), "{error}");
            if let Some(meant) = meant {
                assert!(error.contains(&format!("`{meant}`")), "{error}");
            }
        }
    }

    #[test]
    fn settings_of_any_subcommand_and_unrelated_variables_pass() {
        for (name, value) in [
            ("LONGBOW_SHARDS", "1"),
            ("LONGBOW_USER", "alice"),
            ("LONGBOW_CONFIG", "/x"),
            ("RUST_LOG", "info"),
            ("LONG", "1"),
            ("LONGBOW_SERVICE_HOST", "10.0.0.1"),
            ("LONGBOW_SERVICE_PORT_HTTP", "80"),
            ("LONGBOW_PORT", "tcp://10.0.0.1:80"),
            ("LONGBOW_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("LONGBOW_ADMIN_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ] {
            assert_eq!(check_one(name, value), Ok(()), "{name}");
        }
    }
}
