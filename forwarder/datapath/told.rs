//! What is told of a flow where it is judged.

use packet::Address;

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
    /// It may get another backend.
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

    /// What goes on as a flow to `destination`: the same flow to people.
    pub(crate) fn continued_to(self, destination: (Address, u16)) -> Option<&'a Conversation> {
        match self {
            Past::Nothing => None,
            Past::Kept(old) | Past::Released(old) => Some(old),
        }
        .filter(|old| old.destination == destination)
    }
}

impl Pass<'_> {
    /// Records that a flow has begun, or that it may not be. Of one that was known before it is told
    /// only that it has moved: that it was cut is told by who knows that it is not begun anew.
    #[cold]
    pub(crate) fn tell(
        &mut self,
        side: Side,
        inquiry: &Inquiry,
        judgement: &Judgement<'_>,
        past: Past<'_>,
        denied: Option<Reason>,
    ) {
        let key = Key {
            flow: inquiry.flow,
            side,
        };
        let event = match (past, denied) {
            (Past::Kept(_), _) | (Past::Released(_), Some(_)) => return,
            (Past::Nothing, Some(reason)) => {
                if !self.flows.is_news(&key, self.now.time) {
                    return;
                }
                Event::Denied(reason)
            }
            (Past::Released(old), None) => {
                if past.continued_to(judgement.destination).is_some() {
                    return;
                }
                self.flows.records.end(old, End::Moved);
                Event::Began
            }
            (Past::Nothing, None) => Event::Began,
        };
        self.flows.records.push(Record {
            event,
            side,
            flow: inquiry.flow,
            kind: inquiry.kind,
            destination: judgement.destination,
            subject: judgement.subject.map(|endpoint| endpoint.identity),
            peer: judgement.peer.map(|endpoint| endpoint.identity),
            rule: judgement.asked.as_ref().and_then(|(_, said)| said.rule),
            epoch: self.snapshot.epoch,
        });
    }
}
