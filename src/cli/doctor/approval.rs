//! Who may allow trainings, with which keys they sign, and which answers must be signed.

use driftsweep::fleet::Approval;
use driftsweep::output::Page;
use serde::Serialize;

/// The rules of approval as they are.
#[derive(Serialize)]
pub struct CheckedApproval {
    /// Which answers must be signed.
    pub signatures: &'static str,
    #[serde(skip)]
    sentence: &'static str,
    pub approvers: Vec<CheckedApprover>,
}

/// An approver of a level.
#[derive(Serialize)]
pub struct CheckedApprover {
    pub name: String,
    /// From 1.
    pub level: usize,
    pub keys: Vec<CheckedKey>,
}

/// A public key of an approver.
#[derive(Serialize)]
pub struct CheckedKey {
    /// As OpenSSH shows it.
    pub fingerprint: String,
    pub comment: String,
}

/// The rules of a fleet; `None` where nobody may allow anything.
pub fn of(rules: &Approval) -> Option<CheckedApproval> {
    let keys = |name: &str| {
        let keys = rules.keys.get(name).into_iter().flatten();
        keys.map(|key| CheckedKey { fingerprint: key.fingerprint(), comment: key.comment().to_owned() }).collect()
    };
    let levels = rules.approvers.iter().zip(1..);
    let approvers = levels.flat_map(|(names, level)| names.iter().map(move |name| (name, level)));
    let approvers: Vec<CheckedApprover> =
        approvers.map(|(name, level)| CheckedApprover { name: name.clone(), level, keys: keys(name) }).collect();
    let signatures = rules.signatures;
    (!approvers.is_empty()).then(|| CheckedApproval {
        signatures: signatures.name(),
        sentence: signatures.sentence(),
        approvers,
    })
}

/// The rules for people.
pub fn lines(page: &mut Page, approval: &CheckedApproval) {
    page.line(format_args!("  approval {} (signatures = \"{}\")", approval.sentence, approval.signatures));
    for approver in &approval.approvers {
        let key = |key: &CheckedKey| format!("{} {}", key.fingerprint, key.comment).trim_end().to_owned();
        let keys: Vec<String> = approver.keys.iter().map(key).collect();
        let keys = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
        page.line(format_args!("  approver {} (level {}): {keys}", approver.name, approver.level));
    }
}
