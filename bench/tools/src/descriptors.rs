//! Compiles what the bench calls into a set of descriptors, as it is or with many generated routes beside it.

use std::path::{Path, PathBuf};

use mesh_bench_kit::net::Outcome;
use mesh_bench_kit::routes;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use protox::{Compiler, Error};

const ORDERS: &str = "bench/v1/orders.proto";
const ROUTES: &str = "bench/v1/routes.proto";

/// The generated file, under the name by which the compiler asks for it.
struct Generated(String);

impl FileResolver for Generated {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        if name == ROUTES {
            return File::from_source(name, &self.0);
        }
        Err(Error::file_not_found(name))
    }
}

/// Writes the set; with a number of routes, prints a path that is one of them.
pub fn write(include: &[PathBuf], routes: Option<usize>, out: &Path) -> Outcome<()> {
    let mut files = ChainFileResolver::new();
    for folder in include {
        files.add(IncludeFileResolver::new(folder.clone()));
    }
    files.add(GoogleFileResolver::new());
    if let Some(routes) = routes {
        files.add(Generated(routes::proto(routes)));
    }
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.include_imports(true);
    compiler
        .open_file(if routes.is_some() { ROUTES } else { ORDERS })
        .map_err(|error| format!("{error:?}"))?;
    // Encoded from the pool, which keeps the http annotations.
    std::fs::write(out, compiler.encode_file_descriptor_set())
        .map_err(|error| format!("{}: {error}", out.display()))?;
    if let Some(routes) = routes {
        println!("{}", routes::path(routes));
    }
    Ok(())
}
