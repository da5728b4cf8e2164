//! `driftsweep init`

use std::path::{Component, Path, PathBuf};

use clap::Args;
use driftsweep::model::Options;
use driftsweep::snapshot::Snapshot;
use driftsweep_common::address::redacted;
use driftsweep_common::error::Error;
use driftsweep_common::escape;
use driftsweep_common::storage;
use driftsweep_fleet::daily::{self, Naming};
use driftsweep_fleet::infer::{self, InferredColumn, InferredColumns, InferredRole, LabelColumns, roles};
use driftsweep_fleet::{FLEET_SCHEMA, Fleet, Model, Trigger};
use driftsweep_report::output::Page;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::fleet_store::read_fleet;

#[derive(Args)]
pub struct InitArgs {
    /// What the model was trained on: a file, a glob or a directory. Or, without CUR, a directory with a folder a model,
    /// each with its training data (training, train, baseline, reference) and its current data (production, prod, current,
    /// serving, live, scoring), as files or folders of these names
    #[arg(value_name = "REF")]
    baseline: String,
    /// What it sees now. For one file or folder per day write {day}: the day before each sweep
    #[arg(value_name = "CUR")]
    current: Option<String>,
    /// Name of the model [default: model; in a directory of models the names of the folders]
    #[arg(long, value_name = "NAME", requires = "current")]
    name: Option<String>,
    /// File to write instead of standard output; paths in it are relative to its folder
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
    /// Add the models to this fleet file; the rest of the file stays unchanged
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "force"])]
    append: Option<PathBuf>,
}

/// A model to add.
struct NewModel {
    name: String,
    baseline: String,
    current: String,
}

/// The schema beside a new fleet file.
const SCHEMA_FILE: &str = "fleet.schema.json";

pub fn run(args: &InitArgs) -> anyhow::Result<u8> {
    if let Some(path) = args.output.as_deref().filter(|path| path.exists() && !args.force) {
        let reason = format!("{} exists already; add --force to overwrite it, or use --append", path.display());
        return Err(super::invalid_value("--output", &reason));
    }
    let models = match &args.current {
        Some(current) => {
            let name = args.name.clone().unwrap_or_else(|| "model".into());
            vec![NewModel { name, baseline: args.baseline.clone(), current: current.clone() }]
        }
        None => models_in(Path::new(&args.baseline))?,
    };
    let before = match &args.append {
        Some(path) => match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            // Its errors are reported when it is read.
            _ => Some(existing(path, &models)?),
        },
        None => None,
    };
    let target = args.append.as_deref().or(args.output.as_deref());
    let folder = target.map_or(Path::new(""), |path| path.parent().unwrap_or(Path::new("")));
    // The output must be a valid fleet file, whatever the names of columns and paths.
    let path = target.unwrap_or(Path::new("fleet.toml"));

    let mut text = match &before {
        Some(before) => before.clone(),
        None => heading(),
    };
    let mut namings = Vec::new();
    for model in &models {
        let (page, naming) = model_page(model, folder, (&text, path))?;
        text = appended(&text, &page.to_string());
        namings.push(naming);
    }
    Fleet::parse(&text, path, &Options::new())?;
    match target {
        Some(path) => driftsweep_common::atomic::write(path, text.as_bytes())?,
        None => {
            let mut page = Page::file();
            text.lines().for_each(|line| page.line(line));
            super::write(page)?;
        }
    }
    if let Some(path) = target.filter(|_| before.is_none()) {
        let schema = path.with_file_name(SCHEMA_FILE);
        if !schema.exists() {
            driftsweep_common::atomic::write(&schema, FLEET_SCHEMA.as_bytes())?;
        }
    }
    explain(&models, target, before.is_some(), &namings);
    Ok(0)
}

/// The first lines of a new file.
fn heading() -> String {
    let mut page = Page::file();
    // Editors with Taplo or Tombi then complete and check the keys.
    page.line(format_args!("#:schema ./{SCHEMA_FILE}"));
    page.line("# What each setting means: `driftsweep schema`, or the reference of the fleet file in docs/.");
    page.blank();
    page.to_string()
}

