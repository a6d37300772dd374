//! What a verb is about: a kind and a name, as people write them (`rollout eta-7`, `mv/eta-7`, `rollouts.flywheel.dev/eta-7`).

use crate::error::{Error, refused};

/// What a verb can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A FlywheelPipeline.
    Pipeline,
    /// A FlywheelRun.
    Run,
    /// A ModelVersion.
    Version,
    /// A Rollout.
    Rollout,
    /// A BiasPolicy.
    Policy,
    /// An Approval.
    Approval,
    /// A Deployment that serves.
    Deployment,
    /// A dataset, by its digest.
    Dataset,
}

/// Every way to write a kind; the first is the one that the plugin prints itself.
const NAMES: [(Kind, &[&str]); 8] = [
    (
        Kind::Pipeline,
        &["pipeline", "pipelines", "flywheelpipeline", "flywheelpipelines", "fwp"],
    ),
    (Kind::Run, &["run", "runs", "flywheelrun", "flywheelruns", "fwr"]),
    (
        Kind::Version,
        &["modelversion", "modelversions", "version", "versions", "mv"],
    ),
    (Kind::Rollout, &["rollout", "rollouts", "fwro"]),
    (Kind::Policy, &["biaspolicy", "biaspolicies", "bias"]),
    (Kind::Approval, &["approval", "approvals", "fwa"]),
    (Kind::Deployment, &["deployment", "deployments", "deploy"]),
    (Kind::Dataset, &["dataset", "datasets"]),
];

impl Kind {
    /// The word that the plugin prints.
    #[must_use]
    pub fn word(self) -> &'static str {
        let names = NAMES.iter().find(|(kind, _)| *kind == self);
        names.and_then(|(_, words)| words.first()).copied().unwrap_or_default()
    }

    /// The kind that the word names; a group behind the first point is accepted.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let lower = word.to_lowercase();
        let word = lower
            .strip_suffix(".flywheel.dev")
            .or_else(|| lower.strip_suffix(".apps"))
            .unwrap_or(&lower);
        NAMES
            .iter()
            .find(|(_, words)| words.contains(&word))
            .map(|(kind, _)| *kind)
    }
}

/// What a verb is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Kind.
    pub kind: Kind,
    /// Name, or the digest of a dataset.
    pub name: String,
}

impl Subject {
    /// The words of a command line: `KIND NAME`, `KIND/NAME`, or `NAME` alone where the verb has a usual kind.
    ///
    /// # Errors
    /// With the kinds that the verb accepts.
    pub fn parse(words: &[String], accepted: &[Kind], usual: Option<Kind>) -> Result<Self, Error> {
        let (kind, name) = match words {
            [kind, name] => (Some(kind.as_str()), name.as_str()),
            [word] => match word.split_once('/') {
                Some((kind, name)) => (Some(kind), name),
                None => (None, word.as_str()),
            },
            _ => (None, ""),
        };
        let list = || accepted.iter().map(|k| k.word()).collect::<Vec<_>>().join(", ");
        if name.is_empty() {
            return refused(format!(
                "name what it is about: KIND NAME, where KIND is one of {}",
                list()
            ));
        }
        let kind = match (kind.map(|word| (word, Kind::of(word))), usual) {
            (Some((_, Some(kind))), _) if accepted.contains(&kind) => kind,
            (Some((word, _)), _) => {
                return refused(format!("{word} is no kind that this verb knows: use one of {}", list()));
            }
            (None, Some(kind)) => kind,
            (None, None) => {
                return refused(format!(
                    "the kind of {name} is missing: write KIND NAME, where KIND is one of {}",
                    list()
                ));
            }
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[rstest]
    #[case::two_words("rollout eta-7", Kind::Rollout)]
    #[case::slash("mv/eta-7", Kind::Version)]
    #[case::as_the_operator_prints_it("flywheelrun eta-7", Kind::Run)]
    #[case::with_group("rollouts.flywheel.dev/eta-7", Kind::Rollout)]
    #[case::capitals("ModelVersion eta-7", Kind::Version)]
    #[case::usual_kind("eta-7", Kind::Run)]
    fn subjects_are_read_as_people_write_them(#[case] text: &str, #[case] kind: Kind) {
        let accepted = [Kind::Rollout, Kind::Version, Kind::Run];
        let subject = Subject::parse(&words(text), &accepted, Some(Kind::Run)).unwrap();
        assert_eq!((subject.kind, subject.name.as_str()), (kind, "eta-7"));
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_ones() {
        let error = Subject::parse(&words("pod eta-7"), &[Kind::Rollout, Kind::Run], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pod is no kind that this verb knows: use one of rollout, run"
        );
        let error = Subject::parse(&words("eta-7"), &[Kind::Rollout], None).unwrap_err();
        assert!(error.to_string().starts_with("the kind of eta-7 is missing"));
    }
}
