//! Signed answers of approvers, from the command line and with the real `ssh-keygen`; on both stores.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use driftsweep_extensions::http::Http;
use driftsweep_ops::notify;
use driftsweep_ops::retrain::signature::NAMESPACE;
use driftsweep_ops::retrain::{Job, JobState};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::jobs::{Yard, add_event, open, pass};
use crate::support::keys::Keys;
use crate::support::output::all_output;
use crate::support::server;
use crate::support::server::answer;

/// Jobs that wait for approval, and the command line.
struct Desk<'a> {
    yard: &'a Yard,
    store: &'a str,
    now: Timestamp,
}

impl<'a> Desk<'a> {
    /// A job for each of the ids, by which its name begins, of the model of the same number.
    fn new(yard: &'a Yard, store: &'a str, ids: &[&str]) -> Self {
        Self::at(yard, store, ids, Timestamp::now())
    }

    /// The same at a time. A question of long ago is one of a replayed night: the real clock does not end it.
    fn at(yard: &'a Yard, store: &'a str, ids: &[&str], now: Timestamp) -> Self {
        let desk = Self { yard, store, now };
        for (id, model) in ids.iter().zip(&yard.fleet.models) {
            // On a server events of all fleets have names of their own.
            let id = format!("{id}-{}", yard.fleet.name);
            add_event(&mut open(store, &yard.fleet), &id, &model.name, desk.now);
        }
        desk.pass(desk.now);
        desk
    }

    /// Runs of the same name in another store are others.
    fn state(&self) -> PathBuf {
        let name = if self.store.starts_with("postgres") { "state-of-server" } else { "state" };
        self.yard.folder.path().join(name)
    }

    fn pass(&self, now: Timestamp) {
        pass(&self.yard.fleet, self.store, &self.state(), &Http::new().unwrap(), now, &mut |_| ());
    }

    fn run(&self, args: &[&str]) -> Output {
        let folder = self.yard.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftsweep"));
        command.args(args).arg(folder.join("fleet.toml")).arg("--state").arg(self.state());
        command.env("DRIFTSWEEP_STORE", self.store).env_remove("USER").output().unwrap()
    }

    /// An answer of ana's; words that come later win.
    fn answer(&self, word: &str, id: &str, more: &[&str]) -> Output {
        let by: &[&str] = if more.contains(&"--by") { &[] } else { &["--by", "ana"] };
        let reason: &[&str] = if more.contains(&"--reason") { &[] } else { &["--reason", "it pays"] };
        let now = self.now.to_string();
        let is_replayed = Timestamp::now().duration_since(self.now) > SignedDuration::from_hours(24);
        let now: &[&str] = if is_replayed && !more.contains(&"--now") { &["--now", &now] } else { &[] };
        self.run(&[&[word, id], by, reason, more, now].concat())
    }

    /// Refused, and nothing has changed.
    fn refuses(&self, word: &str, id: &str, more: &[&str], words: &str) {
        let (before, records) = (self.job(id), self.records(id).len());
        let output = self.answer(word, id, more);
        let told = all_output(&output);
        assert_eq!(output.status.code(), Some(2), "{word} {more:?}: {told}");
        assert!(told.contains(words), "{word} {more:?}: '{words}' is not in {told}");
        assert_eq!((self.job(id), self.records(id).len()), (before, records));
    }

    fn takes(&self, word: &str, id: &str, more: &[&str]) {
        let output = self.answer(word, id, more);
        assert!(output.status.success(), "{word} {more:?}: {}", all_output(&output));
    }

    fn job(&self, id: &str) -> Job {
        open(self.store, &self.yard.fleet).jobs(id).unwrap().remove(0).job
    }

    fn records(&self, id: &str) -> Vec<(String, Value)> {
        let mut records = Vec::new();
        let mut store = open(self.store, &self.yard.fleet);
        let take = |record: driftsweep_ops::store::Record| {
            records.push((record.kind, record.body));
            Ok(())
        };
        store.audit(&self.job(id).id, take).unwrap();
        records
    }

    /// Writes the statement of an answer, and has a key sign it: both files, as arguments.
    fn signed(&self, keys: &Keys, key: &str, name: &str, word: &str, id: &str, more: &[&str]) -> [String; 4] {
        let statement = self.yard.folder.path().join(name);
        let _ = fs::remove_file(&statement);
        let shown = statement.display().to_string();
        self.takes(word, id, &[more, &["--statement", &shown]].concat());
        let signature = keys.sign(key, &statement);
        ["--statement".into(), shown, "--signature".into(), signature]
    }
}

