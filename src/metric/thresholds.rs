//! The thresholds of the rules. Those of metrics stand in the table of metrics.

/// Makes `Thresholds` and `PartialThresholds` from one list: name, type, default, and what a setting has to be.
macro_rules! thresholds {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr $(, $check:path)?;)*) => {
        /// Thresholds above which (for p-values: below which) a feature has drifted.
        ///
        /// ```
        /// use driftsweep::Thresholds;
        ///
        /// let strict = Thresholds { psi: 0.05, ..Thresholds::default() };
        /// assert_eq!(strict.js, Thresholds::default().js);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Thresholds {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Thresholds as one table of the fleet file sets them: those that are absent are left to the next level.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct PartialThresholds {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl PartialThresholds {
            /// All thresholds: those set here, the others as the outer level has them.
            pub fn over(self, outer: Thresholds) -> Thresholds {
                Thresholds { $($name: self.$name.unwrap_or(outer.$name),)* }
            }

            /// Whether the threshold of this name is set.
            pub fn sets(&self, name: &str) -> bool {
                $(name == stringify!($name) && self.$name.is_some())||*
            }

            /// What is wrong with the first setting that is out of its range.
            pub fn mistake(&self) -> Option<String> {
                $($(
                    if let Some(value) = self.$name && let Some(wanted) = $check(value) {
                        return Some(format!("threshold {} = {value}: must be {wanted}", stringify!($name)));
                    }
                )?)*
                None
            }
        }
    };
}

pub(super) use thresholds;

pub(super) fn share(value: f64) -> Option<&'static str> {
    (!(0.0..=1.0).contains(&value)).then_some("between 0 and 1")
}

pub(super) fn zero_or_more(value: f64) -> Option<&'static str> {
    (!value.is_finite() || value < 0.0).then_some("0 or more")
}

#[cfg(test)]
mod tests {
    use crate::metric::{PartialThresholds, Thresholds};

    #[test]
    fn the_nearest_level_wins_and_knows_what_it_sets() {
        let outer = Thresholds { psi: 0.3, ..Thresholds::default() };
        let own = PartialThresholds { js: Some(0.5), min_rows: Some(10), ..PartialThresholds::default() };
        let all = own.over(outer);
        assert_eq!((all.psi, all.js, all.min_rows, all.above_noise), (0.3, 0.5, 10, true));
        assert!(own.sets("js") && own.sets("min_rows") && !own.sets("psi") && !own.sets("nothing"));
    }

    #[test]
    fn settings_out_of_range_are_named_with_their_range() {
        let of = |text: &str| toml::from_str::<PartialThresholds>(text).unwrap().mistake();
        for name in ["js", "ks_p", "ks_d", "missing", "missing_p"] {
            assert_eq!(
                of(&format!("{name} = 1.5")).unwrap(),
                format!("threshold {name} = 1.5: must be between 0 and 1")
            );
            assert_eq!(of(&format!("{name} = 1.0")), None);
        }
        assert_eq!(of("psi = -0.1").unwrap(), "threshold psi = -0.1: must be 0 or more");
        assert_eq!(of("psi = 12.0\nmin_rows = 0\nabove_noise = false"), None);
    }
}
