//! Signed answers of approvers: which must be signed, and whether a signature is that of an approver.
//!
//! A signature is an SSHSIG as `ssh-keygen -Y sign -n approval@driftsweep.io` makes it, over one canonical text: the
//! [`Statement`]. It contains everything that was decided, so a signature is valid for one answer to one request only.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

pub use super::request::SignedStatement;
use super::request::{ApprovalReason, Grant, GrantedBy};
use super::statement::{ApprovalDecision, ApprovalQuestion, STAGE_STATEMENT, StageApproval, Statement};
use driftsweep_fleet::{ApprovalRules, Currency, Secret, Signatures, Stakes};

/// The namespace of signatures: one made for another purpose, such as a commit or a login, is not valid for an answer.
pub const NAMESPACE: &str = "approval@driftsweep.io";

/// How far the clock of the signing machine may be ahead.
const MAX_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(5);

/// Why a signature is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// There is none, and the fleet file requires one.
    #[error("the answer must be signed ({0})")]
    Missing(String),
    /// It cannot be read, or its kind is not supported.
    #[error("the signature cannot be used: {0}")]
    Unusable(String),
    /// It belongs to another statement: of another job, question, answer, reason or person.
    #[error("the signature is for another statement: {0}")]
    OtherStatement(String),
    /// It was not made by the key that it names for this statement.
    #[error("the signature was not made for this statement by the key {key}")]
    Forged {
        /// The fingerprint of the key that it names.
        key: String,
    },
    /// It is valid, but the fleet file does not list its key for the person: the key was removed since, or belongs to
    /// another person. The record alone cannot prove its owner.
    #[error("the key {key} is {}", match owner {
        Some(owner) => format!("that of '{owner}', and not of '{by}'"),
        None => format!("not among the keys of '{by}' in the fleet file ([approval.keys])"),
    })]
    NotListed {
        /// Its fingerprint.
        key: String,
        /// The claimed signer.
        by: String,
        /// The owner of the key by the fleet file.
        owner: Option<String>,
    },
}

/// How a person signs an answer.
pub const HOW_TO_SIGN: &str =
    "add --sign KEYFILE; or, for a key with a passphrase, in an agent or on a token, --statement FILE";

impl SignatureProblem {
    /// For the person who answers: with the remedy.
    pub fn for_answer(&self) -> String {
        match self {
            Self::Missing(_) => format!("{self}: {HOW_TO_SIGN}"),
            _ => self.to_string(),
        }
    }
}

/// Whether a person can sign.
///
/// # Errors
/// The reason, with the remedy, if the fleet file has no key of the person.
pub fn can_sign(rules: &ApprovalRules, who: &str) -> Result<(), String> {
    match rules.keys.contains_key(who) {
        true => Ok(()),
        false => Err(format!("'{who}' has no key in the fleet file; add the public key under [approval.keys]")),
    }
}

/// Why the answer to a question with these reasons must be signed; `None` where it need not. `stakes` are those of the
/// model now: the question may have been asked when they were lower. The approval of a stage has no reasons.
pub fn signature_reason(rules: &ApprovalRules, reasons: &[ApprovalReason], stakes: Stakes) -> Option<String> {
    let about = |wanted: fn(&ApprovalReason) -> bool| reasons.iter().any(wanted);
    let why = match rules.signatures {
        Signatures::Never => return None,
        Signatures::Always => "every answer must be",
        Signatures::HighStakes if stakes == Stakes::High || about(|reason| *reason == ApprovalReason::HighStakes) => {
            "the model is marked high-stakes"
        }
        Signatures::HighStakes if about(|reason| matches!(reason, ApprovalReason::Overrun(_))) => {
            "a budget would be overrun"
        }
        Signatures::HighStakes => return None,
    };
    Some(format!("signatures = \"{}\": {why}", rules.signatures.name()))
}

