//! `driftsweep audit` and `outbox`

use clap::{Args, Subcommand};
use driftsweep_extensions::http::Http;
use driftsweep_ops::notify;
use driftsweep_ops::retrain::clock::ClockSetBack;
use driftsweep_ops::store::{AcceptedProblems, Access, Backfilled, OutboxMessage, VerifySummary};
use driftsweep_report::output::{Page, Table, TableCell};
use jiff::Timestamp;

use super::TextFormat;
use super::checkpoint::{Checkpoint, CheckpointArgs};
use super::decision::DecisionArgs;
use super::fleet_store::{FleetStoreArgs, code_after_reading};
use super::sink::JsonLines;
use super::time_arg::{TimeArg, now_or};

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Shows what was done to a job, event, model or budget, or to all
    Show(ShowArgs),
    /// Checks that no record was edited, removed or moved, and that every row of the store matches the records (exit
    /// code 15 if not)
    Verify(VerifyArgs),
    /// Writes all records, one line of JSON each
    Export(ExportArgs),
    /// Accepts the store in its current state, with all problems that `audit verify` names: later checks compare with
    /// this state
    Accept(AcceptArgs),
}

#[derive(Args)]
pub struct ShowArgs {
    /// The job, event, model or budget; all if absent
    #[arg(long, value_name = "NAME", default_value = "")]
    subject: String,
    #[command(flatten)]
    memory: FleetStoreArgs,
}

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// The last record as an earlier check showed it (NUMBER:HASH), kept outside of the store: detects even an audit
    /// that was rewritten completely [default: $DRIFTSWEEP_EXPECT]
    #[arg(long, value_name = "NUMBER:HASH", value_parser = Checkpoint::parse)]
    expect: Option<Checkpoint>,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
}

#[derive(Args)]
pub struct AcceptArgs {
    #[command(flatten)]
    decision: DecisionArgs,
    /// The last record (NUMBER:HASH), as `audit verify` has just shown it
    #[arg(long, value_name = "NUMBER:HASH", value_parser = Checkpoint::parse)]
    head: Checkpoint,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
}

/// The remedy for a store that does not match its audit.
pub const STORE_REMEDY: &str = "restore a backup, or review what `driftsweep audit verify` names and accept the store \
                                in its current state with `driftsweep audit accept`";

/// The store or its audit was tampered with.
pub const TAMPERED: u8 = 15;

/// The variable for `--expect`.
const EXPECT: &str = "DRIFTSWEEP_EXPECT";

