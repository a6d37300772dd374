//! What people see, state by state, at both widths.

use rstest::rstest;

use super::{decision, explain, get, lineage};
use crate::paper::Paper;
use crate::scenes;
use crate::subject::{Kind, Subject};
use crate::tree;
use crate::world::World;

fn paper(width: usize) -> Paper {
    Paper { width, color: false }
}

fn scene(name: &str) -> World {
    match name {
        "quiet" => scenes::quiet(),
        "waiting" => scenes::waiting(),
        "refused_by_gate" => scenes::refused(true, false),
        "refused_by_bias" => scenes::refused(false, true),
        "rolling_out" => scenes::rolling_out(),
        "held" => scenes::held(),
        "drifted" => scenes::drifted(),
        "rolled_back" => scenes::rolled_back(),
        "braked" => scenes::braked(),
        "failing_stage" => scenes::failing_stage(),
        other => panic!("no scene {other}"),
    }
}

#[rstest]
fn the_tree_shows_every_state(
    #[values(
        "quiet",
        "waiting",
        "refused_by_gate",
        "refused_by_bias",
        "rolling_out",
        "held",
        "drifted",
        "rolled_back",
        "braked",
        "failing_stage"
    )]
    name: &str,
    #[values(80, 120)] width: usize,
) {
    let world = scene(name);
    let drawn = tree::draw(paper(width), &get::tree(&world, None, false).unwrap());
    // Commands are never torn, nor are digests: everything else fits.
    let prose = drawn
        .lines()
        .filter(|line| !line.contains("kubectl flywheel") && !line.contains("sha256:"));
    for line in prose {
        assert!(crate::paper::columns(line) <= width, "too wide: {line}");
    }
    insta::with_settings!({ snapshot_suffix => format!("{name}_{width}") }, { insta::assert_snapshot!("get", drawn) });
}

#[rstest]
#[case::waits_for_a_person("waiting", Kind::Run)]
#[case::waits_for_a_person("waiting", Kind::Version)]
#[case::refused_by_a_gate("refused_by_gate", Kind::Version)]
#[case::refused_by_a_policy("refused_by_bias", Kind::Run)]
#[case::at_a_step("rolling_out", Kind::Rollout)]
#[case::two_people("held", Kind::Rollout)]
#[case::drift("drifted", Kind::Rollout)]
#[case::went_back("rolled_back", Kind::Rollout)]
#[case::brake("braked", Kind::Run)]
#[case::stage("failing_stage", Kind::Run)]
fn the_explanation_has_every_number(#[case] name: &str, #[case] kind: Kind) {
    let subject = Subject {
        kind,
        name: "eta-7".to_owned(),
    };
    let world = scene(name);
    let explanation = explain::explain(&world, &subject, true).unwrap();
    let suffix = format!("{name}_{}", kind.word());
    insta::with_settings!({ snapshot_suffix => suffix }, {
        insta::assert_snapshot!("explain", explanation.draw(paper(100), world.now));
    });
}

#[test]
fn a_pipeline_says_who_decides() {
    let world = scene("waiting");
    let subject = Subject {
        kind: Kind::Pipeline,
        name: "eta".to_owned(),
    };
    let explanation = explain::explain(&world, &subject, true).unwrap();
    insta::assert_snapshot!(explanation.draw(paper(100), world.now));
}

#[test]
fn a_pipeline_of_which_nobody_can_say_what_serves_does_not_say_that_it_serves() {
    for (seen, words) in [
        (true, "eta-6 served when it was last seen"),
        (false, "nobody can say what serves"),
    ] {
        let world = scenes::untold(seen);
        let drawn = tree::draw(paper(120), &get::tree(&world, None, false).unwrap());
        let first: String = drawn.lines().take(2).collect();
        assert!(first.contains(words) && !first.contains("serves since"), "{drawn}");
    }
    let subject = Subject {
        kind: Kind::Pipeline,
        name: "eta".to_owned(),
    };
    let world = scenes::untold(true);
    let explained = explain::explain(&world, &subject, true)
        .unwrap()
        .draw(paper(100), world.now);
    let unknown = explained.lines().find(|line| line.contains("LiveVersionUnknown"));
    assert!(unknown.is_some_and(|line| line.contains('✘')), "{explained}");
}