/// Whether an answer is signed as the rules require. A given signature must be valid, also where none is required.
///
/// # Errors
/// The [`SignatureProblem`]. [`SignatureProblem::NotListed`] comes only where all else is right.
pub fn check(
    rules: &ApprovalRules,
    stakes: Stakes,
    question: &ApprovalQuestion<'_>,
    decision: &ApprovalDecision<'_>,
    signed: Option<&SignedStatement>,
) -> Result<(), SignatureProblem> {
    let Some(signed) = signed else {
        return may_be_unsigned(rules, &question.request.reasons, stakes);
    };
    is_listed(rules, &signed.answers(question, decision)?, decision.by)
}

/// Whether the approval of a stage is signed as the rules require. A given signature must be valid, also where none is
/// required.
///
/// # Errors
/// The [`SignatureProblem`]. [`SignatureProblem::NotListed`] comes only where all else is right.
pub fn check_stage(
    rules: &ApprovalRules,
    stakes: Stakes,
    approval: &StageApproval<'_>,
    signed: Option<&SignedStatement>,
) -> Result<(), SignatureProblem> {
    let Some(signed) = signed else { return may_be_unsigned(rules, &[], stakes) };
    is_listed(rules, &signed.states(|at| Statement::of_stage(approval, at))?, approval.by)
}

/// The kinds of records by which a version enters a stage of its release, or is approved again for it.
pub const STAGE_RECORDS: &[&str] = &["rollout.begin", "rollout.promote", "rollout.approve"];

/// The key by which the approval in such a record was signed; `None` where it is not signed. The record is about a model of
/// a fleet, and by a person; the statement must have the values that the record has. [`check_stage`] compares the others,
/// which are those of the version.
pub fn stage_key(fleet: &str, model: &str, by: &str, record: &Value) -> Option<Result<PublicKey, SignatureProblem>> {
    if record["signature"].is_null() {
        return None;
    }
    let signed = SignedStatement::deserialize(&record["signature"]);
    let signed = signed.map_err(|e| SignatureProblem::Unusable(e.to_string()));
    Some(signed.and_then(|signed| {
        let same = ["former", "stage", "stage_number", "share", "reason"].map(|name| (name, record[name].clone()));
        let named =
            [("statement", STAGE_STATEMENT), ("decision", "approve"), ("fleet", fleet), ("model", model), ("by", by)];
        let named = named.map(|(name, value)| (name, Value::from(value)));
        signed.has_values(&[&same[..], &named[..], &[("release", record["version"].clone())]].concat())?;
        signed.verify()
    }))
}

fn may_be_unsigned(rules: &ApprovalRules, reasons: &[ApprovalReason], stakes: Stakes) -> Result<(), SignatureProblem> {
    signature_reason(rules, reasons, stakes).map_or(Ok(()), |why| Err(SignatureProblem::Missing(why)))
}

/// Whether a key is one of a person's in the fleet file.
fn is_listed(rules: &ApprovalRules, key: &PublicKey, by: &str) -> Result<(), SignatureProblem> {
    match rules.owner_of(key.key_data()) {
        Some(owner) if owner == by => Ok(()),
        owner => Err(SignatureProblem::NotListed {
            key: fingerprint(key),
            by: by.to_owned(),
            owner: owner.map(str::to_owned),
        }),
    }
}

/// Whether an approval still counts by the current rules, before a run is started: it is signed where an answer to its
/// request would have to be, as an approval of this job, by a key that the fleet file still lists for the person. The
/// rest of the signed statement is checked against the audit separately.
///
/// # Errors
/// The [`SignatureProblem`].
pub fn still_counts(
    rules: &ApprovalRules,
    stakes: Stakes,
    grant: &Grant,
    (fleet, job): (&str, &str),
) -> Result<(), SignatureProblem> {
    let GrantedBy::Person(by) = &grant.by else { return Ok(()) };
    match &grant.signature {
        Some(signed) => {
            let key = signed.verify()?;
            signed.has_values(&[
                ("decision", "approve".into()),
                ("fleet", fleet.into()),
                ("job", job.into()),
                ("by", by.as_str().into()),
            ])?;
            is_listed(rules, &key, by)
        }
        None => {
            let overruns: Vec<ApprovalReason> = grant.overruns.iter().cloned().map(ApprovalReason::Overrun).collect();
            may_be_unsigned(rules, &overruns, stakes)
        }
    }
}

