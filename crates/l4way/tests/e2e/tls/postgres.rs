//! PostgreSQL's server and clients.

use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use super::{
    super::l4way::{own_address, wait_for},
    authority::{Authority, Pair},
    daemon::{Daemon, Said, User, client},
    setting::{Running, Setting},
};

/// psycopg with a libpq of 17 or later, which speaks direct TLS, unlike Debian's.
const PSYCOPG: &str = "psycopg[binary]==3.3.9";

/// The folder of the newest server's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("`make setup` installs postgresql");
    let paths = versions.map(|version| version.expect("an entry").path().join("bin"));
    paths.filter(|path| path.join("postgres").exists()).max().expect("a server")
}

/// A server that calls itself `name`, and takes TLS too if it has a certificate.
fn server(name: &str, pair: Option<&Pair>) -> Daemon {
    let user = User::named("postgres");
    let folder = tempfile::tempdir().expect("a temporary folder");
    user.own(folder.path());
    let data = folder.path().join("data");
    let mut initdb = user.command(programs().join("initdb"));
    initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"]).arg(&data);
    let made = initdb.output().expect("initdb");
    assert!(made.status.success(), "{made:?}");
    let hosts = data.join("pg_hba.conf");
    let allowed = fs::read_to_string(&hosts).expect("who may connect");
    fs::write(&hosts, allowed + "host all all 127.0.0.0/8 trust\n").expect("more may connect");

    let ip = own_address().to_string();
    let mut command = user.command(programs().join("postgres"));
    command.arg("-D").arg(&data).args(["-h", &ip, "-k", "", "-F"]);
    command.args(["-c", &format!("cluster_name={name}")]);
    if let Some(pair) = pair {
        let (certificate, key) = pair.write(folder.path(), name);
        // The server reads its key only if nobody else can.
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a key of one's own");
        user.own(&key);
        command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={certificate}")]);
        command.args(["-c", &format!("ssl_key_file={key}")]);
    }
    let address = format!("{ip}:5432").parse().expect("an address");
    let daemon = Daemon::start(folder, address, &mut command);
    // It takes connections before it takes sessions.
    wait_for("PostgreSQL", || client("pg_isready", &["-h", &ip], b"").ok.then_some(()));
    daemon
}

/// Which server it is, and whether it sees TLS.
const WHO: &str =
    "select current_setting('cluster_name'), ssl from pg_stat_ssl where pid = pg_backend_pid()";

/// What a client is told that doesn't ask for TLS.
const HINT: &str = "l4way: this port speaks TLS only: use sslmode=require or verify-full";

/// Asks by psql; the connection string is that for `to`, and `more`.
fn psql(to: &Running, more: &str, query: &str) -> Said {
    let target = format!("hostaddr={} port=5432 user=postgres dbname=postgres {more}", to.ip);
    client("psql", &["--no-psqlrc", "-A", "-t", "-c", query, &target], b"")
}

#[test]
fn psql_gets_through_to_two_servers_on_one_port() {
    let authority = Authority::new("ours");
    let [a, b] =
        ["a", "b"].map(|name| server(name, Some(&authority.sign(&format!("{name}.test")))));
    let listener = |name| {
        format!(
            "name: {name}, protocol: TLS, port: 5432, hostname: {name}.test, \
             tls: {{mode: Passthrough}}"
        )
    };
    let running = Setting::default()
        .listener(&listener("a"))
        .route("TLSRoute", "a", "a.test", a.address)
        .listener(&listener("b"))
        .route("TLSRoute", "b", "b.test", b.address)
        .run(&[]);
    let ca = authority.file();
    for name in ["a", "b"] {
        for mode in ["require".to_owned(), format!("verify-full sslrootcert={ca}")] {
            let said = psql(&running, &format!("host={name}.test sslmode={mode}"), WHO);
            assert_eq!(said.good(), format!("{name}|t"));
        }
    }
    let said = psql(&running, "host=c.test sslmode=require", WHO).bad();
    assert!(said.contains("unrecognized name"), "{said}");
    let said = psql(&running, "host=a.test sslmode=disable", WHO).bad();
    assert!(said.contains(HINT), "{said}");
}

#[test]
fn psql_is_ended_in_front_of_a_plain_server() {
    let authority = Authority::new("ours");
    let plain = server("plain", None);
    let address = own_address();
    let running = Setting::default()
        .secret("a", &authority.sign("a.test"))
        .secret("ip", &authority.sign(&address.to_string()))
        .listener(
            "name: named, protocol: TLS, port: 5432, hostname: a.test, \
             tls: {certificateRefs: [{name: a}]}",
        )
        .route("TLSRoute", "named", "a.test", plain.address)
        .listener("name: any, protocol: TLS, port: 5432, tls: {certificateRefs: [{name: ip}]}")
        .route("TCPRoute", "any", "", plain.address)
        .run_on(address, &[]);
    let ca = authority.file();
    for host in ["a.test", &running.ip] {
        for mode in ["require".to_owned(), format!("verify-full sslrootcert={ca}")] {
            let said = psql(&running, &format!("host={host} sslmode={mode}"), WHO);
            assert_eq!(said.good(), "plain|f");
        }
    }
    for listener in ["named", "any"] {
        let label = format!("listener=\"{listener}\"");
        running.counts("l4way_tls_handshakes_total", &[&label], 2);
    }
    let said = psql(&running, "host=a.test sslmode=disable", WHO).bad();
    assert!(said.contains(HINT), "{said}");

    let rows = "copy (select i, md5(i::text) from generate_series(1, 500000) i) to stdout";
    let through = psql(&running, "host=a.test sslmode=require", rows);
    let around = client(
        "psql",
        &["--no-psqlrc", "-c", rows, "-h", &plain.ip(), "-U", "postgres", "postgres"],
        b"",
    );
    assert!(around.ok && around.stdout.len() > 15_000_000, "{}", around.stderr);
    assert!(through.stdout == around.stdout, "what came through differs");
}

#[test]
fn direct_tls_is_ended_as_any_tls() {
    let authority = Authority::new("ours");
    let plain = server("plain", None);
    let running = Setting::default()
        .secret("a", &authority.sign("a.test"))
        .listener(
            "name: tls, protocol: TLS, port: 5432, hostname: a.test, \
             tls: {certificateRefs: [{name: a}]}",
        )
        .route("TLSRoute", "tls", "a.test", plain.address)
        .run(&[]);
    let python = python_with_psycopg();
    for negotiation in ["direct", "postgres"] {
        let program = format!(
            "import psycopg\nassert psycopg.pq.version() >= 170000\nprint(*psycopg.connect(\
             'host=a.test hostaddr={} user=postgres dbname=postgres sslmode=verify-full \
             sslrootcert={} sslnegotiation={negotiation}').execute(\"{WHO}\").fetchone())",
            running.ip,
            authority.file()
        );
        assert_eq!(client(&python, &["-c", &program], b"").good(), "plain False");
    }
}

/// A Python that has psycopg, in the cache of `make`, or else beside what cargo builds.
fn python_with_psycopg() -> String {
    let cache = env::var("CACHE").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let venv = PathBuf::from(cache).join("psycopg");
    let python = venv.join("bin/python");
    let run = |command: &mut Command| {
        let output = command.output().expect("`make setup` installs python3-venv");
        assert!(output.status.success(), "{command:?}: {output:?}");
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PSYCOPG]));
    python.into_os_string().into_string().expect("UTF-8")
}
