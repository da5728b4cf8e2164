//! `[approval]` of the fleet file: the approvers, what needs approval, and which answers must be signed with which
//! keys.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;
use jiff::SignedDuration;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey};
use strum::IntoStaticStr;
use toml::Spanned;

use crate::checks::{Validated, money, text};
use crate::document::{Checked, Mistake};
use crate::retrain::Stakes;
use driftsweep_common::duration::Length;
use driftsweep_common::error::{closest, did_you_mean};
use driftsweep_common::escape::for_display;
use driftsweep_extensions::trigger::Trigger;
use driftsweep_extensions::value::Money;

/// The rules for the approval of trainings.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalRules {
    /// Jobs with a higher expected cost need approval.
    pub above: Money,
    /// The approvers, by level.
    pub approvers: Vec<Vec<String>>,
    /// The public keys of approvers, by their names.
    pub keys: BTreeMap<String, Vec<ApproverKey>>,
    /// Which answers must be signed.
    pub signatures: Signatures,
    /// The time that each level has for its answer.
    pub answer_within: SignedDuration,
    /// What happens without an answer.
    pub on_expiry: OnExpiry,
    /// Jobs that are approved automatically.
    pub automatic: Vec<AutomaticApproval>,
}

impl ApprovalRules {
    /// The approver whose key it is.
    pub fn owner_of(&self, key: &KeyData) -> Option<&str> {
        let found = self.keys.iter().find(|(_, keys)| keys.iter().any(|listed| listed.key_data() == key));
        found.map(|(name, _)| &**name)
    }
}

/// Which answers of approvers must be signed: approvals and rejections alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, IntoStaticStr)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Signatures {
    /// None.
    #[default]
    Never,
    /// Those about models of high stakes, and about budgets that would be overrun.
    HighStakes,
    /// All.
    Always,
}

impl Signatures {
    /// As the fleet file has it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What must be signed, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Never => "no answer must be signed",
            Self::HighStakes => "answers about high-stakes models and overrun budgets must be signed",
            Self::Always => "every answer must be signed",
        }
    }
}

/// A public key of an approver: Ed25519, on its own or on a security token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverKey(PublicKey);

impl ApproverKey {
    /// Parses a line of an OpenSSH public key file such as `id_ed25519.pub`.
    ///
    /// # Errors
    /// The reason, without the text: it may be a private key.
    pub fn parse(line: &str) -> Result<Self, String> {
        const REMEDY: &str =
            "give the line of a file such as ~/.ssh/id_ed25519.pub, which `ssh-keygen -t ed25519` makes";
        let algorithm = line.split_whitespace().next().unwrap_or_default();
        let kind = Algorithm::new(algorithm);
        if line.contains("-cert-v01@openssh.com") {
            return Err(format!("is a certificate; {REMEDY}"));
        }
        match kind {
            Ok(Algorithm::Ed25519 | Algorithm::SkEd25519) => {}
            Ok(Algorithm::Other(_)) | Err(_) => return Err(format!("is not a public key of OpenSSH; {REMEDY}")),
            Ok(other) => return Err(format!("is of the kind {other}, which is not supported; {REMEDY}")),
        }
        let key = PublicKey::from_openssh(line.trim());
        key.map(Self).map_err(|e| format!("is a damaged public key ({e}); {REMEDY}"))
    }

    /// The key data, for comparisons.
    pub fn key_data(&self) -> &KeyData {
        self.0.key_data()
    }

    /// As OpenSSH shows it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its comment: often a person and a machine.
    pub fn comment(&self) -> &str {
        self.0.comment()
    }
}

/// What happens without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// The job expires.
    #[default]
    Reject,
    /// It is approved if the model is of low stakes, and the conservative estimate of the gain is above that of the
    /// cost.
    ApproveIfSafe,
}

