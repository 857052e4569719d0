//! What `status` shows of policies: what became of each, and how often its rules have decided.

use std::collections::BTreeMap;

use mesh::{Compiled, Status};
use policy::{PolicyName, RuleName};
use serde::{Deserialize, Serialize};

use super::report;

/// A policy object of the own cluster.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its kind.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// Where it stands: file, line and column.
    pub place: String,
    /// `enforced`, `audit` where what it denies passes, `ignored` or `refused`.
    pub state: String,
    /// Why it is less than enforced.
    pub reasons: Vec<String>,
    /// How often its rules have decided about a flow, since it is as it is.
    pub decided: u64,
    /// Those of its rules that have.
    pub rules: Vec<Rule>,
}

/// A rule of a policy.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Its place among the policy's rules of that direction, from 0; nothing of the policy as a
    /// whole, which denies what no rule allows.
    pub index: Option<u32>,
    /// `allow`, `deny` or `pass`; of a policy as a whole `isolates` or `refused`.
    pub verdict: String,
    /// How often it has decided.
    pub decided: u64,
}

/// All policies of the own cluster, in the order of their files.
pub(super) fn policies(compiled: &Compiled) -> Vec<Policy> {
    let mut by_name: BTreeMap<&PolicyName, Vec<(&RuleName, u64)>> = BTreeMap::new();
    for (name, decided) in compiled.snapshot.policy.rules() {
        by_name
            .entry(&name.policy)
            .or_default()
            .push((name, decided));
    }
    let own = compiled.snapshot.own.cluster;
    let statuses = compiled.statuses.iter();
    let statuses = statuses.filter(|status| status.cluster == own);
    let policies = statuses.filter_map(|status| {
        let name = PolicyName {
            kind: status.kind.to_owned(),
            namespace: status.namespace.clone(),
            name: status.name.clone(),
        };
        Some(policy(status, by_name.get(&name)?))
    });
    policies.collect()
}

fn policy(status: &Status, rules: &[(&RuleName, u64)]) -> Policy {
    let report::Object {
        kind,
        name,
        place,
        state,
        reasons,
    } = report::object(status);
    let on_trial = rules.iter().any(|(name, _)| name.audit);
    let decided = rules.iter().filter(|(_, decided)| *decided > 0);
    Policy {
        kind,
        name,
        place,
        state: match on_trial {
            true => "audit".to_owned(),
            false => state,
        },
        reasons,
        decided: rules.iter().map(|(_, decided)| decided).sum(),
        rules: decided
            .map(|(name, decided)| rule(name, *decided))
            .collect(),
    }
}

fn rule(name: &RuleName, decided: u64) -> Rule {
    Rule {
        direction: name.direction.to_string(),
        index: name.index,
        verdict: name.says().to_owned(),
        decided,
    }
}
