//! The weights of two backends in a rule of an HTTPRoute. Pure.

use serde_json::{Value, json};

/// An HTTPRoute with the weights of two backends in one rule; `None` where they are set already. Everything else stays as it is.
///
/// # Errors
/// Why the weights cannot be set.
pub fn with_weights(route: &Value, rule: Option<&str>, arms: [(&str, u32); 2]) -> Result<Option<Value>, String> {
    let at = position(route, rule)?;
    let mut changed = route.clone();
    let backends = changed["spec"]["rules"][at]["backendRefs"].as_array_mut();
    let backends = backends.ok_or("its rule has no backendRefs; add that of the Service in production")?;
    // Traffic of others would be changed by weights beside theirs.
    let is_arm = |backend: &Value| arms.iter().any(|(name, _)| backend["name"] == **name);
    let other = |backend: &&Value| !is_arm(backend) && backend["weight"].as_u64().unwrap_or(1) > 0;
    if let Some(other) = backends.iter().find(other) {
        return Err(format!(
            "its rule also sends requests to {}, which is neither the candidate nor production; give the rollout a rule of its own",
            other["name"]
        ));
    }
    let [_, (production, _)] = arms;
    let Some(pattern) = backends.iter().find(|backend| backend["name"] == production).cloned() else {
        return Err(format!("its rule has no backendRef with the name '{production}'; add that of production"));
    };
    for (name, weight) in arms {
        if !backends.iter().any(|backend| backend["name"] == name) {
            // The Service of the candidate is reached as that of production.
            let mut backend = pattern.clone();
            backend["name"] = name.into();
            backends.push(backend);
        }
        for backend in backends.iter_mut().filter(|backend| backend["name"] == name) {
            backend["weight"] = json!(weight);
        }
    }
    Ok((changed != *route).then_some(changed))
}

/// The share of a backend in a rule by its weights.
///
/// # Errors
/// Why it has none.
pub fn share(route: &Value, rule: Option<&str>, name: &str) -> Result<f64, String> {
    let at = position(route, rule)?;
    let backends = route["spec"]["rules"][at]["backendRefs"].as_array().map_or(&[][..], Vec::as_slice);
    let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or(1) as f64;
    let all: f64 = backends.iter().map(weight).sum();
    let own: f64 = backends.iter().filter(|backend| backend["name"] == name).map(weight).sum();
    Ok(if all > 0.0 { own / all } else { 0.0 })
}

/// The position of the rule.
fn position(route: &Value, rule: Option<&str>) -> Result<usize, String> {
    let rules = route["spec"]["rules"].as_array().map_or(&[][..], Vec::as_slice);
    match (rule, rules) {
        (Some(name), _) => {
            let found = rules.iter().position(|rule| rule["name"] == name);
            found.ok_or_else(|| format!("it has no rule with the name '{name}'"))
        }
        (None, [_]) => Ok(0),
        (None, []) => Err("it has no rule".into()),
        (None, _) => Err(format!("it has {} rules; name one with gateway.rule", rules.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "churn", "resourceVersion": "7", "labels": { "team": "a" } },
            "spec": {
                "parentRefs": [{ "name": "gate" }],
                "rules": [
                    { "name": "staff", "matches": [{ "headers": [{ "name": "x-staff", "value": "1" }] }],
                      "backendRefs": [{ "name": "churn-3", "port": 80, "weight": 1 }] },
                    { "name": "users", "backendRefs": [{ "name": "churn-2", "port": 80, "filters": [{ "type": "X" }] }] },
                ],
            },
            "status": { "parents": [] },
        })
    }

    #[test]
    fn only_the_weights_of_the_two_arms_in_the_declared_rule_are_changed() {
        let arms = [("churn-3", 500), ("churn-2", 9500)];
        let changed = with_weights(&route(), Some("users"), arms).unwrap().unwrap();
        let mut wanted = route();
        wanted["spec"]["rules"][1]["backendRefs"] = json!([
            { "name": "churn-2", "port": 80, "filters": [{ "type": "X" }], "weight": 9500 },
            { "name": "churn-3", "port": 80, "filters": [{ "type": "X" }], "weight": 500 },
        ]);
        assert_eq!(changed, wanted);
        assert_eq!(share(&changed, Some("users"), "churn-3").unwrap(), 0.05);
        assert_eq!(share(&route(), Some("users"), "churn-3").unwrap(), 0.0);
        // Asked again, nothing is changed; and back.
        assert_eq!(with_weights(&changed, Some("users"), arms).unwrap(), None);
        let back = with_weights(&changed, Some("users"), [("churn-3", 0), ("churn-2", 10_000)]).unwrap().unwrap();
        assert_eq!(share(&back, Some("users"), "churn-3").unwrap(), 0.0);
        assert_eq!(back["spec"]["rules"][0], route()["spec"]["rules"][0]);
    }

    #[test]
    fn what_the_rollout_does_not_own_is_refused() {
        let arms = [("churn-3", 500), ("churn-2", 9500)];
        let refused = |route: &Value, rule| with_weights(route, rule, arms).unwrap_err();
        assert!(refused(&route(), None).contains("2 rules"));
        assert!(refused(&route(), Some("none")).contains("no rule with the name"));
        let mut third = route();
        third["spec"]["rules"][1]["backendRefs"].as_array_mut().unwrap().push(json!({ "name": "other", "port": 80 }));
        assert!(refused(&third, Some("users")).contains("\"other\""));
        // One that gets no requests does not matter: it was in production before.
        third["spec"]["rules"][1]["backendRefs"][1]["weight"] = json!(0);
        assert!(with_weights(&third, Some("users"), arms).is_ok());
        assert!(refused(&json!({ "spec": { "rules": [{}] } }), None).contains("no backendRefs"));
        assert!(refused(&json!({}), None).contains("no rule"));
    }
}