/// Names of the training data of a model, and of its current data, in its folder.
const BASELINES: [&str; 5] = ["training", "train", "baseline", "reference", "ref"];
const CURRENTS: [&str; 7] = ["production", "prod", "current", "serving", "live", "scoring", "inference"];

/// The models of a directory with a folder each.
fn models_in(folder: &Path) -> anyhow::Result<Vec<NewModel>> {
    let what = || redacted(folder);
    if !storage::is_remote(folder) && !folder.exists() {
        return Err(Error::NotFound { path: folder.into() }.into());
    }
    if storage::is_remote(folder) || !folder.is_dir() {
        let reason = "is not a folder of models; give the current data, too: `driftsweep init REF CUR`";
        return Err(super::invalid_value(&what(), reason));
    }
    let mut models = Vec::new();
    for (name, path) in entries(folder)? {
        if !path.is_dir() {
            continue;
        }
        let inside = entries(&path)?;
        let find = |wanted: &[&str]| {
            wanted.iter().find_map(|wanted| {
                let is_it = |name: &str| name.split('.').next().is_some_and(|stem| stem.eq_ignore_ascii_case(wanted));
                let (_, path) = inside.iter().find(|(name, _)| is_it(name))?;
                let slash = if path.is_dir() { "/" } else { "" };
                Some(format!("{}{slash}", path.display()))
            })
        };
        match (find(&BASELINES), find(&CURRENTS)) {
            (Some(baseline), Some(current)) => models.push(NewModel { name, baseline, current }),
            (None, None) => {}
            (baseline, _) => {
                let (missing, names) =
                    if baseline.is_none() { ("training", &BASELINES[..]) } else { ("current", &CURRENTS[..]) };
                warn!("{} has no {missing} data and is left out; looked for {}", path.display(), names.join(", "));
            }
        }
    }
    if models.is_empty() {
        let reason = format!(
            "has no folder of a model, with training data ({}) and current data ({}) in it; name them for one model: \
             `driftsweep init REF CUR`",
            BASELINES.join(", "),
            CURRENTS.join(", ")
        );
        return Err(super::invalid_value(&what(), &reason));
    }
    Ok(models)
}

