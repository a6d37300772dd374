//! Writes that the API server will refuse until somebody changes something, such as a quota or an admission policy.

use flywheel_engine::decision::Note;
use flywheel_engine::denial::Denial;
use kube::Error;

use super::memory::Known;

/// What was refused of each object, by namespace and name, when something was last to be done for it.
#[derive(Default)]
pub(super) struct Denials(Known<Refused>);

struct Refused {
    uid: String,
    denial: Denial,
    /// Not for the first time: that may be the one of an upgrade.
    again: bool,
}

impl Denials {
    /// The effect of the object with this UID was refused.
    pub(super) fn refused(&mut self, key: &str, uid: String, denial: Denial, exists: impl Fn(&str) -> bool) {
        self.0.tidy(exists);
        let before = self.0.of.get(key);
        let again = before.is_some_and(|before| before.uid == uid && before.denial.what == denial.what);
        self.0.of.insert(key.into(), Refused { uid, denial, again });
    }

    /// Something was done, or nothing is to be done.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.of.remove(key);
    }

    /// What has been refused more than once.
    pub(super) fn of(&self, key: &str, uid: Option<&str>) -> Option<Denial> {
        let refused = self.0.of.get(key).filter(|r| r.again && Some(r.uid.as_str()) == uid)?;
        Some(refused.denial.clone())
    }
}

/// What was refused, if trying once more is of no use.
pub(super) fn denial<T>(why: &str, written: &Result<T, Error>) -> Option<Denial> {
    let Err(Error::Api(answer)) = written else {
        return None;
    };
    matches!(answer.code, 400 | 403 | 422).then(|| Denial {
        what: why.to_owned(),
        said: answer.message.clone(),
    })
}

/// The event that tells of it, at once and each time.
pub(super) fn told(denial: &Denial) -> Note {
    Note::warning("WriteRefused", denial.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(what: &str) -> Denial {
        Denial {
            what: what.to_owned(),
            said: "exceeded quota".to_owned(),
        }
    }

    #[test]
    fn what_is_refused_once_may_be_an_upgrade_and_what_is_refused_again_is_told_of_that_object_alone() {
        let mut denials = Denials::default();

        for (what, shown) in [
            ("make a Job", false),
            ("make a Job", true),
            ("deliver", false),
            ("deliver", true),
        ] {
            denials.refused("a/x", "u".to_owned(), denied(what), |_| true);
            assert_eq!(denials.of("a/x", Some("u")), shown.then(|| denied(what)), "{what}");
        }
        assert_eq!(denials.of("a/x", Some("its successor")), None);
        denials.refused("a/x", "its successor".to_owned(), denied("deliver"), |_| true);
        assert_eq!(denials.of("a/x", Some("its successor")), None);
        denials.refused("a/x", "its successor".to_owned(), denied("deliver"), |_| true);
        denials.forget("a/x");
        assert_eq!(denials.of("a/x", Some("its successor")), None);
    }
}
