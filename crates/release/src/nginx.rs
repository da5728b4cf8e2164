//! Traffic divided by nginx: the text of a file with `split_clients` (ngx_http_split_clients_module), for an `include` in its `http`
//! block.
//!
//! nginx hashes a text to 32 bits (MurmurHash2) and gives the first buckets to the first value. The candidate comes first, so that
//! users who are in the first 5 % are in the first 25 %, too. The text is the key of a user and the name of the rollout: another
//! rollout divides users in another way.

use std::fmt::Write;

/// The first line of a file that is written by this program.
const FIRST_LINE: &str = "# driftsweep.split_clients/1: written by driftsweep; do not edit";

/// A variable of nginx by which traffic is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitClients {
    /// The variable, without `$`: the name of an arm for each request.
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
    /// is a name of letters, digits, '-' and '_'; others are left out. `arms` are the values of the variable for the candidate and for
    /// production.
    ///
    /// # Errors
    /// What the name of an arm must be.
    pub fn render(&self, rollout: &str, share: f64, arms: (&str, &str)) -> Result<String, String> {
        // Anything else could end the value, and begin another directive.
        let is_value = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        for arm in [arms.0, arms.1] {
            if arm.is_empty() || !arm.chars().all(is_value) {
                return Err(format!("'{arm}' cannot be a value in nginx; use letters, digits, '-', '_' and '.'"));
            }
        }
        let (candidate, production) = arms;
        let salt: String = rollout.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        let hundredths = (share.clamp(0.0, 1.0) * 10_000.0).round() as u32;
        let mut text = format!("{FIRST_LINE}\nsplit_clients \"{}:{salt}\" ${} {{\n", self.key, self.variable);
        // A bucket of 0 % or of 100 % is no bucket.
        let rest = match hundredths {
            0 => production,
            10_000 => candidate,
            _ => {
                let _ = writeln!(text, "    {}.{:02}% {candidate};", hundredths / 100, hundredths % 100);
                production
            }
        };
        let _ = writeln!(text, "    * {rest};\n}}");
        Ok(text)
    }

    /// The share of an arm by the text of a file; `None` where this program has not written it, so that it must not be replaced.
    pub fn share_in(text: &str, arm: &str) -> Option<f64> {
        let lines = text.strip_prefix(FIRST_LINE)?.lines().map(str::trim);
        let mut left = 1.0;
        for line in lines {
            let Some((share, named)) = line.strip_suffix(';').and_then(|line| line.split_once(' ')) else { continue };
            let share = match share.strip_suffix('%') {
                Some(percent) => percent.parse::<f64>().ok()? / 100.0,
                None if share == "*" => left,
                None => continue,
            };
            if named == arm {
                return Some(share);
            }
            left -= share;
        }
        Some(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARMS: (&str, &str) = ("candidate", "production");

    #[test]
    fn the_candidate_comes_first_and_the_share_is_read_as_it_was_written() {
        let split = SplitClients::new("churn_arm", "$cookie_user").unwrap();
        let text = split.render("churn-3", 0.05, ARMS).unwrap();
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
            let found = SplitClients::share_in(&split.render("r", share, ARMS).unwrap(), "candidate").unwrap();
            assert!((found - written).abs() < 1e-12, "{share}: {found}");
        }
        for other in ["", "split_clients \"a\" $b { * candidate; }", "# mine\n    5% candidate;"] {
            assert_eq!(SplitClients::share_in(other, "candidate"), None);
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
        let text = split.render("x\"; }\nload_module y;", 0.5, ARMS).unwrap();
        assert!(text.contains("\"$cookie_user:xload_moduley\""));
        for arm in ["", "a b", "a;", "}", "a\n"] {
            assert!(
                split.render("r", 0.5, (arm, "production")).is_err() && split.render("r", 0.5, ("a", arm)).is_err()
            );
        }
    }
}
