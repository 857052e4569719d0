//! What is told of a flow where it is judged.

use crate::conversation::Conversation;
use crate::judge::{Inquiry, Judgement};
use crate::pass::Pass;
use crate::record::{End, Event, Record};
use crate::{Key, Reason, Side};

/// What was known of a flow before it is judged.
#[derive(Clone, Copy)]
pub(crate) enum Past<'a> {
    /// Nothing.
    Nothing,
    /// It goes on with the backend that it has, if it has one.
    Kept(&'a Conversation),
    /// It begins anew, and may get another backend.
    Released(&'a Conversation),
}

impl<'a> Past<'a> {
    /// What keeps its backend.
    pub(crate) fn kept(self) -> Option<&'a Conversation> {
        match self {
            Past::Kept(old) => Some(old),
            Past::Nothing | Past::Released(_) => None,
        }
    }

    /// What goes on as the flow that is judged: the same two ends, and nothing came between.
    pub(crate) fn continued(self, judgement: &Judgement<'_>) -> Option<&'a Conversation> {
        let old = match self {
            Past::Nothing => return None,
            Past::Kept(old) | Past::Released(old) => old,
        };
        let same = old.cut.is_none()
            && old.destination == judgement.destination
            && old.frontend.is_some() == judgement.service.is_some()
            && Some(old.owners) == judgement.owners();
        same.then_some(old)
    }
}

impl Pass<'_> {
    /// Records that a flow has begun, or that it may not be. Of one that was known before, it is told
    /// here that another has its place; that it was cut is told by who knows that it does not begin
    /// anew.
    #[cold]
    pub(crate) fn tell(
        &mut self,
        side: Side,
        inquiry: &Inquiry,
        judgement: &Judgement<'_>,
        past: Past<'_>,
        denied: Option<Reason>,
    ) {
        let rule = judgement.asked.as_ref().and_then(|(_, said)| said.rule);
        if let Some(rule) = rule {
            self.snapshot.policy.count(rule);
        }
        let began = judgement.audited().map_or(Event::Began, Event::Audited);
        let event = match (past, denied) {
            (Past::Nothing, Some(reason)) => {
                let key = Key {
                    flow: inquiry.flow,
                    side,
                };
                if !self.flows.records.is_news(key, self.now.time) {
                    return;
                }
                Event::Denied(reason)
            }
            (Past::Kept(_) | Past::Released(_), Some(_)) => {
                self.denied_by = rule;
                return;
            }
            (Past::Nothing, None) => began,
            (Past::Kept(old) | Past::Released(old), None) => {
                if past.continued(judgement).is_some() {
                    return;
                }
                self.flows.records.end(old, End::Moved);
                began
            }
        };
        self.flows.records.push(Record {
            event,
            side,
            flow: inquiry.flow,
            kind: inquiry.kind,
            destination: judgement.destination,
            subject: judgement.subject.map(|endpoint| endpoint.identity),
            peer: judgement.peer.map(|endpoint| endpoint.identity),
            rule,
            epoch: self.snapshot.epoch,
        });
    }

    /// Records that a change has cut a flow, by the rule that was just asked.
    #[cold]
    pub(crate) fn tell_cut(&mut self, old: &Conversation, reason: Reason) {
        let (rule, epoch) = (self.denied_by, self.snapshot.epoch);
        self.flows.records.cut(old, reason, rule, epoch);
    }
}
