//! The story that the demo tells: five turns of the loop, and what each of them shows.

/// What has to become of a turn for the story to be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The version serves.
    Promoted,
    /// A gate refuses it, because it is worse than the live version on the same flights.
    RefusedByGate,
    /// The bias policy refuses it.
    RefusedByPolicy,
    /// Its check rolls it back in production.
    RolledBack,
}

/// One turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The newest week that has arrived.
    pub week: u32,
    /// What happens, before it happens.
    pub before: &'static str,
    /// How it has to end.
    pub ending: Ending,
    /// What jane says when she approves.
    pub reason: &'static str,
}

impl Turn {
    /// Name of the FlywheelRun, and of its file in `examples/quickship/deploy`.
    pub fn run(&self) -> String {
        format!("week-{:02}", self.week)
    }
}

/// The turns, in the order in which they are played.
///
/// The weeks are those in which this model really does what is told here; `examples/quickship/README.md` has the numbers.
pub const TURNS: [Turn; 5] = [
    Turn {
        week: 3,
        before: "Nothing but the timetable serves. The first model is trained, judged, and approved by jane.",
        ending: Ending::Promoted,
        reason: "A first model to begin with: it is less than half an hour off, as the gate demands.",
    },
    Turn {
        week: 13,
        before: "Ten weeks later, winter is over. A new model competes with the live one on the same flights.",
        ending: Ending::Promoted,
        reason: "The interval of the difference is below zero, for hubs and small airports alike.",
    },
    Turn {
        week: 21,
        before: "Trained on three punctual weeks, judged on a late one: newer is not better.",
        ending: Ending::RefusedByGate,
        reason: "",
    },
    Turn {
        week: 22,
        before: "Trained on the hubs alone: the average improves, and small airports pay for it.",
        ending: Ending::RefusedByPolicy,
        reason: "",
    },
    Turn {
        week: 24,
        before: "The best numbers so far. It reads the recent delay in minutes; the app sends seconds.",
        ending: Ending::RolledBack,
        reason: "The best numbers that we have had on the table of arrivals.",
    },
];

/// The storyboard, with the minutes and seconds that a warm start takes on two cores.
pub const STORYBOARD: [(&str, &str); 6] = [
    (
        "0:00",
        "builds what is missing; meanwhile the first model is trained and scored as plain processes",
    ),
    (
        "1:00",
        "Kubernetes, the operator from its Helm chart, a Prometheus, and 2.8 million real flights",
    ),
    (
        "2:00",
        "week  3: the first version is approved by jane, whom the demo plays, and deployed",
    ),
    (
        "3:00",
        "week 13: a better version is approved, rolled out in steps under traffic, and promoted",
    ),
    (
        "4:30",
        "weeks 21 and 22: one version is refused by its gate, one by the bias policy",
    ),
    (
        "6:00",
        "week 24: one looks best and is broken in production: its check rolls it back; then the report",
    ),
];

/// The person who approves.
pub const REVIEWER: &str = "jane";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_has_its_file_and_weeks_go_forward() {
        let folder = crate::quickship::folder().join("deploy");
        for turn in TURNS {
            let text = std::fs::read_to_string(folder.join(format!("{}.yaml", turn.run()))).unwrap_or_default();
            assert!(text.contains(&format!("value: \"{}\"", turn.week)), "{}", turn.run());
        }
        assert!(TURNS.is_sorted_by_key(|turn| turn.week));
    }
}