impl SignedStatement {
    /// A statement with a signature as `ssh-keygen` wrote it. [`check`] verifies it.
    ///
    /// # Errors
    /// [`SignatureProblem::Unusable`].
    pub fn new(statement: String, armoured: &str) -> Result<Self, SignatureProblem> {
        let signature = read(armoured)?;
        let key = PublicKey::from(signature.public_key().clone());
        let (armoured, key) = (signature.to_pem(LineEnding::LF), key.to_openssh());
        let unusable = |e: ssh_key::Error| SignatureProblem::Unusable(e.to_string());
        Ok(Self { statement, signature: armoured.map_err(unusable)?, key: key.map_err(unusable)? })
    }

    /// Signs a statement with a private key of OpenSSH.
    ///
    /// # Errors
    /// The reason, without any part of the key.
    pub fn sign(statement: &Statement, key: &Secret) -> Result<Self, String> {
        const SSH_KEYGEN_REMEDY: &str =
            "sign with ssh-keygen instead: give --statement FILE in place of --sign, and follow what it says";
        let text = key.expose();
        let key = PrivateKey::from_openssh(text.trim_ascii_start()).map_err(|e| match e {
            _ if text.starts_with("ssh-") || text.starts_with("sk-") => {
                "is a public key; give the private one, whose file has the same name without .pub".to_owned()
            }
            _ if text.contains("PRIVATE KEY-----") && !text.contains("BEGIN OPENSSH PRIVATE KEY-----") => {
                "is not in the format of OpenSSH; `ssh-keygen -p -f KEYFILE` rewrites it".to_owned()
            }
            ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
                "is of a kind that is not supported; only Ed25519 is (`ssh-keygen -t ed25519`)".to_owned()
            }
            _ => "is not a private key of OpenSSH, or it is damaged".to_owned(),
        })?;
        if key.is_encrypted() {
            return Err(format!("has a passphrase; {SSH_KEYGEN_REMEDY}"));
        }
        match key.algorithm() {
            Algorithm::Ed25519 => {}
            Algorithm::SkEd25519 => return Err(format!("is on a security token; {SSH_KEYGEN_REMEDY}")),
            other => return Err(format!("is of the kind {other}, which is not supported; only Ed25519 is")),
        }
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, statement.text().as_bytes());
        let armoured = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
        let armoured = armoured.map_err(|_| "cannot sign; is it damaged?".to_owned())?;
        Self::new(statement.text().to_owned(), &armoured).map_err(|problem| problem.to_string())
    }

    /// Whether the statement has these values.
    fn has_values(&self, values: &[(&str, Value)]) -> Result<(), SignatureProblem> {
        let said: Value =
            serde_json::from_str(&self.statement).map_err(|e| SignatureProblem::OtherStatement(e.to_string()))?;
        match values.iter().find(|(name, wanted)| said[*name] != *wanted) {
            Some((name, wanted)) => Err(SignatureProblem::OtherStatement(format!("{name} is not {wanted}"))),
            None => Ok(()),
        }
    }

    /// The currency that the statement names. A fleet may change its currency: older statements are checked with this
    /// one.
    pub fn currency(&self) -> Option<Currency> {
        let value: serde_json::Value = serde_json::from_str(&self.statement).ok()?;
        Currency::parse(value["currency"].as_str()?).ok()
    }

    /// Whether the time of the statement is not in the future.
    ///
    /// # Errors
    /// The reason, if it is in the future.
    pub fn is_made(&self, clock: Timestamp) -> Result<(), String> {
        let at = Statement::time_of(&self.statement)?;
        if at.duration_since(clock) > MAX_CLOCK_DIFFERENCE {
            return Err(format!("it is from {at}, and it is {clock}; correct the clock of the machine that made it"));
        }
        Ok(())
    }

    /// The key by which an answer to a question was signed; its owner is in the fleet file.
    ///
    /// # Errors
    /// The [`SignatureProblem`], also where another statement was signed than that of this question and answer.
    pub fn answers(
        &self,
        question: &ApprovalQuestion<'_>,
        decision: &ApprovalDecision<'_>,
    ) -> Result<PublicKey, SignatureProblem> {
        self.states(|at| Statement::new(question, decision, at))
    }

    /// The key by which a statement was signed, which is made again with the time of the signed one.
    fn states(
        &self,
        statement: impl FnOnce(Timestamp) -> Result<Statement, String>,
    ) -> Result<PublicKey, SignatureProblem> {
        let at = Statement::time_of(&self.statement).map_err(SignatureProblem::OtherStatement)?;
        let statement = statement(at).map_err(SignatureProblem::Unusable)?;
        if let Some(difference) = statement.difference(&self.statement) {
            return Err(SignatureProblem::OtherStatement(difference));
        }
        self.verify()
    }

    /// The key by which the statement was signed. [`check`] verifies its owner and the content of the statement.
    ///
    /// # Errors
    /// [`SignatureProblem::Unusable`] and [`SignatureProblem::Forged`].
    pub fn verify(&self) -> Result<PublicKey, SignatureProblem> {
        let signature = read(&self.signature)?;
        let key = PublicKey::from(signature.public_key().clone());
        if key.to_openssh().ok().as_ref() != Some(&self.key) {
            return Err(SignatureProblem::Unusable("it was made by another key than the given one".into()));
        }
        let verified = key.verify(NAMESPACE, self.statement.as_bytes(), &signature);
        verified.map_err(|_| SignatureProblem::Forged { key: fingerprint(&key) })?;
        Ok(key)
    }
}

