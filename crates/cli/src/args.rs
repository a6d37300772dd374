//! Every flag and every verb of the plugin.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Look at and steer the closed loop of a model.
///
/// The plugin acts with your own credentials and writes only what you may write: specs, Approvals and one annotation,
/// never a status.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-flywheel",
    bin_name = "kubectl flywheel",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done as asked; 1 failed or refused; 2 arguments not understood; \
                  `status` also knows 3 (ended badly or stalled) and 4 (not finished)."
)]
pub struct Arguments {
    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// Show no colours; pipes get none anyway, nor where NO_COLOR is set.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The cluster, the namespace and who you are, as for kubectl.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// Kubeconfig file; otherwise KUBECONFIG, otherwise the one in your home folder.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; otherwise its current one.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// Cluster of the kubeconfig, instead of the context's.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub cluster: Option<String>,
    /// User of the kubeconfig, instead of the context's.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub user: Option<String>,
    /// Namespace; otherwise the context's, otherwise `default`.
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// User to act as; you need the right to impersonate.
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    pub as_user: Option<String>,
    /// Group to act as; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP", help_heading = "Cluster")]
    pub as_groups: Vec<String>,
}

/// In which form something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `resource/name`, one a line.
    Name,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Output {
    /// Form of the output.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORM")]
    pub form: Form,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the loop as a tree: pipeline, runs, stages, version, rollout, Deployments and pods.
    Get(Get),
    /// Say why something waits, was refused or went back: every gate, bias verdict, check and approval with its numbers.
    Explain(Explain),
    /// Approve the decision that waits, on the evidence that is shown.
    Approve(Decide),
    /// Reject the decision that waits, on the evidence that is shown: the run ends, or the rollout goes back.
    Reject(Decide),
    /// Ask for a run of a pipeline now.
    Run(Run),
    /// Stop a run, or a rollout before it is promoted: what served before goes on serving.
    Abort(Abort),
    /// Go back to an older version, also after promotion.
    Rollback(Rollback),
    /// Take a value that someone else wrote into the target as what serves, so that rollouts go on.
    Adopt(Adopt),
    /// Walk from a version to its data, code and decisions, and from data, a run or a Deployment to versions and targets.
    Lineage(Lineage),
    /// Print the last log lines of a stage's pod, or of a rollout's candidate.
    Logs(Logs),
    /// Tell scripts how something stands, by the exit code.
    Status(Status),
    /// Names for the completion of the shell.
    #[command(hide = true, name = "__complete")]
    Complete(Complete),
    /// The reference page of the plugin, in Markdown.
    #[command(hide = true, name = "__reference")]
    Reference,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Kind and name, such as `pipeline eta` or `rollout/eta-7`; everything of the namespace if absent.
    #[arg(value_name = "KIND NAME", num_args = 0..=2)]
    pub subject: Vec<String>,
    /// Look at all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Show all runs of a pipeline, not only the unfinished, the last three and the one that serves.
    #[arg(long)]
    pub all: bool,
    /// Draw again whenever something changes.
    #[arg(short, long)]
    pub watch: bool,
    /// End watching after this time, such as `10m`.
    #[arg(long, value_name = "DURATION", requires = "watch")]
    pub timeout: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Kind and name: a pipeline, run, modelversion, rollout or biaspolicy.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Show all decisions, not only the last five.
    #[arg(long)]
    pub all: bool,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `approve` and `reject`.
#[derive(Debug, Args)]
pub struct Decide {
    /// Kind and name of what waits: a modelversion (or its run), a run, or a rollout.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Time after which the decision does not count any more, such as `24h`.
    #[arg(long, value_name = "DURATION")]
    pub expires_in: Option<String>,
    /// Decide only if the evidence still has this digest: what you looked at earlier.
    #[arg(long, value_name = "SHA256")]
    pub evidence_digest: Option<String>,
    /// Print the Approval instead of creating it, for example to put it under version control.
    #[arg(long)]
    pub dry_run: bool,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The pipeline: `pipeline NAME` or just its name.
    #[arg(value_name = "[pipeline] NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// A parameter of this run; overrides the pipeline's of the same name. May be given several times.
    #[arg(short, long = "parameter", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// Name of the run; otherwise the pipeline's name with the next number.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Then draw the run until it ends or waits for a person.
    #[arg(short, long)]
    pub watch: bool,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// Kind and name: a run or a rollout.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Kind and name: a rollout, or the deployment that serves.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Version to go back to, by a Rollout without steps; otherwise what served before.
    #[arg(long, value_name = "MODELVERSION")]
    pub to: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// The rollout that reports the drift: `rollout NAME` or just its name.
    #[arg(value_name = "[rollout] NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Adopt only if the target still carries this value.
    #[arg(long, value_name = "VALUE")]
    pub value: Option<String>,
}

/// Arguments of `lineage`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Lineage {
    /// What to do instead of showing it.
    #[command(subcommand)]
    pub verb: Option<LineageVerb>,
    /// Kind and name: a modelversion (its name alone will do), run, rollout, pipeline, deployment, or `dataset sha256:…`.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// What else can be done with lineage.
#[derive(Debug, Subcommand)]
pub enum LineageVerb {
    /// Check that the lineage of versions was neither changed nor cut: the chain of entries in each status, what spec and
    /// status say beside it, and the heads that Rollouts and later versions keep of it. Exit code 1 if something is found.
    Verify(Verify),
}

/// Arguments of `lineage verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Names of ModelVersions; all that are read if absent.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Read a file instead of the cluster, such as `kubectl get rollouts.flywheel.dev,modelversions -o json` writes it; `-`
    /// is the standard input. May be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A file of the same form that was written earlier: its chains must be how those of now begin. May be given several
    /// times.
    #[arg(long, value_name = "FILE")]
    pub earlier: Vec<PathBuf>,
    /// Look at all namespaces.
    #[arg(short = 'A', long, conflicts_with = "files")]
    pub all_namespaces: bool,
    /// Fail on notices too, such as a chain that began anew because its status was lost.
    #[arg(long)]
    pub strict: bool,
    /// Form of the output; `name` prints the versions in which something was found.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Kind and name: a run, a pipeline (its active or last run), or a rollout (its candidate's pods).
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Stage; otherwise the one that runs, failed, or ended last.
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// Attempt of the stage; otherwise the current or last one.
    #[arg(long, value_name = "NUMBER")]
    pub attempt: Option<i32>,
    /// Lines from the end.
    #[arg(long, value_name = "LINES", default_value_t = 40)]
    pub tail: i64,
    /// Go on printing while the pod writes.
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Kind and name: a pipeline, run, modelversion or rollout.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Wait until it has ended, at most this long, such as `10m`.
    #[arg(long, value_name = "DURATION")]
    pub wait: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `__complete`.
#[derive(Debug, Args)]
pub struct Complete {
    /// The words so far; the last one is incomplete.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_kubectl_may_stand_anywhere() {
        let parsed = Arguments::try_parse_from([
            "kubectl-flywheel",
            "approve",
            "--context",
            "jane",
            "rollout",
            "eta-7",
            "-n",
            "ml",
            "--as",
            "bob",
        ])
        .unwrap();
        assert_eq!(parsed.connection.namespace.as_deref(), Some("ml"));
        assert_eq!(parsed.connection.context.as_deref(), Some("jane"));
        assert_eq!(parsed.connection.as_user.as_deref(), Some("bob"));
        assert!(matches!(parsed.verb, Verb::Approve(Decide { subject, .. }) if subject == ["rollout", "eta-7"]));
    }

    #[test]
    fn lineage_is_shown_or_verified() {
        let parse = |words: &str| {
            let all = ["kubectl-flywheel", "lineage"].into_iter().chain(words.split(' '));
            Arguments::try_parse_from(all).map(|a| a.verb)
        };
        let verify = parse("verify eta-1 eta-2 -f a.yaml -f b.yaml -n ml").unwrap();
        let Verb::Lineage(Lineage {
            verb: Some(LineageVerb::Verify(verify)),
            ..
        }) = verify
        else {
            panic!("{verify:?}")
        };
        assert_eq!((verify.names.len(), verify.files.len()), (2, 2));
        // A version that is called so is shown by its kind and name.
        let shown = parse("modelversion verify").unwrap();
        assert!(
            matches!(shown, Verb::Lineage(Lineage { verb: None, subject, .. }) if subject == ["modelversion", "verify"])
        );
        assert_eq!(parse("-o yaml").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_verb_without_what_it_is_about_is_not_understood() {
        let error = Arguments::try_parse_from(["kubectl-flywheel", "approve"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
