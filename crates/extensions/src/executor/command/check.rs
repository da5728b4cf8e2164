//! Checks of a command before the night: whether it exists.

use std::path::{Path, PathBuf};

use super::CommandConfig;
use super::run::PLACEHOLDERS;
use driftsweep_common::atomic;

/// Whether a command could be started: its folder is there, and its program is found where the supervisor would find it, as
/// a path from that folder or in `path`, the value of `$PATH`.
///
/// # Errors
/// The reason, and the remedy.
pub fn command(command: &CommandConfig, path: &str) -> Result<(), String> {
    // The folder of a fleet file that was named without one is empty: here.
    let folder = Path::new(".").join(&command.folder);
    match std::fs::metadata(&folder) {
        Err(e) => {
            return Err(format!("folder {}: {e}; create it, or correct retrain.folder", command.folder.display()));
        }
        Ok(found) if !found.is_dir() => {
            return Err(format!("folder {}: is no folder; correct retrain.folder", command.folder.display()));
        }
        Ok(_) => {}
    }
    let Some(program) = command.arguments.first() else { return Err("no command".into()) };
    // Placeholders are filled in only when the job runs.
    if program.contains('{') {
        return Ok(());
    }
    let shown = driftsweep_common::escape::for_display(program);
    if program.contains('/') {
        let file = folder.join(program);
        return match problem(&file) {
            None => interpreter(&file, &folder),
            Some(reason) => Err(format!("command '{shown}' in {}: {reason}", folder.display())),
        };
    }
    let candidates: Vec<PathBuf> = std::env::split_paths(path).map(|place| folder.join(place).join(program)).collect();
    match candidates.iter().find(|file| problem(file).is_none()) {
        Some(file) => interpreter(file, &folder),
        None => match candidates.iter().find(|file| file.exists()) {
            Some(file) => Err(format!("command '{shown}': {} is not executable; chmod +x it", file.display())),
            None => Err(format!(
                "command '{shown}' is in none of the folders of $PATH; install it, or give its path{}",
                if folder.join(program).exists() { format!(": './{shown}' is in its folder") } else { String::new() }
            )),
        },
    }
}

/// The variables that the fleet file names for a command and that are not set here: the command goes without them.
pub fn unset(command: &CommandConfig) -> Vec<&str> {
    let set = super::environment::variables_for(&command.env);
    let is_set = |name: &str| set.iter().any(|(known, _)| known == name);
    command.env.iter().map(String::as_str).filter(|name| !is_set(name)).collect()
}

/// Words in braces that look like placeholders and are none: the command gets them as they are. They may be meant so: a
/// warning.
pub fn unknown_placeholders(command: &CommandConfig) -> Vec<&str> {
    let is_name = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_known = |word: &&str| PLACEHOLDERS.iter().any(|known| known[1..].trim_end_matches('}') == *word);
    command
        .arguments
        .iter()
        .flat_map(|argument| in_braces(argument))
        .filter(|word| is_name(word) && !is_known(word))
        .collect()
}

/// What stands between braces in a text. A variable of the shell, which is written `${so}`, does not count.
fn in_braces(text: &str) -> impl Iterator<Item = &str> {
    let begins = text.match_indices('{').filter(|(at, _)| !text[..*at].ends_with('$'));
    begins.filter_map(|(at, _)| Some(text[at + 1..].split_once('}')?.0))
}