fn with<'a>(files: &'a [String; 4], more: &[&'a str]) -> Vec<&'a str> {
    files.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// Ana and bo are asked first, then cto; a training costs $600.
fn head(keys: &Keys, signatures: &str, more: &str) -> String {
    let of = |name| keys.public(name);
    format!(
        "[approval]\napprovers = [[\"ana\", \"bo\"], [\"cto\"]]\nsignatures = \"{signatures}\"\nkeys = {{ ana = [\"{}\"], bo = \"{}\", \
         cto = \"{}\" }}\n{more}\n[defaults.retrain]\ncpu_hours = 10\ncpu_rate = 60\ncommand = [\"true\"]\n",
        of("ana"),
        of("bo"),
        of("cto")
    )
}

#[test]
fn an_answer_that_must_be_signed_is_taken_with_the_key_of_its_approver_only() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto", "eve"]) else { return };
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = told.clone();
    let url = server::http(move |request| {
        log.lock().unwrap().push(request.body.clone());
        answer(200, "ok")
    });
    let chat = format!("[[notify]]\nname = \"chat\"\nwebhook = {{ url = \"{url}\" }}");
    let head = head(&keys, "high_stakes", &chat) + "stakes = \"high\"\n";
    let yard = Yard::new(&["m0".into(), "m1".into()], &head);
    for store in yard.stores() {
        let desk = Desk::new(&yard, &store, &["aa", "bb"]);
        // Whoever is asked is told that it must be signed, and how.
        told.lock().unwrap().clear();
        let mut memory = open(&store, &yard.fleet);
        notify::deliver(&yard.fleet, &mut memory, &Http::new().unwrap(), desk.now, &|| false).unwrap();
        let sent = told.lock().unwrap().clone();
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert!(sent.iter().all(|text| text.contains("The answer must be signed: add --sign KEYFILE")), "{sent:?}");
        let page = all_output(&desk.run(&["jobs", "show", "aa"]));
        let wanted = "the answer must be signed (signatures = \"high_stakes\": the model is marked high-stakes)";
        assert!(page.contains(wanted) && page.contains("--reason TEXT --sign KEYFILE"), "{page}");

        for word in ["approve", "reject"] {
            desk.refuses(word, "aa", &[], "the answer must be signed");
            desk.refuses(word, "aa", &[], "add --sign KEYFILE; or, for a key with a passphrase");
            desk.refuses(word, "aa", &["--sign", &keys.shown("bo")], "is that of 'bo', and not of 'ana'");
            desk.refuses(word, "aa", &["--sign", &keys.shown("eve")], "not among the keys of 'ana' in the fleet file");
            // Somebody who is no approver is not helped by a key.
            desk.refuses(word, "aa", &["--by", "eve", "--sign", &keys.shown("eve")], "'eve' is not an approver");
        }
        desk.takes("approve", "aa", &["--sign", &keys.shown("ana")]);
        desk.takes("reject", "bb", &["--by", "bo", "--sign", &keys.shown("bo")]);

        // What was signed is in the audit and with the job, and OpenSSH finds it good.
        let job = desk.job("aa");
        assert_eq!(job.state.name(), "queued");
        let kept = serde_json::to_value(job.grants[0].signature.as_ref().unwrap()).unwrap();
        for (id, kind, place, name) in
            [("aa", "job.approve", "/grant/signature", "ana"), ("bb", "job.reject", "/signature", "bo")]
        {
            let records = desk.records(id);
            let body = &records.iter().find(|(of, _)| of == kind).unwrap().1;
            let signature = body.pointer(place).unwrap();
            assert!(name != "ana" || *signature == kept, "{signature}");
            let statement = signature["statement"].as_str().unwrap();
            let allowed = format!("{name} {}\n", keys.public(name));
            fs::write(keys.path("allowed"), allowed).unwrap();
            fs::write(keys.path("sig"), signature["signature"].as_str().unwrap()).unwrap();
            fs::write(keys.path("statement"), statement).unwrap();
            let (allowed, sig) = (keys.shown("allowed"), keys.shown("sig"));
            let verify = ["-Y", "verify", "-f", &allowed, "-I", name, "-n", NAMESPACE, "-s", &sig];
            let input = Stdio::from(fs::File::open(keys.path("statement")).unwrap());
            let output = keys.command("ssh-keygen").args(verify).stdin(input).output().unwrap();
            assert!(output.status.success() && all_output(&output).contains("Good"), "{}", all_output(&output));
            let page = all_output(&desk.run(&["jobs", "show", id]));
            let wanted = format!("signed with {}, a key of {name}", keys.fingerprint(name));
            assert!(page.contains(&wanted), "'{wanted}' is not in {page}");
        }
        let verified = desk.run(&["audit", "verify"]);
        assert!(verified.status.success(), "{}", all_output(&verified));

        // A key that was taken out of the fleet file since is said to be unknown, not forged.
        let file = yard.folder.path().join("fleet.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&keys.public("ana"), &keys.public("eve"))).unwrap();
        let page = all_output(&desk.run(&["jobs", "show", "aa"]));
        assert!(page.contains("a key that the fleet file does not list (any more)"), "{page}");
        fs::write(&file, text).unwrap();
        // One that was edited in the store is.
        let edit = |column: &str| format!("REPLACE({column}, 'it pays', 'it_pays')");
        crate::support::jobs::sql(
            &store,
            &format!("UPDATE job SET body = {} WHERE id LIKE 'aa-%' AND fleet = '{}'", edit("body"), yard.fleet.name),
        );
        let page = all_output(&desk.run(&["jobs", "show", "aa"]));
        assert!(page.contains("NOT SIGNED: the signature was not made for this statement"), "{page}");
    }
}

#[test]
fn a_signature_is_good_for_one_answer_to_one_question() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto"]) else { return };
    // The second job's training would overrun the budget.
    let yard = Yard::new(&["m0".into(), "m1".into(), "m2".into()], &head(&keys, "always", "[budget]\nmonth = 100"));
    let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 30);
    for store in yard.stores() {
        let desk = Desk::at(&yard, &store, &["aa", "bb", "cc"], long_ago);
        let yes = desk.signed(&keys, "ana", "yes", "approve", "aa", &[]);
        let again = |more: &[&str]| desk.answer("approve", "aa", &[&["--statement", &*yes[1]], more].concat());
        assert!(
            all_output(&again(&[])).contains("exists already; name a new file"),
            "a statement is never overwritten"
        );
        assert_eq!(desk.job("aa").state.name(), "awaiting_approval", "a statement decides nothing");
        let plain = |more| with(&yes, more);
        let differs = "the signature is for another statement: ";
        desk.refuses("reject", "aa", &plain(&[]), &format!("{differs}decision is \"reject\", and \"approve\""));
        desk.refuses("approve", "bb", &plain(&[]), "; job is \"bb-");
        desk.refuses("approve", "aa", &plain(&["--by", "bo"]), &format!("{differs}by is \"bo\", and \"ana\""));
        desk.refuses("approve", "aa", &plain(&["--reason", "x"]), &format!("{differs}reason is \"x\""));

        // Files that were edited or exchanged.
        let text = fs::read_to_string(&yes[1]).unwrap();
        let file = |name: &str, text: &str| {
            let path = yard.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let edits = [
            ("600.00", "1.00", "estimate is "),
            ("\"at\":\"2", "\"at\":\"1", "the signature was not made for this statement"),
            ("}", "}\n", "without a line end"),
            ("{", "{ ", "its text was changed"),
            (&text, "", "it is not a statement"),
            (&text, "{}", "it is not a statement"),
            (&text, "-----BEGIN SSH SIGNATURE-----", "it is not a statement"),
        ];
        for (from, to, words) in edits {
            let edited = match from {
                "}" => text.clone() + "\n",
                from => text.replacen(from, to, 1),
            };
            assert_ne!(edited, text, "{from}");
            let edited = file("edited", &edited);
            desk.refuses("approve", "aa", &["--statement", &edited, "--signature", &yes[3]], words);
        }
        let later = text.replace(&text[7..11], "9999");
        desk.refuses(
            "approve",
            "aa",
            &["--statement", &file("later", &later), "--signature", &yes[3]],
            "correct the clock",
        );
        let armoured = fs::read_to_string(&yes[3]).unwrap();
        for (signature, words) in [
            ("", "is not a signature as"),
            (&*text, "is not a signature as"),
            (&*armoured.replacen('A', "B", 3), "signature"),
            (&armoured[..armoured.len() / 2], "is not a signature as"),
        ] {
            let edited = file("edited.sig", signature);
            desk.refuses("approve", "aa", &["--statement", &yes[1], "--signature", &edited], words);
        }
        fs::write(yard.folder.path().join("binary"), [0xff, 0, 0xfe]).unwrap();
        let binary = yard.folder.path().join("binary").display().to_string();
        desk.refuses("approve", "aa", &["--statement", &yes[1], "--signature", &binary], "is not text");
        let pipe = yard.folder.path().join("pipe");
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        }
        let pipe = pipe.display().to_string();
        desk.refuses("approve", "aa", &["--statement", &yes[1], "--signature", &pipe], "is not a regular file");
        desk.refuses("approve", "aa", &["--statement", &pipe, "--signature", &yes[3]], "is not a regular file");
        // Made for another purpose: the same key signs commits, too.
        let _ = fs::remove_file(&yes[3]);
        keys.ssh("ssh-keygen", &["-q", "-Y", "sign", "-n", "git", "-f", &keys.shown("ana"), &yes[1]]);
        desk.refuses("approve", "aa", &plain(&[]), "it was made for 'git'; sign with -n approval@driftsweep.io");
        fs::write(&yes[3], &armoured).unwrap();
        // By somebody else.
        let of_bo = keys.sign("bo", Path::new(&yes[1]));
        desk.refuses("approve", "aa", &plain(&[]), "is that of 'bo', and not of 'ana'");
        fs::write(of_bo, &armoured).unwrap();

        // The question has gone on to the next level: what cto signed at the first is of another question.
        let early = desk.signed(&keys, "cto", "early", "approve", "cc", &["--by", "cto"]);
        // As it is, it is taken.
        desk.takes("approve", "aa", &plain(&[]));
        desk.refuses("approve", "aa", &plain(&[]), "there is no approval request");
        let later = desk.now + SignedDuration::from_hours(5);
        desk.pass(later);
        let JobState::AwaitingApproval(request) = desk.job("cc").state else { panic!() };
        assert_eq!(request.level, 1);
        let later = ["--now", &*later.to_string()];
        desk.refuses(
            "approve",
            "cc",
            &with(&early, &[&["--by", "cto"], &later[..]].concat()),
            &format!("{differs}question is"),
        );

        // A second question of the first job, about the budget; what was signed for the first does not answer it.
        let JobState::AwaitingApproval(request) = desk.job("aa").state else { panic!("{:?}", desk.job("aa")) };
        assert!(request.is_of_budgets());
        let by = request.overruns()[0].by;
        let amounts = [by.plain(), format!("{}", by.units() + 1.0)];
        let overrun = |i: usize| [&["--overrun", &*amounts[i]], &later[..]].concat();
        desk.refuses("approve", "aa", &plain(&overrun(0)), differs);
        // What was signed for one amount does not allow another.
        let allowed = desk.signed(&keys, "ana", "overrun", "approve", "aa", &overrun(0));
        desk.refuses("approve", "aa", &with(&allowed, &overrun(1)), &format!("{differs}overruns is"));
        desk.takes("approve", "aa", &with(&allowed, &overrun(0)));
        assert_eq!(desk.job("aa").grants.len(), 2);
    }
}

