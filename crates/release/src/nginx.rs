//! Traffic divided by nginx: the text of a file with `split_clients` (ngx_http_split_clients_module), for an `include` in its `http`
//! block.
//!
//! nginx hashes a text to 32 bits (MurmurHash2) and gives the first buckets to the first value. The candidate comes first, so that
//! users who are in the first 5 % are in the first 25 %, too. The text is the key of a user and the name of the rollout: another
//! rollout divides users in another way.

use std::fmt::Write;

/// The values of the variable.
pub const CANDIDATE: &str = "candidate";
/// The value for production.
pub const PRODUCTION: &str = "production";

/// The first line of a file that is written by this program.
const FIRST_LINE: &str = "# driftsweep.split_clients/1: written by driftsweep; do not edit";

/// A variable of nginx by which traffic is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitClients {
    /// The variable, without `$`: `candidate` or `production` for each request.
    pub variable: String,
    /// What a user is known by, in variables of nginx: `$cookie_user`, `$http_x_user_id`, `$remote_addr`.
    pub key: String,
}

impl SplitClients {
    /// A division, checked.
    ///
    /// # Errors
    /// What the variable or the key must be.
    pub fn new(variable: &str, key: &str) -> Result<Self, String> {
        let is_name =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name(variable) {
            return Err("variable: give a name of letters, digits and '_', without $".into());
        }
        // Anything else could end the text, and begin another directive.
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"$_-.:/{}".contains(&byte);
        if !key.contains('$') || !key.bytes().all(is_key) {
            return Err("key: give variables of nginx that tell users apart, such as $cookie_user".into());
        }
        Ok(Self { variable: variable.into(), key: key.into() })
    }

    /// The text of the file, by which the candidate has a share of traffic. nginx knows shares of a hundredth of a percent. `rollout`
    /// is a name of letters, digits, '-' and '_'; others are left out.
    pub fn render(&self, rollout: &str, share: f64) -> String {
        let salt: String = rollout.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        let hundredths = (share.clamp(0.0, 1.0) * 10_000.0).round() as u32;
        let mut text = format!("{FIRST_LINE}\nsplit_clients \"{}:{salt}\" ${} {{\n", self.key, self.variable);
        // A bucket of 0 % or of 100 % is no bucket.
        let rest = match hundredths {
            0 => PRODUCTION,
            10_000 => CANDIDATE,
            _ => {
                let _ = writeln!(text, "    {}.{:02}% {CANDIDATE};", hundredths / 100, hundredths % 100);
                PRODUCTION
            }
        };
        let _ = writeln!(text, "    * {rest};\n}}");
        text
    }

    /// The share of the candidate by the text of a file; `None` where this program has not written it, so that it must not be
    /// replaced.
    pub fn share_in(text: &str) -> Option<f64> {
        let lines = text.strip_prefix(FIRST_LINE)?.lines().map(str::trim);
        for line in lines {
            if let Some((share, CANDIDATE)) = line.strip_suffix(';').and_then(|line| line.split_once("% ")) {
                return share.parse::<f64>().ok().map(|percent| percent / 100.0);
            }
            match line.strip_prefix("* ") {
                Some("candidate;") => return Some(1.0),
                Some("production;") => return Some(0.0),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_comes_first_and_the_share_is_read_as_it_was_written() {
        let split = SplitClients::new("churn_arm", "$cookie_user").unwrap();
        let text = split.render("churn-3", 0.05);
        assert!(text.ends_with(
            "split_clients \"$cookie_user:churn-3\" $churn_arm {\n    5.00% candidate;\n    * production;\n}\n"
        ));
        for (share, written) in [
            (0.0, 0.0),
            (0.05, 0.05),
            (0.0001, 0.0001),
            (0.333_33, 0.3333),
            (0.000_01, 0.0),
            (0.999_99, 1.0),
            (1.0, 1.0),
            (7.0, 1.0),
        ] {
            let found = SplitClients::share_in(&split.render("r", share)).unwrap();
            assert!((found - written).abs() < 1e-12, "{share}: {found}");
        }
        for other in ["", "split_clients \"a\" $b { * candidate; }", "# mine\n    5% candidate;"] {
            assert_eq!(SplitClients::share_in(other), None);
        }
    }

    #[test]
    fn nothing_that_is_named_begins_another_directive() {
        for (variable, key) in
            [("", "$a"), ("a b", "$a"), ("$a", "$a"), ("a", "user"), ("a", "$a\"; load_module x; \""), ("a", "$a\n")]
        {
            assert!(SplitClients::new(variable, key).is_err(), "{variable} {key}");
        }
        let split = SplitClients::new("arm", "$cookie_user").unwrap();
        assert!(split.render("x\"; }\nload_module y;", 0.5).contains("\"$cookie_user:xload_moduley\""));
    }
}
