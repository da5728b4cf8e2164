//! The approvers, their keys, and which answers must be signed.

use driftsweep_fleet::ApprovalRules;
use driftsweep_report::output::Page;
use serde::Serialize;

/// The rules of approval as they are.
#[derive(Serialize)]
pub struct ApprovalCheck {
    /// Which answers must be signed.
    pub signatures: &'static str,
    #[serde(skip)]
    sentence: &'static str,
    pub approvers: Vec<ApproverCheck>,
}

/// An approver of a level.
#[derive(Serialize)]
pub struct ApproverCheck {
    pub name: String,
    /// From 1.
    pub level: usize,
    pub keys: Vec<KeyCheck>,
}

/// A public key of an approver.
#[derive(Serialize)]
pub struct KeyCheck {
    /// As OpenSSH shows it.
    pub fingerprint: String,
    pub comment: String,
}

/// The rules of a fleet; `None` where there are no approvers.
pub fn of(rules: &ApprovalRules) -> Option<ApprovalCheck> {
    let keys = |name: &str| {
        let keys = rules.keys.get(name).into_iter().flatten();
        keys.map(|key| KeyCheck { fingerprint: key.fingerprint(), comment: key.comment().to_owned() }).collect()
    };
    let levels = rules.approvers.iter().zip(1..);
    let approvers = levels.flat_map(|(names, level)| names.iter().map(move |name| (name, level)));
    let approvers: Vec<ApproverCheck> =
        approvers.map(|(name, level)| ApproverCheck { name: name.clone(), level, keys: keys(name) }).collect();
    let signatures = rules.signatures;
    (!approvers.is_empty()).then(|| ApprovalCheck {
        signatures: signatures.name(),
        sentence: signatures.sentence(),
        approvers,
    })
}

/// The rules for people.
pub fn lines(page: &mut Page, approval: &ApprovalCheck) {
    page.line(format_args!("  approval {} (signatures = \"{}\")", approval.sentence, approval.signatures));
    for approver in &approval.approvers {
        let key = |key: &KeyCheck| format!("{} {}", key.fingerprint, key.comment).trim_end().to_owned();
        let keys: Vec<String> = approver.keys.iter().map(key).collect();
        let keys = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        page.line(format_args!("  approver {} (level {}): {keys}", approver.name, approver.level));
    }
}
