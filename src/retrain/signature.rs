//! Signed answers of approvers: what exactly is signed, and whether a signature is that of an approver.
//!
//! A signature is an SSHSIG as `ssh-keygen -Y sign -n approval@driftsweep.io` makes it, over one canonical text: the
//! [`Statement`]. That holds all that was decided about, so a signature is good for one answer to one question only.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::approval::{Reason, Request};
use super::budget::Overrun;
use super::cost::{Estimate, Worth};
use super::job::Job;
use crate::atomic::hex;
use crate::fleet::{Approval, Currency, Money, Secret, Signatures, Stakes};

/// What signatures are made for: one that was made for anything else, such as a commit or a login, is none of an answer.
pub const NAMESPACE: &str = "approval@driftsweep.io";

/// So far may the clock of the machine that made a statement be ahead.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// A question as an approver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name of the fleet.
    pub fleet: &'a str,
    /// In which amounts are.
    pub currency: &'a Currency,
    /// The job as it stands while it is asked for.
    pub job: &'a Job,
    /// What is asked.
    pub request: &'a Request,
    /// SHA-256 of the body of its event.
    pub event_sha256: &'a str,
}

/// The answer to a question, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The overruns that are allowed; `None` does not allow the job.
    pub allows: Option<&'a [Overrun]>,
    /// Who decides.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What is signed: a question and its answer as canonical JSON (RFC 8785), which has one text only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    text: String,
}

/// The SHA-256 of the body of an event, as statements and the audit have it.
pub fn event_sha256(body: &str) -> String {
    hex(&Sha256::digest(body))
}

impl Statement {
    /// Of a question and its answer, given at a time by the real clock.
    ///
    /// # Errors
    /// The reason, for what JSON cannot say.
    pub fn new(question: &Question<'_>, decision: &Decision<'_>, at: Timestamp) -> Result<Self, String> {
        let Question { job, request, .. } = question;
        let value = json!({
            "statement": "driftsweep approval",
            "version": 1,
            "fleet": question.fleet,
            "job": job.id,
            "model": job.model,
            "trigger": job.trigger,
            "event_sha256": question.event_sha256,
            "requested_at": job.requested_at,
            "deadline": job.deadline,
            "attempts": job.attempts,
            "spent": job.spent.plain(),
            "currency": question.currency.name(),
            "question": {
                "reasons": request.reasons.iter().map(reason).collect::<Vec<_>>(),
                "level": request.level,
                "asked_at": request.asked_at,
                "due": request.due,
            },
            "estimate": job.estimate.as_ref().map(estimate),
            "worth": job.worth.as_ref().map(worth),
            "decision": if decision.allows.is_some() { "approve" } else { "reject" },
            "overruns": decision.allows.unwrap_or_default().iter().map(overrun).collect::<Vec<_>>(),
            "by": decision.by,
            "reason": decision.reason,
            "at": at,
        });
        let text = serde_json_canonicalizer::to_string(&value).map_err(|e| e.to_string())?;
        Ok(Self { text })
    }

    /// The exact text: what is written, signed and kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When a statement was made, by the real clock.
    ///
    /// # Errors
    /// The reason, for a text that is no statement.
    pub fn time_of(text: &str) -> Result<Timestamp, String> {
        let parsed: Option<Value> = serde_json::from_str(text).ok();
        let at = parsed.as_ref().and_then(|value| value["at"].as_str()?.parse().ok());
        at.ok_or_else(|| "it is not a statement; make it with --statement FILE".into())
    }

    /// What another text says differently; `None` where it is the same to the letter.
    fn difference(&self, text: &str) -> Option<String> {
        if text == self.text {
            return None;
        }
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (own, other) = (parse(&self.text), parse(text));
        let parts = own.as_object().into_iter().flatten();
        let differing = parts.filter(|(name, value)| other[name.as_str()] != **value);
        let named: Vec<String> = differing
            .map(|(name, value)| format!("{name} is {value}, and {} in the statement", other[name.as_str()]))
            .collect();
        Some(match named.is_empty() {
            true => "its text was changed; it must be signed as --statement wrote it, without a line end".into(),
            false => named.join("; "),
        })
    }
}

fn reason(reason: &Reason) -> Value {
    match reason {
        Reason::Cost { expected, above } => {
            json!({ "because": "cost", "expected": expected.plain(), "above": above.plain() })
        }
        Reason::HighStakes => json!({ "because": "high_stakes" }),
        Reason::Overrun(over) => json!({ "because": "overrun", "overrun": overrun(over) }),
    }
}

