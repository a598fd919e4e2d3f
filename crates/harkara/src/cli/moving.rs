//! `harkara move`: says which store is copied where, and what came of it.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;

use crate::config::StoreUrl;
use crate::store::{Compared, Site, Store, Sum};

const EXAMPLES: &str = "\
Examples:
  harkara move --from sqlite:harkara-data --to postgres://user:password@host/database
  harkara move --from postgres://user:password@host/database --to sqlite:/var/lib/harkara

Stop all servers of both first. The new store must be empty. A move that was stopped goes on
where it was when the same command is run again; until it has ended, no server takes the new
store. The old one stays as it is.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct MoveArguments {
    /// The store to copy: `sqlite:` and its data folder, or `postgres://user:password@host/database`.
    #[arg(long, value_name = "STORE")]
    from: Place,
    /// The store to fill, in the same words. A folder or tables that are not there are made.
    #[arg(long, value_name = "STORE")]
    to: Place,
}

/// Where a store is, as people write it.
#[derive(Clone, Debug)]
enum Place {
    Folder(PathBuf),
    Url(StoreUrl),
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(url) = StoreUrl::parse(text) {
            return Ok(Self::Url(url));
        }
        match text.strip_prefix("sqlite:") {
            Some(folder) if !folder.is_empty() => Ok(Self::Folder(folder.into())),
            _ => Err("write sqlite:FOLDER or postgres://user:password@host/database"),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "sqlite:{}", folder.display()),
            Self::Url(url) => Display::fmt(url, f),
        }
    }
}

impl Place {
    fn site(&self) -> Site {
        match self {
            Self::Folder(folder) => Site::Folder(folder.clone()),
            Self::Url(url) => Site::Postgres(url.expose().to_owned()),
        }
    }
}

pub(super) fn copy(arguments: &MoveArguments) -> anyhow::Result<ExitCode> {
    let MoveArguments { from, to } = arguments;
    let mut under_way = "";
    let compared = Store::transfer(&from.site(), &to.site(), |table, _| {
        if table != under_way {
            anstream::eprintln!("copying {table}");
            under_way = table;
        }
    });
    let compared = compared
        .map_err(|error| anyhow::Error::new(error.source))
        .with_context(|| format!("move {from} to {to}"))?;
    anstream::print!("{}", table(&compared));
    let mut differing = compared.iter().filter(|one| !one.is_equal()).peekable();
    if differing.peek().is_some() {
        for one in differing {
            let (there, here) = (&one.source, &one.target);
            anstream::eprintln!(
                "harkara: failed to move {from} to {to}: {} is not the same there: {} rows and {}, not \
                 {} and {}; empty the new store and move again",
                one.table,
                here.rows,
                here.hash,
                there.rows,
                there.hash
            );
        }
        return Ok(ExitCode::FAILURE);
    }
    anstream::println!();
    anstream::println!("{to} has all of {from}, which is unchanged: do not serve both.");
    anstream::println!(
        "The key ring is not part of a store: servers of the new one need the file vault.keys of the old \
         one in their data folder."
    );
    Ok(ExitCode::SUCCESS)
}

/// What the source holds, which is what the target holds unless something else is said.
fn table(compared: &[Compared]) -> String {
    let heading = format!("{:<20} {:>12}  hash\n", "table", "rows");
    let rows = compared.iter().map(|one| {
        let Sum { rows, hash } = &one.source;
        format!("{:<20} {rows:>12}  {hash}\n", one.table)
    });
    heading + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_people_write_them() {
        let read = |text: &str| match text.parse::<Place>() {
            Ok(place) => place.to_string(),
            Err(error) => error.to_owned(),
        };
        let all = [
            "sqlite:harkara-data",
            "sqlite:/var/lib/harkara",
            "postgres://user:secret@host/database",
            "harkara-data",
            "sqlite:",
        ];
        insta::assert_snapshot!(all.map(read).join("\n"), @r"
        sqlite:harkara-data
        sqlite:/var/lib/harkara
        postgres://***@host/database
        write sqlite:FOLDER or postgres://user:password@host/database
        write sqlite:FOLDER or postgres://user:password@host/database
        ");
    }
}