/// A rule for jobs that are approved automatically.
#[derive(Clone, Debug, PartialEq)]
pub struct AutomaticApproval {
    /// Only for this trigger.
    pub trigger: Option<Trigger>,
    /// Only for this team.
    pub team: Option<String>,
    /// Only for these stakes; if absent, for any except high.
    pub stakes: Option<Stakes>,
    /// Up to this expected cost.
    pub up_to: Money,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalTable {
    /// Above this expected cost a training needs approval. By default 500.
    above: Option<f64>,
    /// Who is asked: a list of levels, each with its persons. Needed where a model has trainings.
    #[serde(default)]
    approvers: Vec<Vec<String>>,
    /// The public keys of persons, in the form of OpenSSH.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "std::collections::BTreeMap<String, KeyText>"))]
    keys: IndexMap<String, Spanned<KeyLines>>,
    /// Which answers must be signed. By default `never`.
    #[cfg_attr(feature = "schema", schemars(with = "Option<Signatures>"))]
    signatures: Option<Spanned<Signatures>>,
    /// How long each level has for an answer. By default 4h.
    answer_within: Option<Length>,
    /// What happens without an answer. By default `reject`.
    #[serde(default)]
    on_expiry: OnExpiry,
    /// Rules for jobs that are approved automatically.
    #[serde(default)]
    automatic: Vec<AutomaticTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct AutomaticTable {
    /// Only for this trigger.
    trigger: Option<Trigger>,
    /// Only for this team.
    team: Option<String>,
    /// Only for these stakes. By default for any except `high`.
    stakes: Option<Stakes>,
    /// Up to this expected cost.
    up_to: f64,
}

/// A public key, or several.
#[cfg(feature = "schema")]
#[allow(dead_code)] // Only its schema is used.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
enum KeyText {
    /// One key.
    One(String),
    /// Several keys.
    Several(Vec<String>),
}

/// The keys of an approver: one line, or several.
#[derive(Clone, Debug)]
enum KeyLines {
    One(String),
    Several(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for KeyLines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyLinesVisitor;

        impl<'de> Visitor<'de> for KeyLinesVisitor {
            type Value = KeyLines;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a public key of OpenSSH, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<KeyLines, E> {
                Ok(KeyLines::One(line.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> Result<KeyLines, A::Error> {
                let mut all = Vec::new();
                while let Some(line) = lines.next_element()? {
                    all.push(line);
                }
                Ok(KeyLines::Several(all))
            }
        }

        deserializer.deserialize_any(KeyLinesVisitor)
    }
}

impl ApprovalTable {
    pub(crate) fn check(&self) -> Checked<ApprovalRules> {
        if self.approvers.iter().any(Vec::is_empty) {
            return Err("a level without approvers could never answer".to_owned().into());
        }
        self.approvers.iter().flatten().try_for_each(|name| text("approver", name))?;
        let automatic = self.automatic.iter().map(|rule| {
            let up_to = money("up_to", rule.up_to)?;
            Ok(AutomaticApproval { trigger: rule.trigger, team: rule.team.clone(), stakes: rule.stakes, up_to })
        });
        let approval = ApprovalRules {
            above: money("above", self.above.unwrap_or(500.0))?,
            approvers: self.approvers.clone(),
            keys: self.keys()?,
            signatures: self.signatures.as_ref().map(|given| *given.get_ref()).unwrap_or_default(),
            answer_within: self.answer_within.map_or(SignedDuration::from_hours(4), Length::signed),
            on_expiry: self.on_expiry,
            automatic: automatic.collect::<Validated<_>>()?,
        };
        // Any request may be about an overrun budget, and may go to any of them.
        if let Some(given) = self.signatures.as_ref().filter(|given| *given.get_ref() != Signatures::Never)
            && let Some(name) = approval.approvers.iter().flatten().find(|name| !approval.keys.contains_key(*name))
        {
            let (name, kind) = (for_display(name), given.get_ref().name());
            let reason = format!(
                "signatures = \"{kind}\": approver '{name}' has no key to sign with; add the public key under \
                 [approval.keys]: '{name}' = \"ssh-ed25519 …\""
            );
            return Err(Mistake::at(given.span().start, reason));
        }
        Ok(approval)
    }

    /// The keys of approvers, each of one person only.
    fn keys(&self) -> Checked<BTreeMap<String, Vec<ApproverKey>>> {
        let approvers: Vec<&str> = self.approvers.iter().flatten().map(String::as_str).collect();
        let mut keys: BTreeMap<String, Vec<ApproverKey>> = BTreeMap::new();
        for (name, spanned) in &self.keys {
            let start = spanned.span().start;
            let about = format!("keys.{}", for_display(name));
            if !approvers.contains(&&**name) {
                let closest = did_you_mean(closest(name, approvers.iter().copied()));
                let reason = format!("{about}: there is no approver of that name{closest}");
                return Err(Mistake::at(start, reason));
            }
            let lines = match spanned.get_ref() {
                KeyLines::One(line) => vec![(start, line)],
                KeyLines::Several(lines) => lines.iter().map(|line| (line.span().start, line.get_ref())).collect(),
            };
            if lines.is_empty() {
                let reason = format!("{about}: the list has no key; add one, or leave the name out");
                return Err(Mistake::at(start, reason));
            }
            for (at, line) in lines {
                let key = ApproverKey::parse(line).map_err(|reason| Mistake::at(at, format!("{about} {reason}")))?;
                let mut known = keys.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key)));
                if let Some((owner, _)) = known.find(|(_, other)| other.key_data() == key.key_data()) {
                    let (owner, key) = (for_display(owner), key.fingerprint());
                    let reason =
                        format!("{about}: the key {key} is already that of '{owner}'; each key is one person's, once");
                    return Err(Mistake::at(at, reason));
                }
                keys.entry(name.clone()).or_default().push(key);
            }
        }
        Ok(keys)
    }
}

/// The first characters of a private key in a file, with and without its first line.
const PRIVATE_KEY_PREFIXES: [&str; 2] = ["PRIVATE KEY-----", "b3BlbnNzaC1rZXktdjEA"];

/// The position of a private key in a text, if there is one.
pub(crate) fn private_key(text: &str) -> Option<usize> {
    PRIVATE_KEY_PREFIXES.iter().filter_map(|mark| text.find(mark)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fleet;
    use driftsweep::model::Options;
    use driftsweep_common::error::Error;

    const ANA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti ana@laptop";
    const TOKEN: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo= token";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ ana@laptop";
    const CERTIFICATE: &str =
        "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t ana@laptop";

    fn parse(approval: &str) -> Result<ApprovalRules, Error> {
        let text = format!("{approval}\n[[model]]\nname = \"m\"\nbaseline = \"a\"\ncurrent = \"b\"\n");
        Fleet::parse(&text, "f.toml".as_ref(), &Options::new()).map(|fleet| fleet.governance.approval)
    }

    #[test]
    fn keys_are_read_one_or_several_an_approver_in_both_forms() {
        let head = "[approval]\napprovers = [[\"ana\", \"bo b\"], [\"cto\"]]\n";
        for keys in [
            format!("keys = {{ ana = \"{ANA}\", \"bo b\" = [\"{TOKEN}\"] }}"),
            format!("[approval.keys]\nana = [\n\"{ANA}\",\n]\n\"bo b\" = \" {TOKEN}\\n\""),
        ] {
            let approval = parse(&format!("{head}{keys}")).unwrap();
            let shown: Vec<_> = approval
                .keys
                .iter()
                .map(|(name, keys)| (&**name, keys[0].fingerprint(), keys[0].comment().to_owned()))
                .collect();
            // As `ssh-keygen -l` shows them.
            let wanted = [
                ("ana", "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ", "ana@laptop"),
                ("bo b", "SHA256:6WZVJ44bqhAWLVP4Ns0TDkoSQSsZo/h2K+mEvOaNFbw", "token"),
            ];
            let wanted = wanted.map(|(name, key, comment)| (name, key.to_owned(), comment.to_owned()));
            assert_eq!(shown, wanted);
            assert_eq!(approval.signatures, Signatures::Never);
            assert_eq!(approval.owner_of(approval.keys["bo b"][0].key_data()), Some("bo b"));
        }
    }

    #[test]
    fn what_is_no_key_of_an_approver_is_refused_with_line_name_and_remedy_and_not_repeated() {
        let pem =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAASECRET\n-----END OPENSSH PRIVATE KEY-----";
        let body = "b3BlbnNzaC1rZXktdjEAAAAASECRET";
        let half = &ANA[..40];
        for (keys, line, words) in [
            (
                format!("ana = \"{RSA}\""),
                4,
                "keys.ana is of the kind ssh-rsa, which is not supported; give the line of",
            ),
            (format!("ana = \"{CERTIFICATE}\""), 4, "keys.ana is a certificate; give"),
            (format!("ana = [\n\"{ANA}\",\n\"SECRET\"]"), 6, "keys.ana is not a public key of OpenSSH; give"),
            (format!("ana = \"{half}\""), 4, "keys.ana is a damaged public key"),
            (format!("ana = \"{}\"", ANA.replacen("ssh-ed25519", "sk-ssh-ed25519@openssh.com", 1)), 4, "damaged"),
            ("ana = \"\"".into(), 4, "keys.ana is not a public key"),
            ("ana = []".into(), 4, "the list has no key"),
            ("ana = 3".into(), 4, "a public key of OpenSSH, or a list of them"),
            (format!("anna = \"{ANA}\""), 4, "there is no approver of that name; did you mean 'ana'?"),
            (format!("ana = \"{ANA}\"\n\nbo = \"{ANA}\""), 6, "is already that of 'ana'; each key is one person's"),
            (format!("ana = [\"{ANA}\",\n\"{ANA}\"]"), 5, "is already that of 'ana'"),
            (format!("ana = \"\"\"\n{pem}\"\"\""), 5, "a private key stands here"),
            (format!("ana = \"{body}\""), 4, "a private key stands here"),
            (format!("ana = \"{ANA}\"\n# {body}"), 5, "a private key stands here"),
        ] {
            let error =
                parse(&format!("[approval]\napprovers = [[\"ana\", \"bo\"]]\n[approval.keys]\n{keys}")).unwrap_err();
            let Error::Fleet { line: found, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*found, Some(line), "{keys}: {error}");
            let error = error.to_string();
            assert!(error.contains(words), "{keys}: {error}");
            assert!(!error.contains("SECRET") && !error.contains("AAAA"), "{error}");
        }
        // In a place of another type, or as a name.
        for text in [
            format!("[approval]\nkeys = '''{pem}'''"),
            format!("[approval]\nkeys = \"{body}\""),
            format!("[approval]\napprovers = [['''{pem}''']]"),
            format!("[budget]\nteams = {{ \"{body}\" = 3 }}"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(":2: a private key stands here") && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn an_approver_who_would_have_to_sign_and_has_no_key_is_a_mistake() {
        let head = "[approval]\napprovers = [[\"ana\"], [\"cto\"]]\n";
        for kind in ["high_stakes", "always"] {
            let text = format!("{head}signatures = \"{kind}\"\n[approval.keys]\nana = \"{ANA}\"\n");
            let error = parse(&text).unwrap_err().to_string();
            let words =
                format!("f.toml:3: signatures = \"{kind}\": approver 'cto' has no key to sign with; add the public");
            assert!(error.contains(&words), "{error}");
            assert_eq!(parse(&format!("{text}cto = \"{TOKEN}\"\n")).unwrap().signatures.name(), kind);
        }
        assert!(parse(&format!("{head}signatures = \"never\"")).is_ok());
        let error = parse(&format!("{head}signatures = \"allways\"")).unwrap_err().to_string();
        assert!(error.contains("did you mean 'always'?"), "{error}");
    }
}