/// The names and paths in a folder, in order.
fn entries(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let failed = |e: std::io::Error| Error::Unreadable { path: folder.into(), reason: e.to_string() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.is_empty() && !name.starts_with(['.', '_']) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// The part of the file about a model. `before` is the text before it, and the path of the file.
fn model_page(model: &NewModel, folder: &Path, before: (&str, &Path)) -> anyhow::Result<(Page, Naming)> {
    let NewModel { name, baseline, current } = model;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let naming = daily::naming(current, today)?;
    let newest = match &naming {
        Naming::Daily { pattern, newest, .. } => daily::of_day(pattern, *newest)?,
        Naming::Plain | Naming::Unclear(_) => current.clone(),
    };
    let (of_baseline, of_current) = (open(baseline)?, open(&newest)?);
    let guesses = roles(&of_baseline, &of_current);
    // The first rows of a longer snapshot do not say where its times begin and end.
    let whole = of_baseline.rows().max(of_current.rows()) < infer::MAX_ROWS;
    say_differences(name, &guesses, infer::older(&of_baseline, &of_current).filter(|_| whole));
    let mut page = Page::file();
    page.line("[[model]]");
    if [baseline, current].into_iter().any(|spec| redacted(spec) != *spec) {
        page.line("# Secret parts of addresses are removed (…): insert them, or better use the store's own address.");
    }
    page.line(format_args!("name = {}", quoted(name)));
    page.line(format_args!("baseline = {}", quoted(&relative(baseline, folder))));
    let given = quoted(&relative(current, folder));
    let mut daily = None;
    match &naming {
        Naming::Daily { pattern, .. } => {
            let pattern = relative(pattern, folder);
            page.line(format_args!("current = {} # the day before each sweep", quoted(&pattern)));
            if quoted(&pattern) != given {
                page.line(format_args!("# current = {given} # as given"));
            }
            daily = Some(pattern);
        }
        Naming::Plain => page.line(format_args!("current = {given}")),
        Naming::Unclear(reason) => {
            page.line(format_args!("current = {given} # read as a whole every time: {reason}"));
            page.line(format_args!("# current = \"…{{day}}…\" would be the day before each sweep"));
        }
    }
    let mut rest = columns(&guesses.columns);
    rest.blank();
    if let Some(labels) = &guesses.labels {
        rest.append(label_table(labels, daily.as_deref()));
        rest.blank();
    }
    let (before, path) = before;
    let fleet = Fleet::parse(&appended(before, &format!("{page}{rest}")), path, &Options::new())?;
    page.line(format_args!("# Triggers that are active: {}", active(super::model_of(&fleet, name)?)));
    page.append(rest);
    Ok((page, naming))
}

/// Says on standard error how the data of a model differ.
fn say_differences(model: &str, guesses: &InferredColumns, older: Option<String>) {
    let list = |names: &[&str]| {
        let shown: Vec<String> = names.iter().take(5).map(|name| escape::for_display(name).into_owned()).collect();
        let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        format!("{}{more}", shown.join(", "))
    };
    let model = escape::for_display(model);
    let absent = guesses.columns.iter().filter(|guess| guess.role == InferredRole::Absent);
    let absent: Vec<&str> = absent.map(|guess| &*guess.column).collect();
    if !absent.is_empty() {
        warn!(
            "model '{model}': the current data lack {}, which the training data have: excluded; if the model uses them, find \
             out why they are missing, and take them out of `exclude`",
            list(&absent)
        );
    }
    let new: Vec<&str> = guesses.new_features.iter().map(String::as_str).collect();
    if !new.is_empty() {
        info!("model '{model}': the training data lack {}, which are not compared", list(&new));
    }
    if let Some(reason) = older {
        warn!("model '{model}': {reason}");
    }
}

/// The active triggers of a model, and what the others need.
fn active(model: &Model) -> String {
    let (mut active, mut others) = (Vec::new(), Vec::new());
    for &trigger in Trigger::ALL {
        match model.triggers.inactive(trigger, model.labels.is_some()) {
            None => active.push(trigger.name()),
            Some(why) => others.push(format!("{} ({why})", trigger.name())),
        }
    }
    let none = if active.is_empty() { "none" } else { "" };
    let others = if others.is_empty() { String::new() } else { format!("; not active: {}", others.join(", ")) };
    format!("{none}{}{others}", active.join(", "))
}

/// Reports what was done and the next steps.
fn explain(models: &[NewModel], target: Option<&Path>, added: bool, namings: &[Naming]) {
    for (NewModel { current, .. }, naming) in models.iter().zip(namings) {
        match naming {
            Naming::Daily { pattern, newest, days } => {
                let many =
                    if *days > 1 { format!("{days} days, the newest {newest}") } else { format!("one is {newest}") };
                info!(
                    "{current} has one snapshot per day ({many}): current = {pattern}, so that each sweep reads the day before it"
                );
            }
            Naming::Unclear(reason) => info!(
                "{current} is read as one snapshot: {reason}; if there is one per day, write {{day}} instead of the day"
            ),
            Naming::Plain => {}
        }
    }
    let Some(path) = target else { return };
    let file = path.display();
    let names: Vec<String> = models.iter().map(|model| format!("'{}'", model.name)).collect();
    match (added, models.len()) {
        (true, 1) => say!("added model {} to {file}; review `exclude`, then:", names[0]),
        (true, _) => say!("added models {} to {file}; review `exclude` of each, then:", names.join(", ")),
        (false, 1) => say!("wrote {file}; review `exclude`, then:"),
        (false, _) => say!("wrote {file} with models {}; review `exclude` of each, then:", names.join(", ")),
    }
    // The newest day of them all: the others have their own.
    let newest = namings.iter().filter_map(|naming| match naming {
        Naming::Daily { newest, .. } => Some(*newest),
        Naming::Plain | Naming::Unclear(_) => None,
    });
    match newest.max() {
        Some(newest) => {
            let sweep = newest.checked_add(1.day()).unwrap_or(newest);
            say!("  driftsweep sweep {file} --now {sweep}   # the day {newest}, as a sweep of the next day reads it");
        }
        None => say!("  driftsweep sweep {file}"),
    }
}

/// The first rows of a snapshot: enough to infer the roles of its columns.
fn open(spec: &str) -> driftsweep_common::error::Result<Snapshot> {
    match spec.contains("#rows=") {
        true => Snapshot::open(spec),
        false => Snapshot::open(&format!("{spec}#rows=0..{}", infer::MAX_ROWS)),
    }
}

/// The text of a fleet file that models are added to.
fn existing(path: &Path, models: &[NewModel]) -> anyhow::Result<String> {
    let fleet = read_fleet(path, &Options::new())?;
    if let Some(known) = models.iter().find(|new| fleet.models.iter().any(|model| model.name == new.name)) {
        let reason = format!("{} has a model '{}' already; choose another name", path.display(), known.name);
        return Err(super::invalid_value("--name", &reason));
    }
    Ok(Fleet::text(path)?)
}

/// A fleet file with another model at its end, and with its own kind of line ends.
fn appended(before: &str, model: &str) -> String {
    let gap = if before.ends_with("\n\n") || before.ends_with("\r\n\r\n") {
        ""
    } else if before.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let added = format!("{gap}{model}");
    let added = if before.contains("\r\n") { added.replace('\n', "\r\n") } else { added };
    format!("{before}{added}")
}

/// Excluded and compared columns, each with the reason.
fn columns(guesses: &[InferredColumn]) -> Page {
    let mut page = Page::file();
    page.line("exclude = [");
    for guess in guesses.iter().filter(|guess| guess.role != InferredRole::Feature) {
        page.line(format_args!("  {}, # {}: {}", quoted(&guess.column), guess.role.name(), guess.reason));
    }
    page.line("]");
    page.section("# Features:");
    for guess in guesses.iter().filter(|guess| guess.role == InferredRole::Feature) {
        let doubt = guess.doubt.as_ref().map_or(String::new(), |doubt| format!("; {doubt}"));
        page.line(format_args!("#   {}: {}{doubt}", guess.column, guess.reason));
    }
    page
}

/// A table for joining predictions with labels, commented out for review.
fn label_table(labels: &LabelColumns, daily: Option<&str>) -> Page {
    let mut page = Page::file();
    page.line(match labels.label {
        Some(_) => "# To evaluate predictions against labels, review this and remove the #:",
        None => "# To evaluate predictions against labels, fill in their table and column, and remove the #:",
    });
    page.line("# [model.labels]");
    if labels.elsewhere {
        let what = labels.label.as_deref().unwrap_or("labels, or none where they are in `current`");
        page.line(format_args!("# from = \"labels/*.parquet\" # the table with {what}: name yours"));
    }
    if labels.label.is_none() {
        page.line("# label = \"…\" # the column with what came true");
    }
    if let Some(daily) = daily {
        page.line(format_args!("# predictions = {} # of all days", quoted(&daily::of_all_days(daily))));
    }
    let named = [
        ("id", &labels.id),
        ("time", &Some(labels.time.clone())),
        ("label", &labels.label),
        ("prediction", &labels.prediction),
        ("score", &labels.score),
    ];
    for (key, column) in named {
        if let Some(column) = column.as_ref().filter(|_| key != "id" || labels.elsewhere) {
            page.line(format_args!("# {key} = {}", quoted(column)));
        }
    }
    if labels.elsewhere {
        page.line(
            "# delay = \"7d\" # how long labels take; if their table has the times of their arrival, name that column instead: \
             label_time",
        );
    }
    let usual = |class: &String| matches!(&**class, "0" | "1" | "true" | "false");
    if labels.score.is_some() && !labels.classes.is_empty() && !labels.classes.iter().all(usual) {
        let classes: Vec<String> = labels.classes.iter().map(|class| quoted(class)).collect();
        page.line(format_args!(
            "# positive = {} # the one that the score is about, of {}",
            classes[0],
            classes.join(", ")
        ));
    }
    page
}

/// A TOML string on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // Characters that a page would escape are written as TOML escapes.
            c if escape::is_escaped(c) => quoted.push_str(&match u32::from(c) {
                code @ ..=0xFFFF => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            }),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A path as a file in a folder names it. Addresses, and absolute paths to elsewhere, stay as they are.
fn relative(spec: &str, folder: &Path) -> String {
    let absolute = |path: &Path| real(path).unwrap_or_else(|| path.to_path_buf());
    if storage::is_remote(spec) || redacted(spec) != spec {
        // Secrets in an address must not be written to a file that others read.
        return redacted(spec);
    }
    let (folder, given) = (absolute(folder), Path::new(spec));
    let slash = if spec.ends_with('/') { "/" } else { "" };
    if given.is_absolute() {
        return match given.strip_prefix(&folder) {
            Ok(inside) if !inside.as_os_str().is_empty() => format!("{}{slash}", inside.to_string_lossy()),
            _ => spec.into(),
        };
    }
    // `..` at its beginning leads out of the real working directory; the rest, including links, is unchanged.
    let mut path = absolute(Path::new(""));
    let mut leading = true;
    for part in given.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if leading => {
                path.pop();
            }
            part => {
                leading = false;
                path.push(part);
            }
        }
    }
    let mut up = 0;
    let inside = folder.ancestors().find_map(|ancestor| {
        let found = path.strip_prefix(ancestor).ok();
        up += usize::from(found.is_none());
        found
    });
    let Some(inside) = inside else { return path.to_string_lossy().into_owned() };
    match format!("{}{}", "../".repeat(up), inside.to_string_lossy()) {
        here if here.is_empty() => "./".into(),
        there => format!("{}{slash}", there.trim_end_matches('/')),
    }
}

