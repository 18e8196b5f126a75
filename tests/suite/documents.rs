//! Checks the documents against the program: links, settings, metrics and command blocks.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Server, api, longbow, run};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

const MAX_README_LINES: usize = 150;
/// Pages that also mention flags of other programs.
const ABOUT_OTHER_PROGRAMS: [&str; 2] = ["docs/benchmarks.md", "docs/testing.md"];
/// Names that look like metrics: Postgres roles, and the cookie.
const NO_METRICS: [&str; 3] = ["longbow_reader", "longbow_writer", "longbow_session"];
/// The environment of documented blocks: curl talks to the test's server, requests must succeed, and
/// a stream ends after its first event unless it is redirected to a file.
const PRELUDE: &str = r#"set -euo pipefail
shopt -s inherit_errexit
# What goes on in the background after a failure would keep the output open.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
curl() {
  local arguments=("${@//127.0.0.1:8080/$CLIENTS}") descriptor line
  arguments=("${arguments[@]//127.0.0.1:9090/$OPERATORS}")
  if [[ " $* " != *" -N "* && " $* " != *" -sN "* ]]; then
    command curl --silent --show-error --fail-with-body "${arguments[@]}"
  elif [ -f /dev/stdout ]; then
    exec curl --silent --show-error --fail "${arguments[@]}"
  else
    exec {descriptor}< <(exec curl --silent --show-error --fail "${arguments[@]}")
    for _ in 1 2 3; do IFS= read -r line <&"$descriptor"; echo "$line"; done
    kill $!
    exec {descriptor}<&-
  fi
}
set -x
"#;

/// A parsed document.
#[derive(Default)]
struct Page {
    /// Path from the root of the repository.
    path: String,
    text: String,
    /// Anchors, as in links.
    anchors: Vec<String>,
    links: Vec<String>,
    /// Inline code.
    spans: Vec<String>,
    /// Code blocks, each with its language.
    blocks: Vec<(String, String)>,
    /// Table rows, each with the second-level heading above it.
    rows: Vec<(String, Vec<String>)>,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut page = Self { path: path.to_owned(), text: text.clone(), ..Self::default() };
        let (mut said, mut section, mut cells) = (String::new(), String::new(), Vec::new());
        let mut language = String::new();
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    said.clear();
                    language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                }
                Event::Start(Tag::Heading { .. } | Tag::TableCell) => said.clear(),
                Event::Start(Tag::TableRow | Tag::TableHead) => cells.clear(),
                Event::Text(text) => said.push_str(&text),
                Event::Code(code) => {
                    said.push_str(&code);
                    page.spans.push(code.into_string());
                }
                Event::End(TagEnd::Heading(level)) => {
                    page.add_anchor(&said);
                    if level == HeadingLevel::H2 {
                        section.clone_from(&said);
                    }
                }
                Event::End(TagEnd::TableCell) => cells.push(said.clone()),
                Event::End(TagEnd::TableRow) => page.rows.push((section.clone(), cells.clone())),
                Event::End(TagEnd::CodeBlock) => {
                    page.blocks.push((language.clone(), said.clone()));
                }
                _ => {}
            }
        }
        page
    }

    /// Adds an anchor as GitHub derives it from a heading; duplicates get a number.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        let name: String = kept.flat_map(char::to_lowercase).collect();
        let name = name.replace(' ', "-");
        let before = self.anchors.iter().filter(|anchor| **anchor == name).count();
        self.anchors.push(if before == 0 { name } else { format!("{name}-{before}") });
    }

    fn blocks_in<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a str> {
        let of_language =
            move |(of, block): &'a (String, String)| (of == language).then_some(block.as_str());
        self.blocks.iter().filter_map(of_language)
    }

    /// All words that begin with `start`.
    fn words<'a>(&'a self, start: &'a str, allowed: fn(char) -> bool) -> BTreeSet<&'a str> {
        let word = move |(at, _): (usize, &str)| {
            let rest = &self.text[at..];
            rest.split(|c| !allowed(c)).next().unwrap_or_default()
        };
        self.text.match_indices(start).map(word).filter(|word| *word != start).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository.
fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    find_files(root(), ".md", &mut paths);
    let mut paths: Vec<String> = paths
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned())
        .collect();
    paths.sort();
    assert!(paths.len() > 8, "the documents were not found: {paths:?}");
    paths.iter().map(|path| Page::read(path)).collect()
}

fn find_files(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_ours = !name.starts_with('.') && name != "target";
        if is_ours && entry.file_type().unwrap().is_dir() {
            find_files(&path, ending, found);
        } else if is_ours && name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// One flag of a command, from its help.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    flag: String,
    /// Its environment variable, or empty.
    variable: String,
    /// Its default, `required`, or empty.
    default: String,
}

