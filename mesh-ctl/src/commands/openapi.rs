//! `openapi`: what an edge would serve, as an OpenAPI 3.1 document.

use std::sync::Arc;

use mesh_transcode::openapi::{self, About, Entry};

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output;
use crate::schemas::Origin;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: Origin,
    /// The title of the document. Default: the names of the services.
    #[arg(long)]
    title: Option<String>,
    /// The version of what is described.
    #[arg(long, default_value = "1.0.0", value_name = "VERSION")]
    api_version: String,
    /// Where it is served, such as `https://api.example.com`. May be given more than once.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let services = args
        .from
        .load(global)
        .await?
        .map_err(|faults| Failure::faults("the schemas would be refused", &faults))?;
    let names: Vec<&str> = services.iter().map(|named| named.name.as_str()).collect();
    let about = About {
        title: args.title.unwrap_or_else(|| names.join(", ")),
        version: args.api_version,
        servers: args.url,
    };
    let entries: Vec<Entry> = services
        .into_iter()
        .map(|named| Entry {
            schema: named.schema,
            unannotated: named.unannotated,
            options: named.options,
            bearer: false,
            headers: named.headers.map(Arc::new),
        })
        .collect();
    let document = openapi::document(&about, &entries);
    // A table has no place for it.
    let format = if global.output == Format::Yaml {
        Format::Yaml
    } else {
        Format::Json
    };
    output::print_value(format, &document)
}
