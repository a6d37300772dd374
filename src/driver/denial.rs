//! Writes that the API server will refuse until somebody changes something, such as a quota or an admission policy.

use flywheel_engine::decision::Note;
use flywheel_engine::denial::Denial;
use kube::Error;

use super::memory::Known;

/// The effect of each object, by namespace and name, that the API server refused last, and how often in a row.
#[derive(Default)]
pub(super) struct Denials(Known<(Denial, u32)>);

impl Denials {
    /// The effect was refused once more.
    pub(super) fn refused(&mut self, key: &str, denial: Denial, exists: impl Fn(&str) -> bool) {
        self.0.tidy(exists);
        let before = self.0.of.get(key).filter(|(last, _)| last.what == denial.what);
        let count = before.map_or(0, |(_, count)| *count);
        self.0.of.insert(key.into(), (denial, count.saturating_add(1)));
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.of.remove(key);
    }

    /// What has been refused more than once: the first time may be that of an upgrade.
    pub(super) fn of(&self, key: &str) -> Option<Denial> {
        let (denial, count) = self.0.of.get(key)?;
        (*count > 1).then(|| denial.clone())
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
    fn what_is_refused_once_may_be_an_upgrade_and_what_is_refused_again_is_told() {
        let mut denials = Denials::default();
        for (what, shown) in [
            ("make a Job", false),
            ("make a Job", true),
            ("deliver", false),
            ("deliver", true),
        ] {
            denials.refused("a/x", denied(what), |_| true);
            assert_eq!(denials.of("a/x"), shown.then(|| denied(what)), "{what}");
        }
        denials.forget("a/x");
        assert_eq!(denials.of("a/x"), None);
    }
}