/// What `longbow COMMAND --help` prints.
fn help(command: &str) -> String {
    let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    let output = run(&arguments);
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The flags in a command's help, each joined to one line.
fn settings_of(command: &str) -> BTreeSet<Setting> {
    let help = help(command);
    let (head, options) = help.split_once("\nOptions:\n").unwrap();
    let options = format!("\n{options}");
    let described = options.split("\n      --").skip(1).map(|option| {
        let option = option.split("\n  -h, --help").next().unwrap_or_default();
        option.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let between = |text: &str, start: &str, ends: &[char]| {
        let (_, rest) = text.split_once(start)?;
        rest.split(ends).next().map(str::to_owned)
    };
    described
        .map(|option| {
            let flag = option.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap();
            let is_required = head.contains(&format!(" --{flag} <"));
            let default = between(&option, "[default: ", &[']']);
            Setting {
                flag: flag.to_owned(),
                variable: between(&option, "[env: ", &['=', ']']).unwrap_or_default(),
                default: if is_required { "required".into() } else { default.unwrap_or_default() },
            }
        })
        .collect()
}

/// The leaf commands, by their words.
fn commands(of: &str) -> Vec<String> {
    let help = help(of);
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![of.to_owned()] };
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        line.split(' ').next().filter(|name| !name.is_empty() && *name != "help")
    });
    // It also does something without a command below it.
    let own = help.contains(" [COMMAND]\n").then(|| of.to_owned());
    own.into_iter().chain(names.flat_map(|name| commands(format!("{of} {name}").trim()))).collect()
}

/// The commands of a heading of `docs/configuration.md`, and the flags below it.
fn documented_settings() -> BTreeMap<String, BTreeSet<Setting>> {
    let mut documented: BTreeMap<String, BTreeSet<Setting>> = BTreeMap::new();
    for (section, cells) in Page::read("docs/configuration.md").rows {
        let flag = cells[0].strip_prefix("--").unwrap().split(' ').next().unwrap();
        for command in section.split(", ") {
            let command = command.strip_prefix("longbow ").unwrap();
            let setting = Setting {
                flag: flag.to_owned(),
                variable: cells[1].clone(),
                default: cells[2].replace("none", ""),
            };
            let is_new = documented.entry(command.to_owned()).or_default().insert(setting);
            assert!(is_new, "{command} --{flag} is documented twice");
        }
    }
    documented
}