/// Why a file cannot be run, if it cannot.
fn problem(file: &Path) -> Option<String> {
    match std::fs::metadata(file) {
        Err(e) => Some(e.to_string()),
        Ok(found) if !found.is_file() => Some("is no file".into()),
        Ok(_) => (!is_executable(file)).then(|| "is not executable; chmod +x it".into()),
    }
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_executable(_: &Path) -> bool {
    true
}

/// Whether the program that a script names in its first line is there.
fn interpreter(script: &Path, folder: &Path) -> Result<(), String> {
    use std::io::Read;
    let mut head = Vec::new();
    // A program may be executable and not readable: then it cannot be checked.
    if atomic::open_external(script).and_then(|file| file.take(256).read_to_end(&mut head)).is_err() {
        return Ok(());
    }
    let Some(line) = head.strip_prefix(b"#!").and_then(|rest| rest.split(|&byte| byte == b'\n').next()) else {
        return Ok(());
    };
    let line = String::from_utf8_lossy(line);
    let Some(program) = line.split([' ', '\t']).find(|word| !word.is_empty()) else { return Ok(()) };
    match problem(&folder.join(program)) {
        None => Ok(()),
        // A Windows line end is part of the name.
        Some(reason) => Err(format!(
            "{}: its first line names the program '{}': {reason}",
            script.display(),
            driftsweep_common::escape::for_display(program)
        )),
    }
}

/// File extensions that arguments of commands may have: scripts, and the files they read.
const FILES: [&str; 18] = [
    "py", "sh", "bash", "r", "jl", "js", "ts", "pl", "rb", "lua", "jar", "sql", "ipynb", "yaml", "yml", "toml", "json",
    "ini",
];

/// Arguments of a command that look like files of its folder and are not there. Only the program knows their purpose,
/// so it may be correct: a warning.
pub fn missing_file_arguments(command: &CommandConfig) -> Vec<String> {
    let folder = Path::new(".").join(&command.folder);
    let is_named = |argument: &str| {
        let path = Path::new(argument);
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        // Flags, shell syntax, addresses, patterns and placeholders.
        let is_other = argument.starts_with('-')
            || argument.contains("://")
            || argument.contains(|c| "{}*?$=;|&<>' \t\n\"".contains(c));
        !is_other && FILES.contains(&&*ending)
    };
    let named = command.arguments.iter().skip(1).filter(|argument| is_named(argument));
    let lost = named.filter(|argument| !folder.join(argument).exists());
    lost.map(|argument| {
        let (argument, folder) = (argument, folder.display());
        format!("argument '{argument}': no such file in {folder}, where the command is started; correct it, or set retrain.folder")
    })
    .collect()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn words_in_braces_that_are_no_placeholder_are_found() {
        let asked = |argument: &str| CommandConfig {
            arguments: vec!["train".into(), argument.into()],
            folder: ".".into(),
            log_bytes: 1 << 10,
            env: Vec::new(),
        };
        for placeholder in PLACEHOLDERS {
            assert!(unknown_placeholders(&asked(placeholder)).is_empty(), "{placeholder}");
        }
        assert_eq!(unknown_placeholders(&asked("--out={modle}/{job}")), ["modle"]);
        for argument in ["{\"a\": 1}", "${HOME}", "${home}", "{}", "a{1,2}", "{a,b}", "{"] {
            assert!(unknown_placeholders(&asked(argument)).is_empty(), "{argument}");
        }
    }

    #[test]
    fn a_command_is_looked_for_where_it_would_be_started() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let whole = file("run/train.sh", "#!/bin/sh\n", 0o755);
        file("run/plain.sh", "#!/bin/sh\n", 0o644);
        file("run/lost.sh", "#!/no/such/python3 -u\n", 0o755);
        file("run/windows.sh", "#!/bin/sh\r\n", 0o755);
        file("bin/tool", "\u{7f}ELF", 0o755);
        file("bin/plain", "\u{7f}ELF", 0o644);
        file("run/own/inner", "\u{7f}ELF", 0o755);
        let path = format!("/nowhere:{}:own", place.path().join("bin").display());
        for (program, folder, wanted) in [
            ("./train.sh", "run", ""),
            (&*whole, "run", ""),
            ("tool", "run", ""),
            ("inner", "run", ""),
            ("./{model}.sh", "run", ""),
            ("train.sh", "run", "in none of the folders of $PATH; install it, or give its path: './train.sh'"),
            ("run/train.sh", "run", "No such file"),
            ("./plain.sh", "run", "chmod +x"),
            ("plain", "run", "chmod +x"),
            ("./own", "run", "is no file"),
            ("./lost.sh", "run", "'/no/such/python3': No such file"),
            ("./windows.sh", "run", "'/bin/sh\\r'"),
            ("tool", "gone", "folder"),
            ("tool", "run/train.sh", "is no folder"),
        ] {
            let asked = CommandConfig {
                arguments: vec![program.into()],
                folder: place.path().join(folder),
                log_bytes: 1 << 10,
                env: Vec::new(),
            };
            let found = command(&asked, &path).err().unwrap_or_default();
            assert!(found.contains(wanted) && found.is_empty() == wanted.is_empty(), "{program} in {folder}: {found}");
        }
    }
}