#[test]
fn an_explanation_is_data_too() {
    let world = scene("refused_by_bias");
    let subject = Subject {
        kind: Kind::Version,
        name: "eta-7".to_owned(),
    };
    insta::assert_json_snapshot!(explain::explain(&world, &subject, true).unwrap());
}

#[test]
fn an_object_that_is_not_there_is_named_with_those_that_are() {
    let subject = Subject {
        kind: Kind::Version,
        name: "eta-9".to_owned(),
    };
    let error = get::tree(&scene("waiting"), Some(&subject), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ModelVersion eta-9 does not exist in namespace ml (there are eta-6, eta-7): correct the name, or choose the namespace with -n"
    );
}

#[test]
fn the_evidence_is_shown_in_full() {
    let world = scene("waiting");
    let waits = world.runs[1].status.as_ref().unwrap().waiting_for.clone().unwrap();
    insta::assert_snapshot!(decision::evidence(&waits, paper(100)).unwrap());
}

#[test]
fn evidence_that_does_not_match_its_digest_is_not_decided_on() {
    let world = scene("waiting");
    let mut waits = world.runs[1].status.as_ref().unwrap().waiting_for.clone().unwrap();
    waits.evidence = waits.evidence.replace("12.41", "11.41");
    let error = decision::evidence(&waits, paper(100)).unwrap_err().to_string();
    assert!(error.contains("someone altered the status"), "{error}");
}

#[test]
fn the_same_decision_has_the_same_name_and_another_one_has_another() {
    let world = scene("held");
    let waits = world.rollouts[1].status.as_ref().unwrap().waiting_for.clone().unwrap();
    let decided = |approver: &str| decision::Decided {
        decision: flywheel_api::approval::ApprovalDecision::Approve,
        approver: approver.to_owned(),
        reason: String::new(),
        expires_at: None,
    };
    let name = |approver: &str, again: u32| {
        decision::approval(&waits, &decided(approver), "ml", again)
            .metadata
            .name
            .unwrap()
    };
    assert_eq!(name("jane", 0), name("jane", 0));
    assert_ne!(name("jane", 0), name("bob", 0));
    assert_ne!(name("jane", 0), name("jane", 1));
    assert!(name("jane", 0).starts_with("eta-7-") && name("jane", 0).len() <= 40);
}

#[rstest]
#[case::of_a_version(Kind::Version, "eta-7")]
#[case::of_data(Kind::Dataset, "sha256:4d5f01234567")]
#[case::of_what_serves(Kind::Deployment, "eta")]
#[case::of_a_run(Kind::Run, "eta-6")]
fn lineage_is_walked_both_ways(#[case] kind: Kind, #[case] name: &str) {
    let subject = Subject {
        kind,
        name: name.to_owned(),
    };
    let found = lineage::lineage(&scene("rolled_back"), &subject).unwrap();
    insta::with_settings!({ snapshot_suffix => kind.word() }, {
        insta::assert_snapshot!("lineage", tree::draw(paper(120), &[found.tree()]));
    });
}

#[rstest]
#[case::unknown(
    "sha256:ffffffffffff",
    "no ModelVersion in namespace ml names a dataset with digest sha256:ffffffffffff"
)]
#[case::too_short("sha256:4d5", "is no digest: write sha256: and at least 8 hexadecimal digits")]
#[case::no_digest("rows", "is no digest")]
fn a_dataset_is_found_by_its_digest_alone(#[case] name: &str, #[case] sentence: &str) {
    let subject = Subject {
        kind: Kind::Dataset,
        name: name.to_owned(),
    };
    let error = lineage::lineage(&scene("quiet"), &subject).unwrap_err().to_string();
    assert!(error.contains(sentence), "{error}");
}