/// A folder without links and dots; a part that does not exist is joined by name.
fn real(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().ok().or_else(|| Some(real(folder.parent()?)?.join(folder.file_name()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_is_one_line_of_toml_and_reads_back_the_same() {
        for name in [
            "plain",
            "it's \"x\"",
            "a\nb",
            "a.b",
            "tab\t",
            "ends ",
            "\u{202E}x",
            "größe 🙂",
            "\u{7f}\u{0}",
            "\\",
            "#",
            "",
        ] {
            let line = format!("x = {}", quoted(name));
            assert_eq!(line.lines().count(), 1);
            let table: toml::Table = toml::from_str(&line).unwrap();
            assert_eq!(table["x"].as_str(), Some(name), "{line}");
        }
    }

    #[test]
    fn a_model_is_added_at_the_end_with_the_line_ends_of_the_file() {
        assert_eq!(appended("a = 1", "[[model]]\n"), "a = 1\n\n[[model]]\n");
        assert_eq!(appended("a = 1\n", "[[model]]\n"), "a = 1\n\n[[model]]\n");
        assert_eq!(appended("a = 1\r\n", "[[model]]\n"), "a = 1\r\n\r\n[[model]]\r\n");
    }

    #[test]
    fn a_path_is_relative_to_the_folder_of_the_file() {
        let here = real(Path::new("")).unwrap();
        let name = here.file_name().unwrap().to_str().unwrap();
        for (spec, folder, wanted) in [
            ("a/b.parquet", "", "a/b.parquet"),
            ("./a/", "", "a/"),
            ("a/b.parquet", "src", "../a/b.parquet"),
            ("src/b.parquet", "src", "b.parquet"),
            ("src/", "src", "./"),
            ("../x/*.csv", "", "../x/*.csv"),
            ("../x/date={day}/", "src/cli", "../../../x/date={day}/"),
            ("a.csv", "not/there/yet", "../../../a.csv"),
            ("s3://b/x/", "src", "s3://b/x/"),
            ("/nowhere/x.csv", "src", "/nowhere/x.csv"),
        ] {
            assert_eq!(relative(spec, Path::new(folder)), wanted, "{spec} in {folder}");
        }
        assert_eq!(relative(&format!("../{name}/a.csv"), Path::new("")), "a.csv");
        assert_eq!(relative(&format!("{}/src/a/", here.display()), Path::new("src")), "a/");
    }
}
