//! A start error is one sentence that names the setting and the remedy.

use std::fs;
use std::process::Command;

use crate::support::{Server, longbow, run};

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn error_of(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} started");
    String::from_utf8(output.stderr).unwrap()
}

/// Exit code and error of a server that does not start.
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let data = tempfile::tempdir().unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"];
    let mut server = longbow();
    server.arg("serve").args(free).arg(data.path()).args(arguments);
    let output = server.envs(variables.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_wrong_setting_has_the_exit_code_of_wrong_settings() {
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (short, empty) = (file("short", "short"), file("empty", ""));
    let (none, five) = (file("none", "\n"), file("five", &"a-long-enough-secret\n".repeat(5)));
    let missing = "/does/not/exist";
    let url = "postgres://a@127.0.0.1:1/x";
    for arguments in [
        &["--commit", "postgres"][..],
        &["--postgres", "foo"],
        &["--postgres", url, "--postgres-schema", "pg_x"],
        &["--from", "16:00"],
        &["--shards", "1000"],
        &["--jwt-secret-file", &short],
        &["--jwt-secret-file", &empty],
        &["--jwt-secret-file", missing],
        &["--webhook-secret-file", &none],
        &["--webhook-secret-file", &five],
        &["--webhook-secret-file", missing],
        &["--webhook-url", "http://a/b"],
        &["--max-streams", "99999999"],
        &["--exchange-source-ip", "8.8.8.8"],
        &["--tape", missing],
        &["--shards", "-1"],
        &["--migrate"],
        &["--postgres-schema", "mine"],
        &["--account-mode", "margin"],
    ] {
        let (code, error) = refused(arguments, &[]);
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(arguments[0]) || error.contains(arguments[1]), "{error}");
    }
    let (code, error) = refused(&[], &[("RUST_LOG", "longbow=loud=er")]);
    assert!(code == Some(2) && error.contains("RUST_LOG"), "{code:?} {error}");
    let (_, error) = refused(&["--shards", "-1"], &[]);
    assert!(error.contains("'-1' for '--shards <N>'") && error.contains("from 0 to"), "{error}");
    let schema = ["--postgres", url, "--postgres-schema", "information_schema"];
    let (_, error) = refused(&schema, &[]);
    assert!(error.contains("and not `information_schema`"), "{error}");
    let verify = run(&["verify", "--data-dir", missing, "--postgres", "foo"]);
    assert_eq!(verify.status.code(), Some(2), "{verify:?}");
}

#[test]
fn a_wrong_variable_is_named_and_an_empty_one_is_not_set() {
    let (code, error) = refused(&[], &[("LONGBOW_SHARDS", "many")]);
    assert!(code == Some(2) && error.contains("variable LONGBOW_SHARDS: "), "{error}");
    let (_, error) = refused(&["--shards", "few"], &[("LONGBOW_SHARDS", "many")]);
    assert!(error.contains("'few'") && !error.contains("LONGBOW_SHARDS"), "{error}");
    let empty = [("LONGBOW_POSTGRES", ""), ("LONGBOW_SHARDS", ""), ("LONGBOW_SPIN", "")];
    let (_, error) = refused(&["--commit", "postgres"], &empty);
    assert!(error.contains("--commit postgres needs --postgres"), "{error}");
    // Harmless in the environment that other commands share.
    let shared = [("LONGBOW_MIGRATE", "true"), ("LONGBOW_POSTGRES_SCHEMA", "mine")];
    let (_, error) = refused(&["--commit", "postgres"], &shared);
    assert!(error.contains("--commit postgres needs --postgres"), "{error}");
}

const ID: &str = "01935d30-1cf6-7000-8000-000000000070";

