//! `validate`: the very judgement of `apply`, xds-lite and the sidecar, without any of them.

use mesh_proto::Faults;
use serde_json::json;

use crate::cli::{Format, Global};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::sources::{self, Files};
use crate::words::count;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let judged = sources::load(&args.files.files)?;
    if global.output != Format::Table {
        return print_value(global.output, judged);
    }
    let documents = judged.map_err(|faults| Failure::faults("the documents would be refused", &faults))?;
    let mut table = output::table(&["KIND", "NAME", "FROM"]);
    for loaded in &documents {
        table.add_row([
            output::cell(loaded.resource.kind().as_str()),
            output::cell(loaded.resource.name()),
            output::cell(&loaded.origin),
        ]);
    }
    output::print_table(&table)?;
    output::note(&format!("{}, no fault", count(documents.len(), "document")));
    Ok(())
}

fn print_value(
    format: Format,
    judged: Result<Vec<mesh_proto::document::Loaded>, Faults>,
) -> Result<(), Failure> {
    match judged {
        Ok(documents) => {
            let listed: Vec<_> = documents
                .iter()
                .map(|l| json!({"kind": l.resource.kind().as_str(), "name": l.resource.name(), "from": l.origin}))
                .collect();
            output::print_value(format, &json!({"valid": true, "documents": listed, "faults": []}))
        }
        Err(faults) => {
            let listed: Vec<_> = faults
                .0
                .iter()
                .map(|fault| json!({"place": fault.place.trim_end_matches(':'), "message": fault.message}))
                .collect();
            output::print_value(format, &json!({"valid": false, "faults": listed}))?;
            Err(Failure::silent(Exit::Refused))
        }
    }
}