#[test]
fn keys_with_a_passphrase_and_keys_in_an_agent_sign_by_ssh_keygen() {
    let Some(keys) = Keys::new(&["bo", "cto"]) else { return };
    fs::write(keys.path("askpass"), "#!/bin/sh\necho 'pass phrase'\n").unwrap();
    fs::set_permissions(keys.path("askpass"), fs::Permissions::from_mode(0o755)).unwrap();
    keys.make("ana", "ed25519", "pass phrase");
    let yard = Yard::new(&["m0".into(), "m1".into(), "m2".into()], &head(&keys, "always", ""));
    for store in yard.stores() {
        let desk = Desk::new(&yard, &store, &["aa", "bb", "cc"]);
        desk.refuses(
            "approve",
            "aa",
            &["--sign", &keys.shown("ana")],
            "has a passphrase; sign with ssh-keygen instead",
        );
        let files = desk.signed(&keys, "ana", "statement", "approve", "aa", &[]);
        desk.takes("approve", "aa", &with(&files, &[]));

        // In an agent: the file that is named is the public key.
        let socket = keys.shown("agent");
        let _ = fs::remove_file(&socket);
        let started = keys.ssh("ssh-agent", &["-s", "-a", &socket]);
        let agent = started.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        let add = keys.command("ssh-add").arg(keys.path("ana")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        let statement = yard.folder.path().join("of-agent");
        let _ = fs::remove_file(&statement);
        let _ = fs::remove_file(format!("{}.sig", statement.display()));
        let shown = statement.display().to_string();
        desk.takes("reject", "bb", &["--statement", &shown]);
        let sign = ["-q", "-Y", "sign", "-n", NAMESPACE, "-f", &keys.shown("ana.pub"), &shown];
        let signed =
            keys.command("ssh-keygen").args(sign).env("SSH_AUTH_SOCK", &socket).env_remove("SSH_ASKPASS").output();
        Command::new("kill").arg(agent).status().unwrap();
        assert!(add.status.success(), "{}", all_output(&add));
        let signed = signed.unwrap();
        assert!(signed.status.success(), "{}", all_output(&signed));
        desk.takes("reject", "bb", &["--statement", &shown, "--signature", &format!("{shown}.sig")]);

        // Through a pipe, nothing but the statement is written.
        let output = desk.answer("approve", "cc", &["--by", "bo", "--statement", "-"]);
        assert!(output.status.success(), "{}", all_output(&output));
        let piped = yard.folder.path().join("piped");
        fs::write(&piped, &output.stdout).unwrap();
        let signature = keys.sign("bo", &piped);
        let piped = piped.display().to_string();
        desk.takes("approve", "cc", &["--by", "bo", "--statement", &piped, "--signature", &signature]);
        assert_eq!(desk.job("bb").state.name(), "rejected");
    }
}

#[test]
fn a_private_key_is_refused_where_others_may_read_it_and_is_never_told() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto"]) else { return };
    fs::write(keys.path("askpass"), "#!/bin/sh\necho 'pass phrase'\n").unwrap();
    keys.make("locked", "ed25519", "pass phrase");
    keys.make("rsa", "rsa", "");
    keys.make("ecdsa", "ecdsa", "");
    let pem = ["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", &keys.shown("pem")];
    keys.ssh("ssh-keygen", &pem);
    let whole = fs::read_to_string(keys.path("ana")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let write = |name: &str, text: &[u8], mode: u32| {
        fs::write(keys.path(name), text).unwrap();
        fs::set_permissions(keys.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("half", &whole.as_bytes()[..whole.len() / 2], 0o600);
    write("body", lines[1..lines.len() - 1].join("\n").as_bytes(), 0o600);
    write("upper", whole.to_uppercase().as_bytes(), 0o600);
    write("empty", b"", 0o600);
    write("binary", &[0xff, 0xfe, 0], 0o600);
    assert!(Command::new("mkfifo").arg(keys.path("pipe")).status().unwrap().success());
    write("large", &vec![b'x'; (1 << 20) + 1], 0o600);
    write("windows", whole.replace('\n', "\r\n").as_bytes(), 0o600);
    let yard = Yard::new(&["m0".into(), "m1".into(), "m2".into()], &head(&keys, "always", ""));
    let store = yard.folder.path().join("store.sqlite").display().to_string();
    let desk = Desk::new(&yard, &store, &["aa", "bb", "cc"]);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o777] {
        write("open", whole.as_bytes(), mode);
        let words = format!("others may read this private key (mode {mode:o}); chmod 600 it");
        desk.refuses("approve", "aa", &["--sign", &keys.shown("open")], &words);
    }
    for (name, words) in [
        ("locked", "has a passphrase; sign with ssh-keygen instead: give --statement FILE in place of --sign"),
        ("rsa", "only Ed25519 is"),
        ("ecdsa", "only Ed25519 is"),
        ("pem", "`ssh-keygen -p -f KEYFILE` rewrites it"),
        ("half", "is not a private key of OpenSSH, or it is damaged"),
        ("body", "is not a private key of OpenSSH, or it is damaged"),
        ("upper", "is not a private key of OpenSSH, or it is damaged"),
        ("empty", "is not a private key of OpenSSH"),
        ("binary", "is not a private key of OpenSSH"),
        ("", "is a folder"),
        ("pipe", "is not a regular file"),
        ("large", "has more than 1048576 bytes"),
        ("gone", "gone"),
    ] {
        if !name.is_empty() && name != "gone" {
            fs::set_permissions(keys.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = keys.shown(name);
        let output = desk.answer("approve", "aa", &["--sign", &path]);
        let told = all_output(&output);
        assert!(!output.status.success() && told.contains(words), "{name}: '{words}' is not in {told}");
        // Not one line of any key is in a message.
        let secrets = lines[1..lines.len() - 1].iter().map(|line| &line[..20]);
        assert!(!secrets.chain(["pass phrase"]).any(|secret| told.contains(secret)), "{told}");
    }
    fs::set_permissions(keys.path("ana.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    desk.refuses("approve", "aa", &["--sign", &keys.shown("ana.pub")], "is a public key; give the private one");
    // Where others may not, it is read: also with the line ends of Windows, or by its owner only.
    fs::set_permissions(keys.path("ana"), fs::Permissions::from_mode(0o400)).unwrap();
    desk.takes("approve", "aa", &["--sign", &keys.shown("ana")]);
    desk.takes("approve", "bb", &["--sign", &keys.shown("windows")]);
    // Neither the record nor the outbox nor the page holds it.
    let all = format!("{:?}{}", desk.records("aa"), all_output(&desk.run(&["jobs", "show", "aa", "--format", "json"])));
    assert!(all.contains("BEGIN SSH SIGNATURE") && !all.contains("PRIVATE KEY"), "{all}");

    // Never over a file that is there: it may be a key.
    desk.refuses("approve", "cc", &["--statement", &keys.shown("bo")], "exists already; name a new file");
    assert!(fs::read_to_string(keys.path("bo")).unwrap().contains("PRIVATE KEY"));
    // Nor is anything told of a key that is given for a statement or a signature.
    let path = keys.shown("bo");
    for flags in
        [["--statement", &path, "--signature", &path], ["--statement", &keys.shown("ana.pub"), "--signature", &path]]
    {
        let told = all_output(&desk.answer("approve", "bb", &flags));
        assert!(told.contains("is not a signature as") && !told.contains("b3Blbn"), "{told}");
    }
    // Flags that do not go together.
    for flags in [&["--sign", "x", "--statement", "y"][..], &["--signature", "x"], &["--sign", "x", "--signature", "y"]]
    {
        assert_eq!(desk.answer("approve", "bb", flags).status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn where_no_answer_must_be_signed_one_that_is_must_be_good_all_the_same() {
    let Some(keys) = Keys::new(&["ana", "bo"]) else { return };
    let head = "[approval]\napprovers = [[\"ana\", \"bo\"]]\nkeys = { ana = \"KEY\" }\n[defaults.retrain]\ncpu_hours = 10\ncpu_rate = 60\n\
                command = [\"true\"]\n";
    let models = ["m0", "m1", "m2", "m3"].map(str::to_owned);
    let yard = Yard::new(&models, &head.replace("KEY", &keys.public("ana")));
    for store in yard.stores() {
        let desk = Desk::new(&yard, &store, &["aa", "bb", "cc", "dd"]);
        let page = all_output(&desk.run(&["jobs", "show", "aa"]));
        assert!(page.contains("--reason TEXT\n") && !page.contains("signed"), "{page}");
        let words = "'bo' has no key in the fleet file; add the public key under [approval.keys]";
        desk.refuses("approve", "aa", &["--by", "bo", "--sign", &keys.shown("bo")], words);
        desk.refuses("approve", "aa", &["--by", "bo", "--statement", &keys.shown("new")], words);
        desk.refuses("approve", "aa", &["--sign", &keys.shown("bo")], "not among the keys of 'ana'");
        desk.takes("approve", "aa", &["--by", "bo"]);
        desk.takes("reject", "bb", &["--by", "bo"]);
        desk.takes("approve", "cc", &["--sign", &keys.shown("ana")]);
        desk.takes("reject", "dd", &[]);
        let signed = |id| desk.job(id).grants.iter().filter(|grant| grant.signature.is_some()).count();
        assert_eq!((signed("aa"), signed("cc")), (0, 1));
        let records = format!("{:?}", desk.records("dd"));
        assert!(!records.contains("signature"), "{records}");
        // The program that is asked for a job that is rejected, with or without a signature.
        assert!(all_output(&desk.run(&["jobs", "show", "dd"])).contains("state      rejected"));
    }
}

#[test]
fn doctor_shows_who_may_approve_with_which_keys_and_what_must_be_signed() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto"]) else { return };
    for (signatures, sentence) in [
        ("never", "no answer must be signed"),
        ("high_stakes", "answers about high-stakes models and overrun budgets must be signed"),
        ("always", "every answer must be signed"),
    ] {
        let yard = Yard::new(&["m0".into()], &head(&keys, signatures, ""));
        let store = yard.folder.path().join("store.sqlite").display().to_string();
        let desk = Desk { yard: &yard, store: &store, now: Timestamp::now() };
        let doctor = |more: &[&str]| {
            let file = yard.folder.path().join("fleet.toml");
            Command::new(env!("CARGO_BIN_EXE_driftsweep")).arg("doctor").arg(file).args(more).output().unwrap()
        };
        let page = all_output(&doctor(&[]));
        let ana = keys.fingerprint("ana");
        for wanted in [
            &*format!("approval {sentence} (signatures = \"{signatures}\")"),
            &*format!("approver ana (level 1): {ana} ana@laptop"),
            &*format!("approver cto (level 2): {} cto@laptop", keys.fingerprint("cto")),
        ] {
            assert!(page.contains(wanted), "'{wanted}' is not in {page}");
        }
        let json: Value = serde_json::from_slice(&doctor(&["--format", "json"]).stdout).unwrap();
        let approval = &json["fleet"]["approval"];
        assert_eq!(approval["signatures"], signatures);
        assert_eq!(approval["approvers"][0]["keys"][0]["fingerprint"], *ana);
        // A mistake in the keys is found by doctor as by every command that reads the file, with its line.
        let file = yard.folder.path().join("fleet.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&format!("bo = \"{}\",", keys.public("bo")), "bo = \"ssh-ed25519 AAAA\","))
            .unwrap();
        for output in [doctor(&[]), desk.run(&["jobs", "list"])] {
            let told = all_output(&output);
            assert!(told.contains("fleet.toml:5: keys.bo is a damaged public key"), "{told}");
        }
    }
}

#[test]
fn an_approval_by_a_key_that_was_taken_out_since_starts_nothing() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto", "eve"]) else { return };
    let yard = Yard::new(&["m0".into(), "m1".into()], &(head(&keys, "high_stakes", "") + "stakes = \"high\"\n"));
    for store in yard.stores() {
        let file = yard.folder.path().join("fleet.toml");
        let text = fs::read_to_string(&file).unwrap();
        let desk = Desk::new(&yard, &store, &["aa", "bb"]);
        for (id, by) in [("aa", "ana"), ("bb", "bo")] {
            desk.takes("approve", id, &["--by", by, "--sign", &keys.shown(by)]);
        }
        // The key of ana was stolen, say.
        fs::write(&file, text.replace(&keys.public("ana"), &keys.public("eve"))).unwrap();
        let tick = desk.run(&["tick", "--wait", "1m", "--format", "json"]);
        let report: Value = serde_json::from_slice(&tick.stdout).unwrap();
        let failures = report["jobs"]["troubles"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "{report}");
        let reason = failures[0]["reason"].as_str().unwrap();
        let wanted = format!("its approval is not valid any more: the key {} is not among", keys.fingerprint("ana"));
        assert!(reason.contains(&wanted) && reason.contains("driftsweep jobs cancel"), "{reason}");
        assert_eq!((desk.job("aa").state.name(), desk.job("bb").state.name()), ("queued", "succeeded"), "{report}");
        // With the key it starts.
        fs::write(&file, &text).unwrap();
        desk.run(&["tick", "--wait", "1m"]);
        assert_eq!(desk.job("aa").state.name(), "succeeded");
    }
}

#[test]
fn a_question_that_was_asked_when_answers_had_to_be_signed_is_answered_so() {
    let Some(keys) = Keys::new(&["ana", "bo", "cto"]) else { return };
    let yard = Yard::new(&["m0".into()], &head(&keys, "always", ""));
    for store in yard.stores() {
        let file = yard.folder.path().join("fleet.toml");
        let text = fs::read_to_string(&file).unwrap();
        let desk = Desk::new(&yard, &store, &["aa"]);
        fs::write(&file, text.replace("signatures = \"always\"", "signatures = \"never\"")).unwrap();
        desk.refuses("approve", "aa", &[], "the request was made under a rule that requires it");
        desk.refuses("reject", "aa", &[], "the request was made under a rule that requires it");
        desk.takes("approve", "aa", &["--sign", &keys.shown("ana")]);
        let verified = desk.run(&["audit", "verify"]);
        assert!(verified.status.success(), "{}", all_output(&verified));
        fs::write(&file, &text).unwrap();
    }
}