#[test]
fn wrong_settings_are_named_with_what_is_allowed() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let short = data.path().join("short");
    fs::write(&short, "short").unwrap();
    let empty = data.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let config = data.path().join("longbow.toml");
    fs::write(&config, "sharsd = 1\n").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["serve", "--listen", "8080"], &["--listen", "8080"]),
        (&["serve", "--shards", "many"], &["--shards", "many"]),
        (&["serve", "--shards", "1000"], &["--shards 1000", "cores"]),
        (&["serve", "--exchange", "nowhere"], &["--exchange", "nowhere", "sim"]),
        (&["serve", "--speed", "0"], &["--speed", "0.01 to 100000"]),
        (&["serve", "--from", "25:00"], &["--from", "25:00"]),
        (&["serve", "--universe", "9999999"], &["--universe", "9999999"]),
        (&["serve", "--max-streams", "99999999"], &["--max-streams 99999999", "ulimit -n"]),
        (&["serve", "--listen", "127.0.0.1:9", "--admin-listen", "127.0.0.1:9"], &["127.0.0.1:9"]),
        (&["serve", "--config", "/does/not/exist"], &["/does/not/exist"]),
        (&["serve", "--config", config.to_str().unwrap()], &["sharsd", "shards"]),
        (&["serve", "--jwt-secret-file", short.to_str().unwrap()], &["5 bytes", "32"]),
        (
            &["serve", "--webhook-url", "http://a/b"],
            &["--webhook-url http://a/b", "--webhook-secret-file"],
        ),
        (&["serve", "--webhook-url", "a/b"], &["--webhook-url", "a/b", "http://10.0.0.7"]),
        (&["serve", "--webhook-secret-file", "/does/not/exist"], &["/does/not/exist"]),
        (&["serve", "--webhook-secret-file", empty.to_str().unwrap()], &["0 secrets", "1 to 4"]),
        (&["serve", "--exchange-source-ip", "192.0.2.1"], &["--exchange-source-ip 192.0.2.1"]),
        (&["serve", "--exchange-source-ip", "::1"], &["--exchange-source-ip ::1", "IPv6"]),
        (&["serve", "--exchange-source-ip", "here"], &["--exchange-source-ip", "here"]),
        (&["serve", "--exchange-connections", "0"], &["--exchange-connections", "from 1 to 16"]),
        (&["serve", "--exchange-timeout-ms", "0"], &["--exchange-timeout-ms", "from 1 to 60000"]),
        (
            &["serve", "--cleanup-interval-seconds", "0"],
            &["--cleanup-interval-seconds", "from 1 to 86400"],
        ),
        (&["serve", "--cleanup-grace-ms", "1"], &["--cleanup-grace-ms", "from 100 to 600000"]),
        (
            &["serve", "--webhook-window-seconds", "0"],
            &["--webhook-window-seconds", "from 1 to 86400"],
        ),
        (&["serve", "--data-dir", "/dev/null/x"], &["/dev/null/x"]),
        (
            &["serve", "--tape", config.to_str().unwrap()],
            &["--tape", "longbow.toml", "holds no tape"],
        ),
        (&["exchange", "--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["token", "--user", "two words"], &["--user", "white space"]),
        (&["token"], &["--user"]),
        (&["serve", "--shards", "many"], &["whole number from 0 to 1024"]),
        (&["nodes", "drain", "x"], &["whole number from 0 to 1023"]),
        (&["serve", "--exchange-source-ip", "here"], &["an IP address such as"]),
        (
            &["serve", "--exchange", "http://127.0.0.1:9", "--fault", "feed.skip=0.5"],
            &["--fault", "simulated exchange", "http://127.0.0.1:9"],
        ),
        (&["serve", "--postgres", "foo"], &["--postgres cannot be used", "postgres://user"]),
        (&["close-order", ID, "--by", "", "--reason", "x"], &["--by", "not blank"]),
        (&["quarantine", "list", "--admin-url", "nowhere"], &["--admin-url", "nowhere", "http://"]),
        (&["wal", "verify", "--data-dir", "/nope"], &["no log in /nope/wal", "--data-dir"]),
        (&["wal", "inspect", "--data-dir", "/nope"], &["no log in /nope/wal", "--data-dir"]),
        (&["serv"], &["serv"]),
    ];
    for (arguments, expected) in cases {
        let mut arguments = arguments.to_vec();
        let has_data = ["serve", "token"].contains(&arguments[0]);
        if has_data && !arguments.contains(&"--data-dir") {
            arguments.extend(["--data-dir", dir]);
        }
        let error = error_of(&arguments);
        for expected in *expected {
            assert!(error.contains(expected), "{arguments:?} does not say {expected:?}: {error}");
        }
        assert!(!error.contains("panicked") && !error.contains("ERROR"), "{error}");
    }
}

#[test]
fn what_is_in_use_is_named() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let dir = data.path().to_str().unwrap();
    let taken = server.address.strip_prefix("http://").unwrap();
    let any = "127.0.0.1:0";

    let same_directory =
        error_of(&["serve", "--listen", any, "--admin-listen", any, "--data-dir", dir]);
    assert!(same_directory.contains(dir), "{same_directory}");

    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let same_port =
        error_of(&["serve", "--listen", taken, "--admin-listen", any, "--data-dir", other]);
    assert!(same_port.contains(taken) && same_port.contains("in use"), "{same_port}");
}

#[test]
fn too_little_memory_that_may_be_locked_is_told_before_anything_is_made() {
    let data = tempfile::tempdir().unwrap();
    let fresh = data.path().join("fresh");
    let server = longbow();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -l 64; exec \"$0\" \"$@\""]).arg(server.get_program());
    for (name, _) in server.get_envs() {
        shell.env_remove(name);
    }
    shell.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let output = shell.arg("--data-dir").arg(&fresh).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("65536") && error.contains("ulimit -l 512"), "{error}");
    assert!(output.stdout.is_empty() && !fresh.exists());
}

#[test]
fn variables_are_heard_under_the_names_that_they_had_before() {
    let refused = |variables: &[(&str, &str)]| {
        let output = longbow().args(["serve"]).envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused(&[("LONGBOW_SPIN", "long")]);
    assert!(error.contains("'long' for '--spin-us <US>'"), "{error}");
    let error = refused(&[("LONGBOW_SPIN", "long"), ("LONGBOW_SPIN_US", "short")]);
    assert!(error.contains("'short' for '--spin-us <US>'"), "{error}");
}

#[test]
fn settings_come_from_the_environment_too() {
    let output = longbow().args(["serve"]).env("LONGBOW_SHARDS", "minus one").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--shards") && error.contains("minus one"), "{error}");

    let help = run(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for expected in ["--order-reply-timeout-ms", "Milliseconds", "LONGBOW_SHARDS", "[default: 150]"]
    {
        assert!(help.contains(expected), "{expected} is missing: {help}");
    }
}
