//! Merges configuration file, environment and flags.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::args::Cli;
use super::environment;
use super::error::ConfigError;

/// Parses flags, environment and configuration file. A setting of the file becomes a flag before
/// those that were given, unless the environment has it: later flags override earlier ones.
///
/// # Errors
/// A setting is unknown or has an invalid value; also on `--help`.
pub fn parse_command_line(arguments: Vec<OsString>) -> Result<Cli, ConfigError> {
    let known = Cli::command();
    let command = adapted(known.clone());
    let explained = |error| explained(error, &command, &arguments);
    let matches = command.clone().try_get_matches_from(&arguments).map_err(explained)?;
    environment::check(&known, std::env::vars_os())?;
    let Some((subcommand, inner)) = matches.subcommand() else {
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let settings = known.find_subcommand(subcommand).map(settings).unwrap_or_default();
    let mut rest = arguments.iter().cloned();
    let mut merged: Vec<OsString> = rest.by_ref().take(2).collect();
    if let Some(path) = config_path(inner) {
        merged.extend(flags_of_file(&path, &settings)?);
        let in_file = |error| ConfigError::InFile { path, message: message_of(&error) };
        command.clone().try_get_matches_from(&merged).map_err(in_file)?;
    }
    for setting in &settings {
        let value = environment::former_value(setting);
        merged.extend(value.map(|value| flag(setting, &value)));
    }
    merged.extend(rest);
    let matches = command.clone().try_get_matches_from(merged).map_err(explained)?;
    check_postgres(&matches)?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// A command whose settings take a negative number for a value, which their parsers then refuse
/// with what is allowed, and take an empty variable for one that is not set.
fn adapted(command: clap::Command) -> clap::Command {
    let adapt = |argument: clap::Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        let is_empty = value.is_some_and(|value| value.is_empty());
        let argument = if is_empty { argument.env(Resettable::Reset) } else { argument };
        let takes_value = argument.get_action().takes_values() && argument.get_long().is_some();
        argument.allow_negative_numbers(takes_value)
    };
    command.mut_args(adapt).mut_subcommands(adapted)
}

/// An error about a value, with the variable that it comes from.
fn explained(error: clap::Error, command: &clap::Command, arguments: &[OsString]) -> ConfigError {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(named)) => named.split([' ', '=']).next().unwrap_or_default(),
        _ => return error.into(),
    };
    let is_given = |argument: &OsString| {
        let text = argument.to_string_lossy();
        text.split('=').next() == Some(named)
    };
    let variable = setting(command, named.trim_start_matches('-'));
    let variable = variable.and_then(environment::variable_of);
    match variable.filter(|_| !arguments.iter().any(is_given)) {
        Some(variable) => ConfigError::InEnvironment { variable, message: message_of(&error) },
        None => error.into(),
    }
}

/// The setting of this name, of whatever subcommand: each stands for the same everywhere.
fn setting<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|command| setting(command, name)))
}

/// Refuses flags and keys that do nothing without `--postgres`. In the environment they may stand
/// alone: it is shared by commands with and without Postgres.
fn check_postgres(matches: &ArgMatches) -> Result<(), ConfigError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let is_given = |id| {
        let source = matches.try_contains_id(id).ok().and_then(|_| matches.value_source(id));
        source == Some(ValueSource::CommandLine)
    };
    let migrates = matches.try_get_one::<bool>("migrate").ok().flatten().is_some_and(|on| *on);
    let unheeded = [
        ("--migrate", migrates && is_given("migrate")),
        ("--postgres-schema", is_given("postgres_schema")),
    ];
    let has_postgres = matches.try_contains_id("postgres").unwrap_or(true);
    if name == "nodes" && !has_postgres {
        // Not a required flag for clap, as it may stand after a subcommand of this one.
        return Err(ConfigError::NodesWithoutPostgres);
    }
    match unheeded.into_iter().find(|(_, is_given)| *is_given && !has_postgres) {
        Some((setting, _)) => Err(ConfigError::WithoutPostgres { setting }),
        None => Ok(()),
    }
}

fn flag(setting: &clap::Arg, value: &OsStr) -> OsString {
    let Some(name) = setting.get_long() else {
        unreachable!("settings are flags with a long name, and {} has none", setting.get_id())
    };
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// clap's message without its prefix and its hint, which suit only a command line.
fn message_of(error: &clap::Error) -> String {
    let message = error.to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let advice = message.find("\n\nFor more information").unwrap_or(message.len());
    message.get(..advice).unwrap_or(message).trim_end().to_owned()
}

/// The line of a TOML error, and its cause.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn config_path(matches: &ArgMatches) -> Option<PathBuf> {
    matches.try_get_one::<PathBuf>("config").ok().flatten().cloned()
}

/// The flags of a subcommand that a file may set.
fn settings(command: &clap::Command) -> Vec<&clap::Arg> {
    let flags = command.get_arguments().filter(|argument| argument.get_long().is_some());
    flags.filter(|argument| argument.get_id() != "config").collect()
}

/// Whether a setting has this name, or had it before.
fn is_called(setting: &clap::Arg, name: &str) -> bool {
    let former = setting.get_all_aliases().unwrap_or_default();
    setting.get_long() == Some(name) || former.contains(&name)
}