fn overrun(overrun: &Overrun) -> Value {
    let Overrun { scope, month, budget, by } = overrun;
    json!({ "scope": scope, "month": month, "budget": budget.plain(), "by": by.plain() })
}

fn estimate(estimate: &Estimate) -> Value {
    let Estimate { declared, expected, low, high, runs } = estimate;
    let [declared, expected, low, high] = [declared, expected, low, high].map(|amount| amount.plain());
    json!({ "declared": declared, "expected": expected, "low": low, "high": high, "runs": runs })
}

fn worth(worth: &Worth) -> Value {
    let Worth { points, loss, stale_a_day, gain, gain_low, metric, missing } = worth;
    let [stale_a_day, gain, gain_low] = [stale_a_day, gain, gain_low].map(|amount: &Money| amount.plain());
    json!({
        "points": points, "loss": loss, "stale_a_day": stale_a_day, "gain": gain, "gain_low": gain_low, "metric": metric,
        "missing": missing,
    })
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The text of the statement.
    pub statement: String,
    /// The signature: an SSHSIG in its armour.
    pub signature: String,
    /// The public key by which it was made, as OpenSSH writes it, without a comment.
    pub key: String,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is none, and the fleet file wants one.
    #[error("the answer must be signed ({0})")]
    Missing(String),
    /// It cannot be read, or is of a kind that does not count.
    #[error("the signature cannot be used: {0}")]
    Unusable(String),
    /// It is one of another statement: of another job, question, answer, reason or person.
    #[error("the statement that was signed is another one: {0}")]
    OtherStatement(String),
    /// It was not made of this statement by the key that it names.
    #[error("the signature is not one of this statement by the key {key}")]
    Forged {
        /// The fingerprint of the key that it names.
        key: String,
    },
    /// It is good, but the fleet file does not list its key for the person: a key that was taken out of it since, or
    /// somebody else's. Whose key it was, the record alone cannot prove.
    #[error("the key {key} is {}", match owner {
        Some(owner) => format!("that of '{owner}', and not of '{by}'"),
        None => format!("not among the keys of '{by}' in the fleet file ([approval.keys])"),
    })]
    NotListed {
        /// Its fingerprint.
        key: String,
        /// Who is said to have signed.
        by: String,
        /// Whose key it is by the fleet file.
        owner: Option<String>,
    },
}

/// Why the answer to a question must be signed; `None` where it need not. `stakes` are those of the model now: the question
/// may have been asked when they were lower.
pub fn wanted(rules: &Approval, request: &Request, stakes: Stakes) -> Option<String> {
    let about = |wanted: fn(&Reason) -> bool| request.reasons.iter().any(wanted);
    let why = match rules.signatures {
        Signatures::Never => return None,
        Signatures::Always => "every answer must be",
        Signatures::HighStakes if stakes == Stakes::High || about(|reason| *reason == Reason::HighStakes) => {
            "the model is marked high-stakes"
        }
        Signatures::HighStakes if about(|reason| matches!(reason, Reason::Overrun(_))) => "a budget would be overrun",
        Signatures::HighStakes => return None,
    };
    Some(format!("signatures = \"{}\": {why}", rules.signatures.name()))
}

/// Whether an answer is signed as the rules want. A signature that is given must be good, also where none is wanted.
///
/// # Errors
/// The [`Problem`]. [`Problem::NotListed`] comes only where all else is right.
pub fn check(
    rules: &Approval,
    stakes: Stakes,
    question: &Question<'_>,
    decision: &Decision<'_>,
    signed: Option<&Signed>,
) -> Result<(), Problem> {
    let Some(signed) = signed else {
        return wanted(rules, question.request, stakes).map_or(Ok(()), |why| Err(Problem::Missing(why)));
    };
    let at = Statement::time_of(&signed.statement).map_err(Problem::OtherStatement)?;
    let statement = Statement::new(question, decision, at).map_err(Problem::Unusable)?;
    if let Some(difference) = statement.difference(&signed.statement) {
        return Err(Problem::OtherStatement(difference));
    }
    let key = signed.verify()?;
    match rules.owner_of(key.key_data()) {
        Some(owner) if owner == decision.by => Ok(()),
        owner => Err(Problem::NotListed {
            key: fingerprint(&key),
            by: decision.by.to_owned(),
            owner: owner.map(str::to_owned),
        }),
    }
}

impl Signed {
    /// A statement with a signature as `ssh-keygen` wrote it. Whether it is good, [`check`] says.
    ///
    /// # Errors
    /// [`Problem::Unusable`].
    pub fn new(statement: String, armoured: &str) -> Result<Self, Problem> {
        let signature = read(armoured)?;
        let key = PublicKey::from(signature.public_key().clone());
        let (armoured, key) = (signature.to_pem(LineEnding::LF), key.to_openssh());
        let unusable = |e: ssh_key::Error| Problem::Unusable(e.to_string());
        Ok(Self { statement, signature: armoured.map_err(unusable)?, key: key.map_err(unusable)? })
    }

