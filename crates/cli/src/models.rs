//! `driftsweep models`: the registry of trained models.

use std::path::Path;

use clap::{Args, Subcommand};
use driftsweep_common::escape::for_display;
use driftsweep_common::storage;
use driftsweep_extensions::executor::TrainedModel;
use driftsweep_ops::retrain::version::check_alias;
use driftsweep_ops::retrain::{ModelVersion, VersionName, VersionStatus};
use driftsweep_ops::scheduler::{self, VersionDecision};
use driftsweep_ops::store::{Access, Store};
use driftsweep_report::output::{Page, Table};
use serde::Serialize;

use super::decision::DecisionArgs;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::{TextFormat, model_card};

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Lists the versions of each model
    List(ListArgs),
    /// Shows a version: its source, training, features, figures and aliases
    Show(ShowArgs),
    /// Registers a model that was trained elsewhere, as a candidate
    Register(RegisterArgs),
    /// Makes a version the champion: the one in production. The former champion is retired
    Promote(VersionArgs),
    /// Retires a version
    Retire(VersionArgs),
    /// Gives a version an alias, which another version loses
    Alias(AliasArgs),
    /// Deletes an alias
    Unalias(UnaliasArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only versions with this status: candidate, champion, retired or rejected
    #[arg(long = "in", value_name = "STATUS")]
    in_status: Option<VersionStatus>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct ShowArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The version: a number, champion, latest, or an alias
    #[arg(value_name = "VERSION")]
    version: VersionName,
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct RegisterArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// Its folder, file or address. From a folder of `driftsweep train`, model.json is read
    #[arg(value_name = "SOURCE")]
    source: String,
    #[command(flatten)]
    decision: DecisionArgs,
    /// SHA-256 of its artefact, where it is no folder of `driftsweep train`
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
}

#[derive(Args)]
pub struct VersionArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The version: a number, latest, or an alias
    #[arg(value_name = "VERSION")]
    version: VersionName,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct AliasArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The alias: letters, digits, '-', '_' and '.'
    #[arg(value_name = "ALIAS", value_parser = alias)]
    alias: String,
    /// The version: a number, champion, latest, or another alias
    #[arg(value_name = "VERSION")]
    version: VersionName,
    #[command(flatten)]
    decision: DecisionArgs,
}

#[derive(Args)]
pub struct UnaliasArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The alias
    #[arg(value_name = "ALIAS")]
    alias: String,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// An alias, checked.
fn alias(text: &str) -> Result<String, String> {
    check_alias(text).map(|()| text.to_owned())
}

/// A version with its aliases.
#[derive(Serialize)]
struct ListedVersion {
    #[serde(flatten)]
    version: ModelVersion,
    aliases: Vec<String>,
}

pub fn run(command: &ModelsCommand) -> anyhow::Result<u8> {
    match command {
        ModelsCommand::List(args) => list(args),
        ModelsCommand::Show(args) => show(args),
        ModelsCommand::Register(args) => register(args),
        ModelsCommand::Promote(args) => promote(args),
        ModelsCommand::Retire(args) => retire(args),
        ModelsCommand::Alias(args) => set_alias(args),
        ModelsCommand::Unalias(args) => delete_alias(args),
    }
}

/// Adds the aliases of versions.
fn with_aliases(store: &mut Store, versions: Vec<ModelVersion>) -> anyhow::Result<Vec<ListedVersion>> {
    let known = store.aliases(None)?;
    let listed = versions.into_iter().map(|version| {
        let own = known.iter().filter(|alias| alias.model == version.model && alias.version == version.version);
        ListedVersion { aliases: own.map(|alias| alias.alias.clone()).collect(), version }
    });
    Ok(listed.collect())
}

fn list(args: &ListArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let versions = store.versions(args.model.as_deref())?;
    super::known_model(&fleet, args.model.as_deref(), !versions.is_empty())?;
    let wanted = |version: &ModelVersion| args.in_status.is_none_or(|status| status == version.status);
    let versions = with_aliases(&mut store, versions.into_iter().filter(wanted).collect())?;
    if args.format == TextFormat::Json {
        super::write_json(&versions)?;
        return Ok(code_after_reading(&mut store));
    }
    let mut table =
        Table::new(["model", "version", "status", "since", "trained up to", "figures", "aliases", "digest", "reason"]);
    table.less_important(&["digest", "since", "trained up to", "aliases", "figures", "reason"]);
    for ListedVersion { version, aliases } in &versions {
        table.row([
            version.model.clone(),
            version.version.to_string(),
            version.status.to_string(),
            version.since.to_string(),
            version.trained.training.map(|window| window.to.to_string()).unwrap_or_default(),
            figures(&version.trained).join(", "),
            aliases.join(", "),
            version.trained.digest.as_deref().and_then(|digest| digest.get(..12)).unwrap_or_default().into(),
            version.reason.clone(),
        ]);
    }
    super::write(Page::from(table.without_empty("aliases")))?;
    Ok(code_after_reading(&mut store))
}

/// Figures of a model in words.
fn figures(trained: &TrainedModel) -> Vec<String> {
    trained.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect()
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let found = store.version(&args.model, &args.version)?;
    let Some(version) = found else {
        super::known_model(&fleet, Some(&args.model), !store.versions(Some(&args.model))?.is_empty())?;
        let reason = format!("there is no version {}; `driftsweep models list` shows them", args.version);
        return Err(super::invalid_value(&format!("model '{}'", args.model), &reason));
    };
    for ListedVersion { version, aliases } in with_aliases(&mut store, vec![version])? {
        match args.format {
            TextFormat::Json => super::write_json(&ListedVersion { version, aliases })?,
            TextFormat::Table => super::write(page(&version, &aliases))?,
        }
    }
    Ok(code_after_reading(&mut store))
}