pub fn run(command: &AuditCommand) -> anyhow::Result<u8> {
    match command {
        AuditCommand::Show(args) => show(args),
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Export(args) => export(args),
        AuditCommand::Accept(args) => accept(args),
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<u8> {
    let (_, mut store) = args.memory.open(Access::Read)?;
    let mut table = Table::new(["record", "at", "real time", "by", "what", "to", "figures"]);
    table.less_important(&["real time", "by", "figures"]);
    store.audit(&args.subject, |record| {
        table.row([
            TableCell::from(record.seq.to_string()),
            record.at.to_string().into(),
            record.clock_at.map(|clock| clock.to_string()).unwrap_or_default().into(),
            record.actor.into(),
            record.kind.into(),
            record.subject.into(),
            TableCell::long(&record.body.to_string()),
        ]);
        Ok(())
    })?;
    super::write(Page::from(table))?;
    Ok(code_after_reading(&mut store))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.memory.open_any(Access::Read)?;
    let named = match &args.expect {
        Some(expected) => Some(expected.clone()),
        None => super::variable(EXPECT)
            .map(|text| Checkpoint::parse(&text).map_err(|reason| super::invalid_value(EXPECT, &reason)))
            .transpose()?,
    };
    let kept = args.checkpoint.read(&args.memory.folder(), &fleet.name)?;
    let expected: Vec<(u64, &str)> = named.iter().chain(&kept).map(|one| (one.seq, &*one.hash)).collect();
    let verified = store.verify_audit(&expected)?;
    match args.format {
        TextFormat::Json => super::write_json(&verified)?,
        TextFormat::Table => {
            let head = verified.head.as_ref().map(|(seq, hash)| format!("; the last is {seq}:{hash}"));
            let word = if verified.problems.is_empty() { "whole" } else { "not whole" };
            let VerifySummary { records, rows, not_covered, .. } = &verified;
            let mut page = Page::new();
            page.line(format_args!("{records} records, {rows} rows: {word}{}", head.unwrap_or_default()));
            if *not_covered > 0 {
                page.line(format_args!("not covered: {not_covered} rows written by an older version"));
            }
            for Backfilled { record, after } in &verified.noted_again {
                page.line(format_args!(
                    "recorded again: an older version of driftsweep wrote up to record {after}; record {record} holds \
                     the rows as they were then"
                ));
            }
            for ClockSetBack { record, at, before } in &verified.clock_set_back {
                page.line(format_args!(
                    "clock: the record before record {record} is of {before}, and record {record} of {at}, by the real \
                     clock: a clock was wrong; this makes no answer late"
                ));
            }
            for AcceptedProblems { record, at, by, reason, problems } in &verified.accepted {
                page.line(format_args!("accepted: {problems} problems by {by} on {at} (record {record}): {reason}"));
            }
            for job in &verified.not_started {
                page.line(format_args!(
                    "not started: job {job} was in doubt then; cancel it with `driftsweep jobs cancel {job}`"
                ));
            }
            super::write(page)?;
        }
    }
    verified.problems.iter().for_each(|problem| error!("audit: {}", problem));
    if verified.problems.is_empty() {
        return Ok(0);
    }
    error!("audit: the store does not match its audit; {STORE_REMEDY}");
    Ok(TAMPERED)
}

fn accept(args: &AcceptArgs) -> anyhow::Result<u8> {
    let (fleet, mut store) = args.decision.memory.open_any(Access::Existing)?;
    let (who, now) = args.decision.actor_and_time(&fleet)?;
    // The rows of a store of an older version are recorded first.
    store.transaction(|_| Ok(()))?;
    let kept = args.checkpoint.read(&args.decision.memory.folder(), &fleet.name)?;
    let expected: Vec<(u64, &str)> = kept.iter().map(|one| (one.seq, &*one.hash)).collect();
    let verified = store.verify_audit(&expected)?;
    let shown = match &verified.head {
        Some((seq, hash)) => format!("{seq}:{hash}"),
        None => return Err(super::invalid_value("store", "has no record yet: the next tick writes the first one")),
    };
    if shown != format!("{}:{}", args.head.seq, args.head.hash) {
        let reason = format!("is not the last record, which is {shown} now; run `driftsweep audit verify` again");
        return Err(super::invalid_value("--head", &reason));
    }
    if verified.problems.is_empty() {
        say!("the store matches its audit: there is nothing to accept");
        return Ok(0);
    }
    verified.problems.iter().for_each(|problem| warn!("accepted: {}", problem));
    let head = (args.head.seq, args.head.hash.clone());
    let in_doubt = store.accept(now, (&who, &args.decision.reason), &head, &expected, &verified.problems)?;
    args.checkpoint.write(&fleet.name, &mut store)?;
    say!("{} problems are accepted by {who}", verified.problems.len());
    for job in in_doubt {
        say!("job {job} was in doubt and is not started; cancel it with `driftsweep jobs cancel {job}`");
    }
    Ok(0)
}

fn export(args: &ExportArgs) -> anyhow::Result<u8> {
    let (_, mut store) = args.memory.open(Access::Read)?;
    let mut lines = JsonLines::new();
    let written = store.audit("", |record| lines.write(&record));
    lines.finish(written)?;
    Ok(code_after_reading(&mut store))
}

#[derive(Subcommand)]
pub enum OutboxCommand {
    /// Lists messages that are not sent yet, and those that failed
    List(OutboxArgs),
    /// Sends the messages that are due
    Send(OutboxArgs),
    /// Queues failed messages for sending again
    Retry(OutboxArgs),
}

#[derive(Args)]
pub struct OutboxArgs {
    #[command(flatten)]
    memory: FleetStoreArgs,
    /// Override the current time; same format as in `tick` [default: now]
    #[arg(long, value_name = "TIME")]
    now: Option<TimeArg>,
    /// table or json
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: TextFormat,
}

pub fn outbox(command: &OutboxCommand) -> anyhow::Result<u8> {
    let (OutboxCommand::List(args) | OutboxCommand::Send(args) | OutboxCommand::Retry(args)) = command;
    let access = if matches!(command, OutboxCommand::List(_)) { Access::Read } else { Access::Existing };
    let (fleet, mut store) = args.memory.open(access)?;
    let now = now_or(args.now.as_ref(), &fleet.zone, Timestamp::now())?;
    match command {
        OutboxCommand::List(_) => {
            let mut messages = store.messages_in("pending")?;
            messages.extend(store.messages_in("dead")?);
            if args.format == TextFormat::Json {
                super::write_json(&messages)?;
                return Ok(0);
            }
            let mut table = Table::new(["record", "channel", "about", "at", "state", "tried", "next", "error"]);
            table.less_important(&["next", "tried", "at", "about"]);
            for message in &messages {
                table.row([
                    message.seq.to_string(),
                    message.channel.clone(),
                    message.topic.clone(),
                    message.at.to_string(),
                    message.state.clone(),
                    message.attempts.to_string(),
                    if message.state == "dead" { String::new() } else { message.next_at.to_string() },
                    message.error.clone().unwrap_or_default(),
                ]);
            }
            super::write(Page::from(table))?;
        }
        OutboxCommand::Send(_) => {
            let http = Http::new()?;
            let delivered = store.with_lock("outbox", |store| notify::deliver(&fleet, store, &http, now, &|| false))?;
            super::write_json(&delivered)?;
        }
        OutboxCommand::Retry(_) => {
            let dead = store.messages_in("dead")?;
            store.transaction(|store| {
                dead.iter().try_for_each(|message| {
                    let again = OutboxMessage { state: "pending".into(), attempts: 0, next_at: now, ..message.clone() };
                    store.set_message(&again)
                })
            })?;
            say!("{} messages are queued again", dead.len());
        }
    }
    Ok(0)
}