/// The fingerprint of a key as OpenSSH shows it: `SHA256:…`.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// A supported signature: for answers, by a key that can be verified, on a token that was touched.
fn read(armoured: &str) -> Result<SshSig, SignatureProblem> {
    let unusable = SignatureProblem::Unusable;
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
            // Behind the 64 bytes of the signature; its lowest bit says that the user was present.
            if signature.signature_bytes().get(64).is_none_or(|flags| flags & 1 == 0) {
                return Err(unusable("the security token signed without being touched".into()));
            }
        }
        (other, _) => return Err(unusable(format!("its key is of the kind {other}; only Ed25519 is supported"))),
    }
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest, Sha256};
    use ssh_key::private::Ed25519Keypair;
    use ssh_key::public::{KeyData, SkEd25519};
    use ssh_key::{Signature, SigningKey};

    use super::super::job::JobState;
    use super::super::request::ApprovalRequest;
    use super::super::statement::tests::{asked, at, job};
    use super::*;
    use driftsweep::model::Options;
    use driftsweep_fleet::Fleet;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn secret(key: &PrivateKey) -> Secret {
        Secret::from(key.to_openssh(LineEnding::LF).unwrap().to_string())
    }

    fn public(key: &PrivateKey) -> String {
        key.public_key().to_openssh().unwrap()
    }

    fn rules(signatures: &str, ana: &str, bo: &str) -> ApprovalRules {
        let text = format!(
            "[approval]\napprovers = [[\"ana\", \"bo\"]]\nsignatures = \"{signatures}\"\nkeys = {{ ana = \"{ana}\", bo = \"{bo}\" }}\n\
             [[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n"
        );
        Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).unwrap().governance.approval
    }

    #[test]
    fn a_signature_counts_for_its_answer_by_a_listed_key_of_its_person_only() {
        let (ana, bo) = (key(1), key(2));
        let (job, usd) = (job(), Currency::default());
        let question = asked(&job, &usd);
        let no = ApprovalDecision { allows: None, by: "ana", reason: "no" };
        let statement = Statement::new(&question, &no, at(3)).unwrap();
        let both = rules("always", &public(&ana), &public(&bo));
        let judge = |rules: &ApprovalRules, decision: &ApprovalDecision<'_>, signed: Option<&SignedStatement>| {
            check(rules, Stakes::Normal, &question, decision, signed)
        };
        let good = SignedStatement::sign(&statement, &secret(&ana)).unwrap();
        assert_eq!(judge(&both, &no, Some(&good)), Ok(()));
        let say = |problem: Result<(), SignatureProblem>| problem.unwrap_err().to_string();
        let refused =
            |decision: &ApprovalDecision<'_>, signed: Option<&SignedStatement>| say(judge(&both, decision, signed));
        assert_eq!(refused(&no, None), "the answer must be signed (signatures = \"always\": every answer must be)");

        // The same of another answer.
        let said = refused(&ApprovalDecision { allows: Some(&[]), ..no }, Some(&good));
        assert!(said.contains("decision is \"approve\", and \"reject\" in the statement"), "{said}");
        let said = refused(&ApprovalDecision { reason: "yes", ..no }, Some(&good));
        assert!(said.contains("reason is \"yes\", and \"no\" in the statement"), "{said}");
        assert!(refused(&ApprovalDecision { by: "bo", ..no }, Some(&good)).contains("by is \"bo\", and \"ana\""));

        // By another key, which the fleet file lists for another person, or not at all.
        let of_bo = SignedStatement::sign(&statement, &secret(&bo)).unwrap();
        assert!(refused(&no, Some(&of_bo)).ends_with("is that of 'bo', and not of 'ana'"));
        let stranger = SignedStatement::sign(&statement, &secret(&key(3))).unwrap();
        let fingerprint = fingerprint(key(3).public_key());
        let not_listed = SignatureProblem::NotListed { key: fingerprint.clone(), by: "ana".into(), owner: None };
        assert_eq!(judge(&both, &no, Some(&stranger)), Err(not_listed));
        assert!(fingerprint.starts_with("SHA256:"));
        // A key that was taken out since is not one that was forged.
        let replaced = rules("always", &public(&key(4)), &public(&bo));
        assert!(matches!(judge(&replaced, &no, Some(&good)), Err(SignatureProblem::NotListed { owner: None, .. })));

        // Edited in the store: each part of the record on its own, and what fits together by a key that is not ana's.
        let other = SignedStatement::sign(&Statement::new(&question, &no, at(4)).unwrap(), &secret(&ana)).unwrap();
        let forged = SignatureProblem::Forged { key: super::fingerprint(ana.public_key()) };
        assert_eq!(
            judge(&both, &no, Some(&SignedStatement { signature: other.signature, ..good.clone() })),
            Err(forged)
        );
        let edited = good.statement.replace("churn", "fraud");
        let said = refused(&no, Some(&SignedStatement { statement: edited, ..good.clone() }));
        assert!(said.contains("model is \"churn\", and \"fraud\" in the statement"), "{said}");
        for (statement, words) in [
            (format!("{}\n", good.statement), "without a line end"),
            (good.statement.replacen("{", "{\"by\":\"eve\",", 1), "its text was changed"),
            (good.statement.replacen("{", "{\"extra\":1,", 1), "its text was changed"),
            ("x".into(), "it is not a statement"),
            (String::new(), "it is not a statement"),
        ] {
            let said = refused(&no, Some(&SignedStatement { statement, ..good.clone() }));
            assert!(said.contains(words), "{said}");
        }
        let said = refused(&no, Some(&SignedStatement { key: public(&bo), ..good.clone() }));
        assert!(said.contains("another key than the given one"), "{said}");
        let said = refused(&no, Some(&SignedStatement { signature: "x".into(), ..good.clone() }));
        assert!(said.contains("is not a signature as"), "{said}");
        // Of a key that claims to be ana's: the signature is still bo's.
        let claimed = SshSig::from_pem(&of_bo.signature).unwrap();
        let claimed =
            SshSig::new(ana.public_key().key_data().clone(), NAMESPACE, HashAlg::Sha512, claimed.signature().clone());
        let claimed =
            SignedStatement::new(good.statement.clone(), &claimed.unwrap().to_pem(LineEnding::LF).unwrap()).unwrap();
        assert!(matches!(judge(&both, &no, Some(&claimed)), Err(SignatureProblem::Forged { .. })));
        // Made for something else.
        let commit =
            ana.sign("git", HashAlg::Sha512, good.statement.as_bytes()).unwrap().to_pem(LineEnding::LF).unwrap();
        let said = refused(&no, Some(&SignedStatement { signature: commit.clone(), ..good.clone() }));
        assert!(said.contains("it was made for 'git'; sign with -n approval@driftsweep.io"), "{said}");
        assert!(SignedStatement::new(good.statement.clone(), &commit).is_err());

        // Where none is wanted one that is given must be good all the same.
        let never = rules("never", &public(&ana), &public(&bo));
        assert_eq!((judge(&never, &no, None), judge(&never, &no, Some(&good))), (Ok(()), Ok(())));
        assert!(judge(&never, &no, Some(&stranger)).is_err());
        // SHA-256 is as good as the SHA-512 that ssh-keygen takes.
        let short = ana.sign(NAMESPACE, HashAlg::Sha256, good.statement.as_bytes()).unwrap();
        let short = SignedStatement::new(good.statement.clone(), &short.to_pem(LineEnding::LF).unwrap()).unwrap();
        assert_eq!(judge(&both, &no, Some(&short)), Ok(()));
        assert_eq!(good.currency(), Some(usd.clone()));
        assert!(good.is_made(at(2)).unwrap_err().contains("correct the clock") && good.is_made(at(3)).is_ok());
    }

    /// A signature of bytes as they are.
    fn raw(key: &impl SigningKey, bytes: &[u8]) -> Vec<u8> {
        key.try_sign(bytes).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn a_security_token_must_have_been_touched() {
        let held = key(5);
        let KeyData::Ed25519(inner) = held.public_key().key_data() else { panic!() };
        let token = PublicKey::from(KeyData::SkEd25519(SkEd25519::new(*inner, "ssh:")));
        let rules = rules("always", &token.to_openssh().unwrap(), &public(&key(2)));
        let (job, usd) = (job(), Currency::default());
        let question = asked(&job, &usd);
        let no = ApprovalDecision { allows: None, by: "ana", reason: "no" };
        let statement = Statement::new(&question, &no, at(3)).unwrap();
        // As a token does it: https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.u2f
        let signed = |flags: u8, claimed: u8| {
            let message = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, statement.text().as_bytes()).unwrap();
            let end = |flags| [&[flags][..], &7_u32.to_be_bytes()].concat();
            let bytes = [Sha256::digest("ssh:").to_vec(), end(flags), Sha256::digest(message).to_vec()].concat();
            let signature = [raw(&held, &bytes), end(claimed)].concat();
            let signature = Signature::new(Algorithm::SkEd25519, signature).unwrap();
            let signature = SshSig::new(token.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
            SignedStatement::new(statement.text().to_owned(), &signature.to_pem(LineEnding::LF).unwrap())
        };
        let judge = |signed: &SignedStatement| check(&rules, Stakes::Normal, &question, &no, Some(signed));
        assert_eq!(judge(&signed(1, 1).unwrap()), Ok(()));
        assert!(signed(0, 0).unwrap_err().to_string().contains("without being touched"));
        assert!(matches!(judge(&signed(0, 1).unwrap()), Err(SignatureProblem::Forged { .. })));
    }

    #[test]
    fn the_recorded_approval_of_a_stage_is_the_signed_one_in_every_value_of_the_record() {
        let approval = StageApproval {
            fleet: "f",
            model: "m",
            version: 3,
            registered_at: at(2),
            former: Some(2),
            source: "s3://m/3",
            digest: None,
            stage_number: 4,
            stage: "full",
            share: 1.0,
            by: "ana",
            reason: "it pays",
        };
        let statement = Statement::of_stage(&approval, at(3)).unwrap();
        let signed = SignedStatement::sign(&statement, &secret(&key(1))).unwrap();
        // As the store reads it: the canonical form has no 1.0.
        let body = json!({
            "version": 3, "former": 2, "stage": "full", "stage_number": 4, "share": 1, "reason": "it pays", "signature": signed,
        });
        let judge = |fleet, model, by, body: &Value| {
            stage_key(fleet, model, by, body).map(|key| key.map_err(|e| e.to_string()))
        };
        assert_eq!(judge("f", "m", "ana", &body).unwrap().unwrap(), *key(1).public_key());
        let mut unsigned = body.clone();
        unsigned.as_object_mut().unwrap().remove("signature");
        assert_eq!(judge("f", "m", "ana", &unsigned), None);
        for (name, other) in [
            ("version", json!(4)),
            ("former", Value::Null),
            ("stage", json!("25 %")),
            ("stage_number", json!(3)),
            ("share", json!(0.25)),
            ("reason", json!("")),
        ] {
            let mut edited = body.clone();
            edited[name] = other;
            assert!(
                judge("f", "m", "ana", &edited).unwrap().unwrap_err().contains("is for another statement"),
                "{name}"
            );
        }
        for (fleet, model, by) in [("g", "m", "ana"), ("f", "n", "ana"), ("f", "m", "bo")] {
            let said = judge(fleet, model, by, &body).unwrap().unwrap_err();
            assert!(said.contains("is for another statement"), "{said}");
        }
        let mut forged = body.clone();
        let other = Statement::of_stage(&approval, at(4)).unwrap();
        forged["signature"]["signature"] = SignedStatement::sign(&other, &secret(&key(1))).unwrap().signature.into();
        assert!(judge("f", "m", "ana", &forged).unwrap().unwrap_err().contains("was not made for this statement"));
        forged["signature"] = json!("x");
        assert!(judge("f", "m", "ana", &forged).unwrap().unwrap_err().contains("cannot be used"));
    }

    #[test]
    fn which_answers_must_be_signed_follows_from_the_question_and_the_stakes() {
        let JobState::AwaitingApproval(request) = job().state else { panic!() };
        let [cost, high, overrun] =
            [0, 1, 2].map(|i| ApprovalRequest { reasons: vec![request.reasons[i].clone()], ..request.clone() });
        let rules = |signatures| rules(signatures, &public(&key(1)), &public(&key(2)));
        let [never, stakes, always] = ["never", "high_stakes", "always"].map(rules);
        for (rules, request, of, must) in [
            (&never, &request, Stakes::High, false),
            (&stakes, &cost, Stakes::Low, false),
            (&stakes, &cost, Stakes::Normal, false),
            // Marked since it was asked; and marked when it was asked, and not any more.
            (&stakes, &cost, Stakes::High, true),
            (&stakes, &high, Stakes::Low, true),
            (&stakes, &overrun, Stakes::Low, true),
            (&stakes, &request, Stakes::Normal, true),
            (&always, &cost, Stakes::Low, true),
        ] {
            assert_eq!(
                signature_reason(rules, &request.reasons, of).is_some(),
                must,
                "{:?} {request:?} {of:?}",
                rules.signatures
            );
        }
    }

    #[test]
    fn a_signature_is_kept_with_an_approval_and_older_approvals_have_none() {
        let job = job();
        let statement = Statement::new(
            &asked(&job, &Currency::default()),
            &ApprovalDecision { allows: None, by: "ana", reason: "no" },
            at(3),
        );
        let signed = SignedStatement::sign(&statement.unwrap(), &secret(&key(1))).unwrap();
        let by = GrantedBy::Person("ana".into());
        let grant = Grant { by, signature: Some(signed), ..Grant::by_policy("x".into(), at(3)) };
        let text = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), grant);
        let old = r#"{"by":{"person":"ana"},"reason":"x","at":"2026-09-21T17:13:20Z","overruns":[]}"#;
        let old: Grant = serde_json::from_str(old).unwrap();
        assert_eq!(old, Grant { signature: None, ..grant });
    }
}
