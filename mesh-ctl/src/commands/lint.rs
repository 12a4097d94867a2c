//! `lint`: HTTP rules in each other's way, before anybody calls.

use mesh_proto::Faults;
use mesh_transcode::lint::{self, Finding, Level, Named, Report};
use serde_json::{Value, json};

use crate::cli::{Format, Global};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::schemas::Origin;
use crate::words::count;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: Origin,
    /// Warnings are errors too.
    #[arg(long)]
    strict: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let services = match args.from.load(global).await? {
        Ok(services) => services,
        Err(faults) => return refused(global.output, &faults),
    };
    let entries: Vec<_> = services
        .into_iter()
        .map(|named| (named.name, named.schema, named.unannotated))
        .collect();
    let report = lint::lint(&entries);
    let worst = if args.strict { Level::Warning } else { Level::Error };
    let bad = report.findings.iter().any(|finding| finding.level <= worst);
    if global.output == Format::Table {
        print_table(&report, entries.len())?;
    } else {
        output::print_value(global.output, &value(&report, entries.len()))?;
    }
    if bad {
        Err(Failure::silent(Exit::Refused))
    } else {
        Ok(())
    }
}

/// What does not compile cannot be looked at further: its faults are the findings.
fn refused(format: Format, faults: &Faults) -> Result<(), Failure> {
    if format == Format::Table {
        return Err(Failure::faults("the schemas would be refused", faults));
    }
    let findings: Vec<Value> = faults
        .0
        .iter()
        .map(|fault| {
            let place = fault.place.trim_end_matches(':');
            json!({"level": "error", "what": "refused", "place": place, "message": fault.message})
        })
        .collect();
    output::print_value(format, &json!({"findings": findings, "more": 0}))?;
    Err(Failure::silent(Exit::Refused))
}

fn print_table(report: &Report<String>, services: usize) -> Result<(), Failure> {
    if !report.findings.is_empty() {
        let mut table = output::table(&["LEVEL", "WHAT", "RULE", "BY", "WHY"]);
        for finding in &report.findings {
            let level = match finding.level {
                Level::Error => output::bad("error"),
                Level::Warning => output::warn("warning"),
                Level::Info => output::cell("info"),
            };
            table.add_row([
                level,
                output::cell(finding.what.word()),
                output::cell(shown(&finding.rule)),
                output::cell(finding.by.as_ref().map(shown).unwrap_or_default()),
                output::cell(&finding.message),
            ]);
        }
        output::print_table(&table)?;
    }
    let more = match report.more {
        0 => String::new(),
        more => format!(", and {more} more findings"),
    };
    let of = |level: Level| {
        report
            .findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    output::note(&format!(
        "{} of {}: {}, {}, {}{more}",
        count(report.rules, "rule"),
        count(services, "service"),
        count(of(Level::Error), "error"),
        count(of(Level::Warning), "warning"),
        count(of(Level::Info), "note"),
    ));
    Ok(())
}

fn shown(named: &Named<String>) -> String {
    format!("{} ({} of {})", named.rule, named.rpc, named.target)
}

fn value(report: &Report<String>, services: usize) -> Value {
    let rule = |named: &Named<String>| json!({"service": named.target, "rpc": named.rpc, "rule": named.rule});
    let finding = |finding: &Finding<String>| {
        json!({
            "level": finding.level.word(),
            "what": finding.what.word(),
            "rule": rule(&finding.rule),
            "by": finding.by.as_ref().map(rule),
            "message": finding.message,
        })
    };
    json!({
        "services": services,
        "rules": report.rules,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "more": report.more,
    })
}
