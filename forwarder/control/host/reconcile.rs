//! What is wanted is a list, what the host has is a list, and only the difference is done,
//! additions first, so that a node that starts over the leftovers of a killed one never has fewer
//! rules than before.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion};

use super::HostError;
use super::marks::{PRIORITY_END, PRIORITY_FIRST, PROTOCOL};
use super::rules::{Route, Rule, family, read_route, read_rule};

/// Makes the host's rules and routes those of `rules` and `routes`.
pub(super) async fn reconcile(
    handle: &Handle,
    v4: bool,
    rules: &[Rule],
    routes: &[Route],
) -> Result<(), HostError> {
    let present = own_routes(handle, v4).await?;
    let known: Vec<Option<Route>> = present.iter().map(read_route).collect();
    // Blackholes first: from the moment that a rule leads into a table, it is closed.
    let (blackholes, devices): (Vec<&Route>, Vec<&Route>) = routes
        .iter()
        .filter(|route| !known.contains(&Some((*route).clone())))
        .partition(|route| route.device.is_none());
    for route in blackholes.into_iter().chain(devices) {
        let adding = handle
            .route()
            .add(route.message())
            .replace()
            .execute()
            .await;
        adding.map_err(|error| HostError::netlink(format!("the route {route}"), &error))?;
    }
    let rules_present = own_rules(handle, v4).await?;
    let rules_known: Vec<Option<Rule>> = rules_present.iter().map(read_rule).collect();
    for rule in rules {
        if !rules_known.contains(&Some(rule.clone())) {
            add_rule(handle, rule).await?;
        }
    }
    for (message, rule) in rules_present.into_iter().zip(rules_known) {
        if !rule.is_some_and(|rule| rules.contains(&rule)) {
            delete_rule(handle, message).await?;
        }
    }
    for (message, route) in present.into_iter().zip(known) {
        let replaced = |route: &Route| routes.iter().any(|wanted| wanted.same_place(route));
        if !route.is_some_and(|route| replaced(&route)) {
            delete_route(handle, message).await?;
        }
    }
    Ok(())
}

/// Removes all rules, then all routes, and says how many there were of each.
pub(super) async fn remove(handle: &Handle, v4: bool) -> Result<(usize, usize), HostError> {
    let rules = own_rules(handle, v4).await?;
    let routes = own_routes(handle, v4).await?;
    let counts = (rules.len(), routes.len());
    for rule in rules {
        delete_rule(handle, rule).await?;
    }
    for route in routes {
        delete_route(handle, route).await?;
    }
    Ok(counts)
}

/// The devices that our rules on the host name.
pub(super) async fn devices_named(handle: &Handle) -> Result<Vec<String>, HostError> {
    let mut names = Vec::new();
    for message in own_rules(handle, true).await? {
        let named = read_rule(&message).and_then(|rule| rule.input);
        names.extend(named.filter(|name| name != "lo" && !names.contains(name)));
    }
    Ok(names)
}

async fn own_rules(handle: &Handle, v4: bool) -> Result<Vec<RuleMessage>, HostError> {
    let version = if v4 { IpVersion::V4 } else { IpVersion::V6 };
    let all: Vec<RuleMessage> = handle
        .rule()
        .get(version)
        .execute()
        .try_collect()
        .await
        .map_err(|error| HostError::netlink("the list of rules", &error))?;
    let ours = |message: &RuleMessage| {
        message.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
            && message.attributes.iter().any(|attribute| {
                matches!(attribute, RuleAttribute::Priority(p) if (PRIORITY_FIRST..=PRIORITY_END).contains(p))
            })
    };
    Ok(all.into_iter().filter(ours).collect())
}

async fn own_routes(handle: &Handle, v4: bool) -> Result<Vec<RouteMessage>, HostError> {
    let mut query = RouteMessage::default();
    query.header.address_family = family(v4);
    let all: Vec<RouteMessage> = handle
        .route()
        .get(query)
        .execute()
        .try_collect()
        .await
        .map_err(|error| HostError::netlink("the list of routes", &error))?;
    let ours = |message: &RouteMessage| {
        message.header.protocol == RouteProtocol::Other(PROTOCOL)
            && message.header.address_family == family(v4)
    };
    Ok(all.into_iter().filter(ours).collect())
}

async fn add_rule(handle: &Handle, rule: &Rule) -> Result<(), HostError> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule.message();
    request
        .execute()
        .await
        .map_err(|error| HostError::netlink("a policy rule", &error))
}

async fn delete_rule(handle: &Handle, message: RuleMessage) -> Result<(), HostError> {
    let deleting = handle.rule().del(message).execute().await;
    deleting.map_err(|error| HostError::netlink("the removal of a policy rule", &error))
}

async fn delete_route(handle: &Handle, message: RouteMessage) -> Result<(), HostError> {
    match handle.route().del(message).execute().await {
        // It went with its device while we looked.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -3 => Ok(()),
        other => other.map_err(|error| HostError::netlink("the removal of a route", &error)),
    }
}