#[test]
fn links_and_anchors_resolve() {
    let pages = pages();
    let mut broken = Vec::new();
    for page in &pages {
        let directory = root().join(&page.path).parent().unwrap().to_owned();
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { root().join(&page.path) } else { directory.join(path) };
            let Ok(target) = target.canonicalize() else {
                broken.push(format!("{}: {link}: there is no such file", page.path));
                continue;
            };
            let of_target =
                |page: &&Page| root().join(&page.path).canonicalize().unwrap() == target;
            let is_there = anchor.is_empty()
                || pages
                    .iter()
                    .find(of_target)
                    .is_some_and(|target| target.anchors.iter().any(|heading| heading == anchor));
            if !is_there {
                broken.push(format!("{}: {link}: there is no such heading", page.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_readme_stays_short() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines");
}

#[test]
fn settings_are_documented_as_the_program_has_them() {
    let documented = documented_settings();
    // A command without flags has no table.
    let has_flags = |command: &String| !settings_of(command).is_empty();
    let commands: BTreeSet<String> = commands("").into_iter().filter(has_flags).collect();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), commands);
    for (command, documented) in &documented {
        let settings = settings_of(command);
        assert_eq!(*documented, settings, "{command}: documented left, --help right");
    }
}

#[test]
fn keys_of_the_file_are_the_documented_flags() {
    let documented = documented_settings();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("longbow.toml");
    fs::write(&file, "no-such-setting = 1\n").unwrap();
    for (command, flags) in documented {
        if !flags.iter().any(|setting| setting.flag == "config") {
            continue;
        }
        let output = run(&[command.as_str(), "--config", file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        let (_, known) = error.trim().split_once("known settings: ").unwrap();
        let known: BTreeSet<&str> = known.split(", ").collect();
        let flags = flags.iter().map(|setting| setting.flag.as_str());
        let flags: BTreeSet<&str> = flags.filter(|flag| *flag != "config").collect();
        assert_eq!(flags, known, "{command}");
    }
}

#[test]
fn flags_and_variables_that_documents_name_exist() {
    let settings: BTreeSet<Setting> =
        commands("").iter().flat_map(|command| settings_of(command)).collect();
    let is_flag = |name: &str| settings.iter().any(|setting| setting.flag == name);
    let is_variable = |name: &str| settings.iter().any(|setting| setting.variable == name);
    let mut unknown = Vec::new();
    for page in pages() {
        let variables = page.words("LONGBOW_", |c| c.is_ascii_uppercase() || c == '_');
        unknown.extend(
            variables
                .into_iter()
                .filter(|name| !is_variable(name))
                .map(|name| format!("{}: {name}", page.path)),
        );
        if ABOUT_OTHER_PROGRAMS.contains(&page.path.as_str()) {
            continue;
        }
        let flags = page.spans.iter().filter_map(|span| span.strip_prefix("--"));
        let flags = flags
            .filter_map(|span| span.split(|c: char| !c.is_ascii_lowercase() && c != '-').next());
        unknown.extend(
            flags.filter(|flag| !is_flag(flag)).map(|flag| format!("{}: --{flag}", page.path)),
        );
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn metrics_are_documented_as_the_server_has_them() {
    let data = tempfile::tempdir().unwrap();
    // Postgres and Redis are absent, but their metrics exist.
    let postgres = "postgres://longbow@127.0.0.1:1/longbow";
    let server =
        Server::start(data.path(), &["--postgres", postgres, "--redis", "redis://127.0.0.1:1"]);
    let page = api::get_anonymously(&format!("{}/metrics", server.admin)).unwrap().text;
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let families: BTreeSet<(String, String)> =
        kinds.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();

    let rows = Page::read("docs/metrics.md").rows;
    let documented: BTreeSet<(String, String)> =
        rows.into_iter().map(|(_, cells)| (cells[0].clone(), cells[1].clone())).collect();
    assert_eq!(documented, families, "documented left, of the server right");

    let exists = |name: &str| {
        NO_METRICS.contains(&name)
            || families.iter().any(|(family, kind)| {
                let is_sample = kind == "counter" && name.strip_suffix("_total") == Some(family);
                name == family || is_sample
            })
    };
    for page in pages() {
        for name in page.words("longbow_", |c| c.is_ascii_lowercase() || c == '_') {
            assert!(exists(name), "{}: there is no metric {name}", page.path);
        }
    }
}

#[test]
fn error_codes_are_documented_as_the_routes_have_them() {
    let rows = Page::read("docs/api.md").rows;
    let rows = rows.into_iter().filter(|(section, _)| section == "Errors");
    let documented: BTreeSet<String> = rows.map(|(_, mut cells)| cells.swap_remove(0)).collect();
    assert!(documented.len() > 20, "{documented:?}");
    let mut unused = documented.clone();
    let mut sources = Vec::new();
    find_files(&root().join("src/http"), ".rs", &mut sources);
    for path in sources {
        let source = fs::read_to_string(&path).unwrap();
        unused.retain(|code| !source.contains(&format!("\"{code}\"")));
        for call in ["Problem::new(", "::unavailable(", "::too_many(", "Self::new("] {
            for (at, _) in source.match_indices(call) {
                let words = words_in_call(&source[at + call.len()..]);
                let is_known =
                    words.is_empty() || words.iter().any(|word| documented.contains(*word));
                assert!(is_known, "{}: none of {words:?} is documented", path.display());
            }
        }
    }
    assert!(unused.is_empty(), "no route has {unused:?}");
}

/// The string literals in a call's arguments that may be codes.
fn words_in_call(arguments: &str) -> Vec<&str> {
    let (mut words, mut depth, mut text) = (Vec::new(), 1, None);
    for (at, c) in arguments.char_indices() {
        match (c, text) {
            ('"', None) => text = Some(at + 1),
            ('"', Some(start)) if !arguments[..at].ends_with('\\') => {
                words.push(&arguments[start..at]);
                text = None;
            }
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    let is_code =
        |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    words.into_iter().filter(is_code).collect()
}

#[test]
fn command_blocks_run_as_they_stand() {
    let pages = pages();
    for page in pages.iter().filter(|page| page.blocks_in("sh").next().is_some()) {
        // Instructions for rebuilding the data need its sources.
        if page.path == "README.md" || page.path.starts_with("docs/") {
            // A page that is read again works again.
            let times = if page.path == "docs/api.md" { 2 } else { 1 };
            run_blocks(page, times);
        }
    }
    // In these pages every block runs, except building and installing.
    for (path, may_stay) in [("README.md", "make "), ("docs/api.md", "nothing")] {
        let page = pages.iter().find(|page| page.path == path).unwrap();
        assert!(page.blocks_in("sh").count() > 3, "{path} has no commands");
        let left_out = page.blocks_in("console").flat_map(str::lines);
        let mut left_out = left_out.filter(|line| !line.starts_with(may_stay));
        assert_eq!(left_out.next(), None, "{path}: this is not run");
    }
}

/// Runs the blocks of a page so many times in one shell, as after `make run`: beside a server with its data in
/// `longbow-data` and the program in `target/release`.
fn run_blocks(page: &Page, times: usize) {
    let directory = tempfile::tempdir().unwrap();
    let release = directory.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    symlink(longbow().get_program(), release.join("longbow")).unwrap();
    let server = Server::start(&directory.path().join("longbow-data"), &[]);
    let blocks: Vec<&str> = page.blocks_in("sh").collect();
    let mut shell = Command::new("bash");
    for (name, value) in longbow().get_envs() {
        assert!(value.is_none(), "settings are only taken away");
        shell.env_remove(name);
    }
    let host = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let output = shell
        .args(["-c", &format!("{PRELUDE}{}", format!("{}\n", blocks.join("\n")).repeat(times))])
        .current_dir(directory.path())
        .env("CLIENTS", host(&server.address))
        .env("OPERATORS", host(&server.admin))
        .env("LONGBOW_ADMIN_URL", &server.admin)
        .output()
        .unwrap();
    let [said, errors] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}:\n{errors}\n{said}", page.path);
}
