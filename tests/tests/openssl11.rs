//! OpenSSL 1.1, which older hosts and many packages bring: client and server of PostgreSQL over its own copy.

use anyhow::{Context, Result};
use custody_tests::openssl11::Package;
use custody_tests::process::output;
use custody_tests::servers::Postgres;
use custody_tests::stand::{Stand, field};

/// Sessions, each a connection of its own.
const SESSIONS: usize = 5;

#[test]
fn both_ends_of_openssl_1_1_are_read() -> Result<()> {
    let servers = custody_tests::stand::folder()?;
    let Some(package) = Package::install(servers.path())? else { return Ok(()) };
    let cluster = servers.path().join("cluster");
    std::fs::create_dir(&cluster)?;
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    // The agent is there first: the library is one that no package installed, found when a program maps it.
    stand.start_agent()?;
    let postgres = Postgres::start_of(&cluster, &package.programs())?;
    let psql = |libraries: bool, statement: &str| {
        let mut psql = postgres.psql(true);
        // The shell that psql starts says which library psql itself has mapped.
        let mapped = r"\! grep -c 'libssl\.so\.1\.1' /proc/$PPID/maps";
        psql.env("PGAPPNAME", "openssl11");
        psql.args(["-c", "SELECT pg_sleep(0.1)", "-c", statement, "-c", mapped]);
        if libraries {
            psql.env("LD_LIBRARY_PATH", package.libraries());
        }
        output(&mut psql)
    };
    for number in 0..SESSIONS {
        let said = psql(true, &format!("SELECT {number} AS both_ends_1_1"))?;
        assert!(said.lines().last().is_some_and(|maps| maps != "0"), "psql has another OpenSSL: {said}");
        psql(false, &format!("SELECT {number} AS server_1_1"))?;
    }
    for name in ["both_ends_1_1", "server_1_1"] {
        let filter = format!("server.port = {} and db.query.text =~ \"{name}$\"", postgres.port);
        let records = stand.wait_records(&filter, SESSIONS)?;
        let texts: Vec<_> = records.iter().map(|record| field(record, "db.query.text").clone()).collect();
        let said: Vec<String> = (0..SESSIONS).map(|number| format!("SELECT {number} AS {name}")).collect();
        assert_eq!(texts, said, "each exactly once");
        for record in &records {
            assert_eq!(field(record, "custody.tls"), "tls", "{record}");
            assert_eq!(field(record, "db.response.returned_rows"), 1, "{record}");
            assert_eq!(field(record, "custody.outcome"), "ok", "{record}");
            assert!(matches!(field(record, "custody.binding").as_str(), Some("fd" | "nested")), "{record}");
        }
    }
    let probes = stand.status()?["probes"].clone();
    let library = package.libraries().join("libssl.so.1.1").display().to_string();
    let probed = probes.as_array().context("probes")?.iter().find(|probe| {
        probe["name"].as_str().is_some_and(|name| name.contains(&library)) && probe["state"] == "attached"
    });
    assert!(probed.is_some(), "{library} is not among {probes:#}");
    Ok(())
}
