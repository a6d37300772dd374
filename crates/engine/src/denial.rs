//! Effects that the API server will refuse until somebody changes something, such as a quota or an admission policy.

use flywheel_api::condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use crate::decision::Effect;
use crate::standing::{Kind, Standing, shorten};

/// An effect of an object that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was to be done, as [`Effect::why`] says it.
    pub what: String,
    /// What the API server answered.
    pub said: String,
}

impl Denial {
    /// One sentence for people.
    #[must_use]
    pub fn message(&self) -> String {
        beginning(&self.what) + &self.said
    }
}

fn beginning(what: &str) -> String {
    format!("The API server refuses a write, which is tried again ({what}): ")
}

/// Where an object stands that is to do this, if anything, and if it has been refused; `stored` are its conditions.
///
/// It stands there until it is to do something else, in the words of the first time: they may have times and numbers in
/// them, and who writes a status whenever they change comes to no rest.
#[must_use]
pub fn standing(denial: Option<&Denial>, effect: Option<&Effect>, stored: &[Condition]) -> Option<Standing> {
    let effect = effect?;
    let same = |c: &&Condition| c.reason == "WriteRefused" && c.message.starts_with(&beginning(&effect.why));
    let stands = condition::find(stored, condition::STALLED).filter(same);
    let refused = || denial.filter(|d| d.what == effect.why).map(Denial::message);
    let message = stands.map(|c| c.message.clone()).or_else(refused)?;
    Some(Standing::new(Kind::Stalled, "WriteRefused", shorten(&message, 1024)))
}