    /// Signs a statement with a private key of OpenSSH.
    ///
    /// # Errors
    /// The reason, without anything of the key.
    pub fn sign(statement: &Statement, key: &Secret) -> Result<Self, String> {
        const TOOL: &str =
            "sign with ssh-keygen instead: give --statement FILE in place of --sign, and follow what it says";
        let text = key.expose();
        let key = PrivateKey::from_openssh(text.trim_ascii_start()).map_err(|e| match e {
            _ if text.starts_with("ssh-") || text.starts_with("sk-") => {
                "is a public key; give the private one, whose file has the same name without .pub".to_owned()
            }
            _ if text.contains("PRIVATE KEY-----") && !text.contains("BEGIN OPENSSH PRIVATE KEY-----") => {
                "is not in the format of OpenSSH; `ssh-keygen -p -f KEYFILE` writes it anew".to_owned()
            }
            ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
                "is of a kind that is not supported; only Ed25519 is (`ssh-keygen -t ed25519`)".to_owned()
            }
            _ => "is not a private key of OpenSSH, or it is damaged".to_owned(),
        })?;
        if key.is_encrypted() {
            return Err(format!("has a passphrase; {TOOL}"));
        }
        match key.algorithm() {
            Algorithm::Ed25519 => {}
            Algorithm::SkEd25519 => return Err(format!("is on a security token; {TOOL}")),
            other => return Err(format!("is of the kind {other}, which is not supported; only Ed25519 is")),
        }
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, statement.text.as_bytes());
        let armoured = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
        let armoured = armoured.map_err(|_| "could not sign; is it damaged?".to_owned())?;
        Self::new(statement.text.clone(), &armoured).map_err(|problem| problem.to_string())
    }

    /// Whether the statement may have been made by now.
    ///
    /// # Errors
    /// The reason, for one of the future.
    pub fn is_made(&self, clock: Timestamp) -> Result<(), String> {
        let at = Statement::time_of(&self.statement)?;
        if at.duration_since(clock) > CLOCKS_DIFFER {
            return Err(format!("it is from {at}, and it is {clock}; correct the clock of the machine that made it"));
        }
        Ok(())
    }

    /// The key by which the statement was signed. Whose it is, and what the statement has to say, [`check`] knows.
    ///
    /// # Errors
    /// [`Problem::Unusable`] and [`Problem::Forged`].
    pub fn verify(&self) -> Result<PublicKey, Problem> {
        let signature = read(&self.signature)?;
        let key = PublicKey::from(signature.public_key().clone());
        if key.to_openssh().ok().as_ref() != Some(&self.key) {
            return Err(Problem::Unusable("it was made by another key than the one beside it".into()));
        }
        let verified = key.verify(NAMESPACE, self.statement.as_bytes(), &signature);
        verified.map_err(|_| Problem::Forged { key: fingerprint(&key) })?;
        Ok(key)
    }
}

/// The fingerprint of a key as OpenSSH shows it: `SHA256:…`.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// A signature of a kind that counts: for answers, by a key that can be verified, at a token that was touched.
fn read(armoured: &str) -> Result<SshSig, Problem> {
    let unusable = |reason: String| Problem::Unusable(reason);
    let signature = SshSig::from_pem(armoured.trim_ascii()).map_err(|_| {
        unusable("it is not a signature as `ssh-keygen -Y sign` writes it, or is of a kind other than Ed25519".into())
    })?;
    if signature.namespace() != NAMESPACE {
        let namespace = signature.namespace().escape_debug();
        return Err(unusable(format!("it was made for '{namespace}'; sign with -n {NAMESPACE}")));
    }
    if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err(unusable("it is of a version that is not known".into()));
    }
    match (signature.public_key().algorithm(), signature.algorithm()) {
        (Algorithm::Ed25519, Algorithm::Ed25519) => {}
        (Algorithm::SkEd25519, Algorithm::SkEd25519) => {
            // Behind the 64 bytes of the signature; its lowest bit says that somebody was there.
            if signature.signature_bytes().get(64).is_none_or(|flags| flags & 1 == 0) {
                return Err(unusable("the security token signed without being touched".into()));
            }
        }
        (other, _) => return Err(unusable(format!("its key is of the kind {other}; only Ed25519 is supported"))),
    }
    Ok(signature)
}