fn page(version: &ModelVersion, aliases: &[String]) -> Page {
    let ModelVersion { trained, .. } = version;
    let mut page = Page::new();
    page.line(format_args!("version {} of {}", version.version, version.model));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            page.line(format_args!("  {name:<10} {value}"));
        }
    };
    line("status", &format!("{} since {}: {}", version.status, version.since, version.reason));
    line("aliases", &aliases.join(", "));
    line("source", &trained.source);
    line("digest", trained.digest.as_deref().unwrap_or_default());
    line("registered", &format!("{} by {}", version.registered_at, version.registered_by));
    if let Some(job) = &version.job {
        line("job", &format!("{job}, attempt {}", version.attempt.unwrap_or(1)));
    }
    line("trainer", trained.trainer.as_deref().unwrap_or_default());
    if let Some(window) = trained.training {
        let from = window.from.map(|from| format!("from {from} ")).unwrap_or_default();
        let rows = window.rows.map(|rows| format!("{rows} labelled rows ")).unwrap_or_default();
        line("training", &format!("{rows}{from}up to {}", window.to));
    }
    if let (Some(set), known) = (&trained.feature_set, &trained.feature_version) {
        let known = known.as_ref().map(|known| format!(", version {known}")).unwrap_or_default();
        line("features", &format!("{set}{known}"));
    }
    line("figures", &figures(trained).join(", "));
    page
}

fn register(args: &RegisterArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    super::model_of(&fleet, &args.model)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let folder = Path::new(&args.source);
    let trained = match !storage::is_remote(&args.source) && folder.join(model_card::CARD).exists() {
        true if args.digest.is_some() => {
            return Err(super::invalid_value("--digest", "is not needed: model.json has it; leave it out"));
        }
        true => {
            let card = model_card::read(folder)?;
            model_card::check_artefact(folder, &card)?;
            if let Some(own) = card["model"].as_str().filter(|own| *own != args.model) {
                warn!("{}: its model.json is of model '{own}'", folder.display());
            }
            model_card::trained(&card, &args.source)
        }
        false => {
            if !storage::is_remote(&args.source) && !folder.exists() {
                return Err(super::invalid_value(
                    "SOURCE",
                    &format!("{}: there is no such file", for_display(&args.source)),
                ));
            }
            TrainedModel { source: args.source.clone(), digest: args.digest.clone(), ..TrainedModel::default() }
        }
    };
    let decision = VersionDecision { by: &by, reason: &args.decision.reason, at };
    // A path on the command line is relative to the working directory.
    let version =
        store.transaction(|store| scheduler::register(&fleet, store, &args.model, trained, Path::new(""), decision))?;
    say!("{}: version {} is registered, as a candidate", version.model, version.version);
    Ok(0)
}

fn promote(args: &VersionArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let decision = VersionDecision { by: &by, reason: &args.decision.reason, at };
    if let Some(version) = store.version(&args.model, &args.version)? {
        check_source(&version)?;
    }
    let (version, former) =
        store.transaction(|store| scheduler::promote(&fleet, store, (&args.model, &args.version), decision))?;
    let former = former.map(|former| format!(", in place of version {}", former.version)).unwrap_or_default();
    say!("{}: version {} is the champion{former}", version.model, version.version);
    Ok(0)
}

/// Refuses a version whose folder holds another model by now. What is not on this machine cannot be checked.
fn check_source(version: &ModelVersion) -> anyhow::Result<()> {
    let folder = Path::new(&version.trained.source);
    if storage::is_remote(&version.trained.source) {
        return Ok(());
    }
    if !folder.exists() {
        warn!("{}: it is not there on this machine; trainings that compare with it will fail", folder.display());
    }
    if !folder.join(model_card::CARD).exists() {
        return Ok(());
    }
    let card = model_card::read(folder)?;
    model_card::check_artefact(folder, &card)?;
    match &version.trained.digest {
        Some(digest) if card["digest"] != **digest => {
            let reason = "its folder holds another model by now; let each training have a folder of its own";
            Err(super::invalid_value(&format!("version {}", version.version), reason))
        }
        _ => Ok(()),
    }
}

fn retire(args: &VersionArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let decision = VersionDecision { by: &by, reason: &args.decision.reason, at };
    let version =
        store.transaction(|store| scheduler::retire(&fleet, store, (&args.model, &args.version), decision))?;
    say!("{}: version {} is retired", version.model, version.version);
    Ok(0)
}

fn set_alias(args: &AliasArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let decision = VersionDecision { by: &by, reason: &args.decision.reason, at };
    let named = (&*args.model, &args.version);
    let version = store.transaction(|store| scheduler::set_alias(&fleet, store, named, &args.alias, decision))?;
    say!("{}: {} is version {}", version.model, args.alias, version.version);
    Ok(0)
}

fn delete_alias(args: &UnaliasArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open(Access::Existing)?;
    let (by, at) = args.decision.actor_and_time(&fleet)?;
    let decision = VersionDecision { by: &by, reason: &args.decision.reason, at };
    store.transaction(|store| scheduler::delete_alias(&fleet, store, (&args.model, &args.alias), decision))?;
    say!("{}: {} names no version any more", args.model, args.alias);
    Ok(0)
}