/// Whether the environment sets it, which overrides the file.
fn is_in_environment(setting: &clap::Arg) -> bool {
    environment::variable_of(setting).is_some()
}

fn flags_of_file(path: &Path, settings: &[&clap::Arg]) -> Result<Vec<OsString>, ConfigError> {
    let unreadable = |message: String| ConfigError::Unreadable { path: path.to_owned(), message };
    let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| unreadable(not_toml(&text, &error)))?;
    let mut flags = Vec::new();
    let mut seen = HashSet::new();
    for (setting, value) in table {
        let name = setting.replace('_', "-");
        let Some(known) = settings.iter().find(|known| is_called(known, &name)) else {
            let known: Vec<&str> = settings.iter().filter_map(|known| known.get_long()).collect();
            let meant = environment::nearest(&name, known.iter().copied()).map(str::to_owned);
            let (path, known) = (path.to_owned(), known.join(", "));
            return Err(ConfigError::UnknownSetting { path, setting, meant, known });
        };
        if !seen.insert(known.get_id()) {
            return Err(unreadable(format!(
                "`{name}` is set twice: `-` and `_` are equivalent, and so are former names"
            )));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            other => {
                let kind = other.type_str();
                return Err(unreadable(format!(
                    "`{setting}` must be a single value, not of type {kind}"
                )));
            }
        };
        if !is_in_environment(known) {
            flags.push(flag(known, value.as_ref()));
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, ServeArgs};

    fn serve(file: &str, flags: &[&str]) -> Result<ServeArgs, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("longbow.toml");
        fs::write(&path, file).unwrap();
        let mut arguments: Vec<OsString> = vec!["longbow".into(), "serve".into()];
        arguments.extend(flags.iter().map(OsString::from));
        arguments.extend(["--config".into(), path.into_os_string()]);
        match parse_command_line(arguments)?.command {
            Command::Serve(arguments) => Ok(*arguments),
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let arguments = serve("shards = 2\nspeed = 2.5\nmax_streams = 7\n", &["--shards", "3"]);
        let arguments = arguments.unwrap();
        assert_eq!(arguments.shards, 3);
        assert_eq!(arguments.simulator.speed.to_string(), "2.5");
        assert_eq!(arguments.streams.max_streams, 7);
        assert_eq!(arguments.order_reply_timeout_ms, 150);
    }

    #[test]
    fn errors_name_the_setting_its_value_and_what_is_allowed() {
        let error = serve("shards = 5000", &[]).unwrap_err().to_string();
        assert!(error.contains("longbow.toml") && error.contains("--shards"), "{error}");
        assert!(error.contains("5000") && error.contains("from 0 to 1024"), "{error}");
        let error = serve("shard = 1", &[]).unwrap_err().to_string();
        assert!(error.contains("`shard` (did you mean `shards`?)"), "{error}");
        let error = serve("shards = [1]", &[]).unwrap_err().to_string();
        assert!(error.contains("array"), "{error}");
        for (file, said) in [
            ("shards = 5000", "longbow.toml: invalid value '5000'"),
            ("shards = 1\nspin = = 2", "longbow.toml: line 2: "),
        ] {
            let error = serve(file, &[]).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("error:"), "{error}");
            assert!(!error.contains('\n') && !error.contains("--help"), "{error}");
        }
        let error = serve("", &["--exchange", "ftp://x"]).unwrap_err().to_string();
        assert!(error.contains("ftp://x") && error.contains("sim"), "{error}");
        let error = serve("", &["--speed", "0"]).unwrap_err().to_string();
        assert!(error.contains("0.01 to 100000"), "{error}");
        let error = serve("fault = 'feed.skip=7'", &[]).unwrap_err().to_string();
        assert!(error.contains("longbow.toml") && error.contains("--fault"), "{error}");
        assert!(error.contains("feed.skip") && error.contains("from 0 to 1"), "{error}");
    }

    #[test]
    fn former_names_of_settings_work() {
        let arguments = serve("spin = 7\nwebhook_window = 9", &["--coalesce", "3"]).unwrap();
        let link = &arguments.link;
        assert_eq!((arguments.spin_us, link.webhook_window_seconds), (7, 9));
        assert_eq!(arguments.streams.coalesce_ms, 3);
        let error = serve("spin = 7\nspin-us = 8", &[]).unwrap_err().to_string();
        assert!(error.contains("`spin-us` is set twice"), "{error}");
    }

    #[test]
    fn every_setting_has_a_variable_and_help() {
        let command = Cli::command();
        let nested = command.get_subcommands().flat_map(clap::Command::get_subcommands);
        for command in command.get_subcommands().chain(nested) {
            for argument in command.get_arguments() {
                let Some(name) = argument.get_long().filter(|name| *name != "help") else {
                    continue;
                };
                assert!(argument.get_help().is_some(), "--{name} has no help");
                // A decision on the spot is no setting.
                let decisions = ["force", "repair", "by", "reason", "cents", "dollars", "id"];
                if decisions.contains(&name) {
                    continue;
                }
                // Nor is a filter of `wal inspect`.
                if command.get_name() == "inspect" && name != "data-dir" {
                    continue;
                }
                let variable = format!("LONGBOW_{}", name.replace('-', "_").to_uppercase());
                assert_eq!(argument.get_env().and_then(|v| v.to_str()), Some(variable.as_str()));
            }
        }
    }
}
